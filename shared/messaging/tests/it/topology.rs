//! The topology is asserted: what is missing is declared, what differs is refused.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use lapin::{
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use orderfleet_domain::saga::Lane;
use orderfleet_messaging::{ConnectError, Observer, Publisher};
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::support::{DEADLINE, Fleet, subscription, to_lane, whole_chain};

struct Nobody;

impl Observer for Nobody {
    fn subscribed(&self) {}
    fn lost(&self, _why: &str) {}
    fn alive(&self) {}
}

#[tokio::test]
async fn a_second_assertion_of_the_topology_changes_nothing() {
    let fleet = Fleet::new().await;
    let first = fleet.publisher().await;
    first.publish(&to_lane(Lane::Retry, "before")).await.unwrap();

    let second = fleet.publisher().await;
    let queue = fleet.queue(&Lane::Retry);
    fleet.until_ready(&queue, 1).await;
    second.publish(&to_lane(Lane::Retry, "after")).await.unwrap();
    assert_eq!(fleet.take(&queue).await.delivery.data, b"before");
    assert_eq!(fleet.take(&queue).await.delivery.data, b"after");
    fleet.until_ready(&queue, 0).await;
}

#[tokio::test]
async fn a_queue_of_another_type_is_refused_by_name() {
    let fleet = Fleet::new().await;
    declare_retry(&fleet, FieldTable::default()).await;
    // Of a classic queue all arguments differ; which one the broker names is its choice.
    refused_naming(&fleet, "inequivalent arg 'x-").await;
}

#[tokio::test]
async fn a_queue_with_another_delivery_limit_is_refused_by_name() {
    let fleet = Fleet::new().await;
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut arguments = FieldTable::default();
    for (argument, value) in [
        ("x-queue-type", text("quorum")),
        ("x-overflow", text("reject-publish")),
        ("x-delivery-limit", AMQPValue::LongLongInt(7)),
        ("x-dead-letter-exchange", text(&format!("{}orders.dlx", fleet.settings.prefix))),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-dead-letter-routing-key", text("quarantine")),
    ] {
        arguments.insert(argument.into(), value);
    }
    declare_retry(&fleet, arguments).await;
    refused_naming(&fleet, "inequivalent arg 'x-delivery-limit'").await;
}

#[tokio::test]
async fn whoever_must_not_declare_waits_until_somebody_has_and_makes_nothing() {
    let mut fleet = Fleet::new().await;
    fleet.settings.declare = false;
    let (settings, topology) = (fleet.settings.clone(), fleet.topology());
    let waiting = tokio::spawn(async move { Publisher::connect(&settings, topology, "test").await });
    let consumer = fleet.consumer(vec![subscription(Lane::Retry, 1, 1)]);
    let lost = Lost::default();
    let stop = CancellationToken::new();
    let told = lost.0.clone();
    let consuming = consumer.run(&lost, stop.clone(), |_| std::future::ready(()));
    let declaring = async {
        // By now somebody has looked, and gone without.
        told.notified().await;
        assert!(!waiting.is_finished());
        fleet.settings.declare = true;
        let declared = fleet.publisher().await;
        let found = timeout(DEADLINE, waiting).await.unwrap().unwrap().unwrap();
        found.publish(&to_lane(Lane::Retry, "found")).await.unwrap();
        stop.cancel();
        drop(declared);
    };
    let (consumed, ()) = timeout(DEADLINE, async { tokio::join!(consuming, declaring) }).await.unwrap();
    consumed.unwrap();
}

#[tokio::test]
async fn a_queue_that_is_gone_since_another_connection_asserted_it_is_declared_again() {
    let fleet = Fleet::new().await;
    let topology = fleet.topology();
    let publisher = Publisher::connect(&fleet.settings, topology.clone(), "test").await.unwrap();
    let queue = fleet.queue(&Lane::Retry);
    let deleted = QueueDeleteOptions::default();
    fleet.channel().await.queue_delete(queue.as_str().into(), deleted).await.unwrap();

    let mut consumer = fleet.consumer(vec![subscription(Lane::Retry, 1, 1)]);
    consumer.topology = topology;
    let (seen, taken, stop) = (Seen::default(), Arc::<Notify>::default(), CancellationToken::new());
    let handled = Arc::clone(&taken);
    let consuming = consumer.run(&seen, stop.clone(), move |delivery| {
        delivery.ack();
        handled.notify_one();
        std::future::ready(())
    });
    let looking = async {
        seen.subscribed.notified().await;
        publisher.publish(&to_lane(Lane::Retry, "an order")).await.unwrap();
        taken.notified().await;
        stop.cancel();
    };
    let (consumed, ()) = timeout(DEADLINE, async { tokio::join!(consuming, looking) }).await.unwrap();
    consumed.unwrap();
    assert_eq!(seen.lost.load(Ordering::Relaxed), 1, "the first connection relied on the publisher's");
}

/// What a consumer has told.
#[derive(Default)]
struct Seen {
    subscribed: Notify,
    lost: AtomicU32,
}

impl Observer for Seen {
    fn subscribed(&self) {
        self.subscribed.notify_one();
    }
    fn lost(&self, why: &str) {
        assert!(why.contains("no queue"), "{why}");
        self.lost.fetch_add(1, Ordering::Relaxed);
    }
    fn alive(&self) {}
}

/// Tells that a consumer has failed to connect.
#[derive(Default)]
struct Lost(Arc<Notify>);

impl Observer for Lost {
    fn subscribed(&self) {}
    fn lost(&self, why: &str) {
        assert!(why.contains("orderfleet topology apply"), "{why}");
        self.0.notify_one();
    }
    fn alive(&self) {}
}

async fn declare_retry(fleet: &Fleet, arguments: FieldTable) {
    let queue = fleet.queue(&Lane::Retry);
    let channel = fleet.channel().await;
    channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
}

/// Publisher and consumer give up and name the queue and the argument.
async fn refused_naming(fleet: &Fleet, argument: &str) {
    let publisher = timeout(DEADLINE, Publisher::connect(&fleet.settings, fleet.topology(), "test")).await;
    let consumer = fleet.consumer(vec![subscription(Lane::Retry, 1, 1)]);
    let run = consumer.run(&Nobody, CancellationToken::new(), |_| std::future::ready(()));
    let consumer = timeout(DEADLINE, run).await;

    for error in [publisher.unwrap().unwrap_err(), consumer.unwrap().unwrap_err()] {
        assert!(matches!(error, ConnectError::Topology(_)), "{error:?}");
        assert!(!error.is_transient());
        let text = whole_chain(&error);
        assert!(text.contains(&fleet.queue(&Lane::Retry)) && text.contains(argument), "{text}");
    }
}
