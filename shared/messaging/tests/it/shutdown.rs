//! Shutting down: what was started is finished, what was not goes back, and nothing is lost.

use std::sync::Arc;

use orderfleet_domain::saga::Lane;
use tokio::sync::Notify;

use crate::support::{Fleet, Running, subscription, to_lane};

/// Five messages in hand, of which one permit lets one start.
#[tokio::test]
async fn a_started_handler_is_waited_for_and_the_rest_goes_back() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    for body in ["1", "2", "3", "4", "5"] {
        publisher.publish(&to_lane(Lane::Retry, body)).await.unwrap();
    }
    let (started, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let consumer = fleet.consumer(vec![subscription(Lane::Retry, 5, 1)]);
    let running = Running::start_with(consumer, {
        let (started, finish) = (Arc::clone(&started), Arc::clone(&finish));
        move |delivery| {
            let (started, finish) = (Arc::clone(&started), Arc::clone(&finish));
            async move {
                started.notify_one();
                finish.notified().await;
                delivery.ack().await;
            }
        }
    })
    .await;
    started.notified().await;
    let queue = fleet.queue(&Lane::Retry);
    fleet.until_ready(&queue, 0).await;

    running.begin_shutdown();
    fleet.until_ready(&queue, 4).await;
    assert!(!running.has_ended(), "a handler is at work");
    finish.notify_one();
    running.shut_down().await.unwrap();
    fleet.until_ready(&queue, 4).await;
}

#[tokio::test]
async fn a_consumer_of_several_idle_queues_ends_at_once() {
    let fleet = Fleet::new().await;
    let lanes = [Lane::New(0), Lane::Retry, Lane::Replay];
    let subscriptions = lanes.map(|lane| subscription(lane, 1, 1)).to_vec();
    Running::start(fleet.consumer(subscriptions)).await.shut_down().await.unwrap();
}
