//! Outages, each on a broker of its own: publisher and consumer heal by themselves, and nothing is claimed that is not so.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use lapin::types::AMQPValue;
use orderfleet_domain::saga::Lane;
use orderfleet_messaging::{Observer, PublishError, Publisher};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::support::{DEADLINE, OwnBroker, eventually, subscription, text, to_lane};

#[tokio::test]
async fn unacked_messages_come_again_after_the_broker_has_closed_all_connections() {
    let OwnBroker { server, fleet, .. } = &OwnBroker::start().await;
    let publisher = fleet.publisher().await;
    let mut consumer = fleet.consume(Lane::Retry, 2).await;
    for body in ["1", "2"] {
        publisher.publish(&to_lane(Lane::Retry, body)).await.unwrap();
    }
    let (first, second) = (consumer.next().await, consumer.next().await);

    server.rabbitmqctl(&["close_all_connections", "a test"]).await.unwrap();
    consumer.until_subscribed(2).await;
    let (again_first, again_second) = (consumer.next().await, consumer.next().await);
    assert!(again_first.redelivered && again_second.redelivered);
    assert_eq!([text(&again_first), text(&again_second)], [text(&first), text(&second)]);

    // An ack on the lost channel has no effect; it must not hit a delivery of the new one either.
    first.ack();
    again_second.ack();
    publish_until_confirmed(&publisher, "3").await;
    let third = consumer.next().await;
    assert!(text(&third) == "3" && !third.redelivered);
    third.ack();
    consumer.shut_down().await.unwrap();
}

#[tokio::test]
async fn publishers_and_consumers_survive_a_crash_of_the_broker_and_start_while_it_is_down() {
    let OwnBroker { server, fleet, .. } = &mut OwnBroker::start().await;
    let publisher = fleet.publisher().await;
    let mut consumer = fleet.consume(Lane::Retry, 1).await;
    publisher.publish(&to_lane(Lane::Replay, "confirmed before")).await.unwrap();

    server.kill().await.unwrap();
    publisher.publish(&to_lane(Lane::Retry, "down")).await.unwrap_err();
    publisher.check().await.unwrap_err();
    let lane = Lane::New(0);
    let (restarted, _, newcomer) = tokio::join!(server.restart(), fleet.publisher(), fleet.consume(lane, 1));
    restarted.unwrap();
    newcomer.shut_down().await.unwrap();

    consumer.until_subscribed(2).await;
    publish_until_confirmed(&publisher, "after").await;
    let delivery = consumer.next().await;
    assert_eq!(text(&delivery), "after");
    delivery.ack();
    consumer.shut_down().await.unwrap();
    eventually("what was confirmed before the crash", async || {
        (publisher.depth(&Lane::Replay).await.ok() == Some(1)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_memory_alarm_blocks_publishing_and_nothing_else() {
    let OwnBroker { server, fleet, .. } = &mut OwnBroker::start().await;
    fleet.settings.confirm_timeout_ms = 1_000;
    let publisher = fleet.publisher().await;
    let mut consumer = fleet.consume(Lane::Retry, 1).await;
    for body in ["1", "2"] {
        publisher.publish(&to_lane(Lane::Retry, body)).await.unwrap();
    }

    server.rabbitmqctl(&["set_vm_memory_high_watermark", "0.0001"]).await.unwrap();
    eventually("the alarm", async || {
        let begun = Instant::now();
        let result = publisher.publish(&to_lane(Lane::Replay, "may come late")).await;
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
        match result {
            Ok(()) => None,
            Err(PublishError::NotSent(_) | PublishError::Unknown(_)) => publisher.is_blocked().then_some(()),
            Err(other) => panic!("{other:?}"),
        }
    })
    .await;
    for body in ["1", "2"] {
        let delivery = consumer.next().await;
        assert_eq!(text(&delivery), body);
        delivery.ack();
    }
    consumer.shut_down().await.unwrap();
    assert_eq!(fleet.ready(&fleet.queue(&Lane::Retry)).await, 0, "both acks took effect");

    server.rabbitmqctl(&["set_vm_memory_high_watermark", "0.9"]).await.unwrap();
    publish_until_confirmed(&publisher, "after").await;
    publisher.check().await.unwrap();
    assert!(!publisher.is_blocked());
}

#[tokio::test]
async fn a_publisher_whose_connections_were_closed_declares_anew_what_is_gone() {
    let OwnBroker { server, fleet, .. } = &mut OwnBroker::start().await;
    fleet.settings.publish_connections = 1;
    let publisher = fleet.publisher().await;
    let queue = fleet.queue(&Lane::Retry);
    fleet.channel().await.queue_delete(queue.as_str().into(), <_>::default()).await.unwrap();
    publisher.publish(&to_lane(Lane::Retry, "into the void")).await.unwrap_err();
    server.rabbitmqctl(&["close_all_connections", "a test"]).await.unwrap();
    publish_until_confirmed(&publisher, "kept").await;
}

/// Ends a consumer that has lost its subscriptions so often.
struct Losses {
    left: AtomicU32,
    stop: CancellationToken,
}

impl Observer for Losses {
    fn subscribed(&self) {}
    fn lost(&self, why: &str) {
        assert!(why.contains("ACCESS_REFUSED"), "{why}");
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.stop.cancel();
        }
    }
    fn alive(&self) {}
}

/// As when one queue has no leader: subscribing to the others must not wear out what they hold.
#[tokio::test]
async fn a_queue_that_cannot_be_subscribed_charges_the_messages_of_others_one_delivery_at_most() {
    const TRIES: u32 = 5;
    let OwnBroker { server, fleet, .. } = &mut OwnBroker::start().await;
    fleet.publisher().await.publish(&to_lane(Lane::Replay, "an order")).await.unwrap();
    let may_read_all_but_one = format!("^(?!{}$).*", fleet.queue(&Lane::Retry));
    server.rabbitmqctl(&["add_user", "reader", "secret"]).await.unwrap();
    server.rabbitmqctl(&["set_permissions", "reader", "", ".*", &may_read_all_but_one]).await.unwrap();
    fleet.settings.url = fleet.settings.url.replace("guest:guest", "reader:secret");
    fleet.settings.declare = false;

    let lanes = [Lane::Replay, Lane::Retry];
    let consumer = fleet.consumer(lanes.map(|lane| subscription(lane, 1, 1)).into());
    let losses = Losses { left: AtomicU32::new(TRIES), stop: CancellationToken::new() };
    let unacked = consumer.run(&losses, losses.stop.clone(), |_| std::future::ready(()));
    timeout(DEADLINE, unacked).await.unwrap().unwrap();

    let message = fleet.take(&fleet.queue(&Lane::Replay)).await.delivery;
    let headers = message.properties.headers().as_ref().unwrap();
    let charged = headers.inner().get("x-delivery-count").and_then(AMQPValue::as_long_long_int);
    assert!(charged.unwrap_or(0) <= 1, "{charged:?} deliveries for {TRIES} tries");
}

async fn publish_until_confirmed(publisher: &Publisher, body: &str) {
    eventually("a confirm", async || publisher.publish(&to_lane(Lane::Retry, body)).await.ok()).await;
}
