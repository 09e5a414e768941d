//! Shutting down: what was started is finished, what was not goes back, and nothing is lost.

use std::sync::Arc;

use orderfleet_domain::saga::Lane;
use orderfleet_messaging::{Consumer, Control, Delivery, Subscription};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
};

use crate::support::{Fleet, Running, publish_in_time, subscription, to_lane};

/// A handler that starts, waits to be told, and acks.
#[derive(Clone, Default)]
struct Slow {
    started: Arc<Notify>,
    finish: Arc<Notify>,
}

impl Slow {
    async fn handle(self, delivery: Delivery) {
        self.started.notify_one();
        self.finish.notified().await;
        delivery.ack();
    }

    /// Runs a consumer with this handler until it has started on a first delivery.
    async fn run(&self, consumer: Consumer) -> Running {
        let slow = self.clone();
        let running = Running::start_with(consumer, move |delivery| slow.clone().handle(delivery)).await;
        self.started.notified().await;
        running
    }
}

/// Five messages in hand, of which one permit lets one start.
#[tokio::test]
async fn a_started_handler_is_waited_for_and_the_rest_goes_back() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    for body in ["1", "2", "3", "4", "5"] {
        publisher.publish(&to_lane(Lane::Retry, body)).await.unwrap();
    }
    let slow = Slow::default();
    let running = slow.run(fleet.consumer(vec![subscription(Lane::Retry, 5, 1)])).await;
    let queue = fleet.queue(&Lane::Retry);
    fleet.until_ready(&queue, 0).await;

    running.begin_shutdown();
    fleet.until_ready(&queue, 4).await;
    assert!(!running.has_ended(), "a handler is at work");
    slow.finish.notify_one();
    running.shut_down().await.unwrap();
    fleet.until_ready(&queue, 4).await;
}

/// Also from the last of several queues, and while a handler is at work: others could work on it meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_arrives_while_subscriptions_are_cancelled_goes_back_at_once() {
    const COUNT: u32 = 100;
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    publisher.publish(&to_lane(Lane::New(0), "at work")).await.unwrap();
    let slow = Slow::default();
    let lanes = [Lane::New(0), Lane::Replay, Lane::Quarantine, Lane::Retry];
    let permits = Arc::new(Semaphore::new(1));
    let subscribe = |lane| {
        let (permits, control) = (Arc::clone(&permits), Control::default());
        Subscription { lane, prefetch: 200, permits, control }
    };
    let subscriptions = lanes.map(subscribe).to_vec();
    let running = slow.run(fleet.consumer(subscriptions)).await;

    let publishing: JoinSet<_> = (0..COUNT)
        .map(|number| {
            let publisher = publisher.clone();
            async move {
                publish_in_time(&publisher, &to_lane(Lane::Retry, &number.to_string())).await.unwrap();
            }
        })
        .collect();
    running.begin_shutdown();
    publishing.join_all().await;
    fleet.until_ready(&fleet.queue(&Lane::Retry), COUNT).await;
    assert!(!running.has_ended(), "a handler is at work");
    slow.finish.notify_one();
    running.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_consumer_of_several_idle_queues_ends_at_once() {
    let fleet = Fleet::new().await;
    let lanes = [Lane::New(0), Lane::Retry, Lane::Replay];
    let subscriptions = lanes.map(|lane| subscription(lane, 1, 1)).to_vec();
    Running::start(fleet.consumer(subscriptions)).await.shut_down().await.unwrap();
}
