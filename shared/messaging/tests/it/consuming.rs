//! Consuming: every message reaches the handler, and a subscription that ends is made again.

use std::collections::BTreeSet;

use lapin::options::QueueDeleteOptions;
use orderfleet_domain::saga::Lane;

use crate::support::{Fleet, Running, subscription, text, to_lane};

#[tokio::test]
async fn the_handler_gets_each_message_of_each_queue_once() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    let lanes = [Lane::New(0), Lane::Retry, Lane::Replay];
    let subscriptions = lanes.clone().map(|lane| subscription(lane, 5, 5)).to_vec();
    let mut consumer = Running::start(fleet.consumer(subscriptions)).await;
    let mut expected = BTreeSet::new();
    for (lane, number) in lanes.iter().flat_map(|lane| (0..20).map(move |number| (lane, number))) {
        let body = format!("{lane:?} {number}");
        publisher.publish(&to_lane(lane.clone(), &body)).await.unwrap();
        expected.insert(body);
    }

    let mut arrived = BTreeSet::new();
    while arrived.len() < expected.len() {
        let delivery = consumer.next().await;
        let body = text(&delivery);
        assert!(body.starts_with(&format!("{:?} ", delivery.lane)) && !delivery.redelivered, "{delivery:?}");
        assert!(arrived.insert(body), "twice: {delivery:?}");
        delivery.ack();
    }
    consumer.shut_down().await.unwrap();
    assert_eq!(arrived, expected);
    for lane in &lanes {
        fleet.until_ready(&fleet.queue(lane), 0).await;
    }
}

#[tokio::test]
async fn no_more_than_the_prefetch_is_out_at_once() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    let mut consumer = fleet.consume(Lane::Retry, 2).await;
    for body in ["1", "2", "3"] {
        publisher.publish(&to_lane(Lane::Retry, body)).await.unwrap();
    }
    let (first, _second) = (consumer.next().await, consumer.next().await);
    let queue = fleet.queue(&Lane::Retry);
    fleet.until_ready(&queue, 1).await;
    first.ack();
    assert_eq!(text(&consumer.next().await), "3");
    fleet.until_ready(&queue, 0).await;
}

#[tokio::test]
async fn a_message_that_is_given_back_comes_again() {
    let fleet = Fleet::new().await;
    fleet.publisher().await.publish(&to_lane(Lane::Retry, "back")).await.unwrap();
    let mut consumer = fleet.consume(Lane::Retry, 1).await;
    consumer.next().await.give_back().await;
    let again = consumer.next().await;
    assert!(again.redelivered && text(&again) == "back");
    again.ack();
    consumer.shut_down().await.unwrap();
    fleet.until_ready(&fleet.queue(&Lane::Retry), 0).await;
}

/// The broker cancels the consumer of a deleted queue and leaves connection and channel open.
#[tokio::test]
async fn a_deleted_queue_is_declared_and_subscribed_again() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    let subscriptions = vec![subscription(Lane::Retry, 1, 1), subscription(Lane::Replay, 1, 1)];
    let mut consumer = Running::start(fleet.consumer(subscriptions)).await;
    let queue = fleet.queue(&Lane::Retry);
    fleet.channel().await.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();

    consumer.until_subscribed(2).await;
    for lane in [Lane::Retry, Lane::Replay] {
        publisher.publish(&to_lane(lane.clone(), "after")).await.unwrap();
        let delivery = consumer.next().await;
        assert_eq!(delivery.lane, lane);
        delivery.ack();
    }
    consumer.shut_down().await.unwrap();
}
