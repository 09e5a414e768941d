//! Waiting tiers: a copy comes back into its own lane, after its time, without the broker's traces.

use std::time::{Duration, Instant};

use orderfleet_domain::saga::{DeadLetterQueue, Lane, Tier};
use orderfleet_messaging::{Destination, Headers};

use crate::support::{Fleet, inventory, outgoing, text};

#[tokio::test]
async fn a_copy_comes_back_into_its_lane_after_its_tier() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    let lane = Lane::Compensate(inventory());
    let mut message = outgoing(Destination::Wait(Tier::S1, lane.clone()), "a copy");
    message.headers = Headers::new("compensate").message_id("m-1").traceparent(Some("00-trace-span-01"));

    let mut consumer = fleet.consume(Lane::Compensate("any".parse().unwrap()), 1).await;
    // Twice: what comes back must be fit to wait again, for which it may carry nothing of its first wait.
    for _ in 0..2 {
        let begun = Instant::now();
        publisher.publish(&message).await.unwrap();
        let delivery = consumer.next().await;
        let waited = begun.elapsed();
        assert!(waited >= Duration::from_millis(900), "{waited:?}");
        assert_eq!((text(&delivery).as_str(), &delivery.lane), ("a copy", &lane));
        assert!(!delivery.redelivered);
        assert_eq!(delivery.headers, message.headers);
        assert_eq!(delivery.all_headers, message.headers, "also no x-death and its kin");
        message.headers = delivery.all_headers.clone();
        delivery.ack();
    }
    consumer.shut_down().await.unwrap();
}

#[tokio::test]
async fn every_lane_is_kept_over_a_wait() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    let lanes = [Lane::New(0), Lane::Retry, Lane::Replay, Lane::Quarantine];
    for lane in &lanes {
        let body = format!("{lane:?}");
        publisher.publish(&outgoing(Destination::Wait(Tier::S1, lane.clone()), &body)).await.unwrap();
    }
    for lane in &lanes {
        let message = fleet.take(&fleet.queue(lane)).await.delivery;
        assert_eq!(message.data, format!("{lane:?}").as_bytes());
        let headers = message.properties.headers().as_ref().unwrap();
        assert!(headers.inner().contains_key("x-death"), "this one did wait: {headers:?}");
    }
}

#[tokio::test]
async fn a_dead_letter_comes_back_into_its_queue_after_its_tier() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    let queue = DeadLetterQueue::Poison;
    publisher.publish(&outgoing(Destination::WaitDead(Tier::S1, queue.clone()), "a letter")).await.unwrap();
    let message = fleet.take(&fleet.topology().dead_letter_queue(&queue)).await.delivery;
    assert_eq!(message.data, b"a letter");
}
