//! Publishing: what is confirmed is queued, and what is not is an error that says so.

use std::collections::BTreeSet;

use lapin::types::FieldTable;
use orderfleet_domain::saga::{EventType, Lane};
use orderfleet_messaging::{BrokerSettings, Destination, Headers, PublishError, Publisher, Topology};
use tokio::task::JoinSet;

use crate::support::{Fleet, eventually, outgoing, publish_in_time, text, to_lane};

const PERSISTENT: u8 = 2;

#[tokio::test]
async fn a_message_to_a_lane_arrives_whole_and_persistent() {
    let fleet = Fleet::new().await;
    let mut message = to_lane(Lane::New(0), "an order");
    message.headers = Headers::new("place")
        .message_id("m-1")
        .traceparent(Some("00-trace-span-01"))
        .reason("a reason")
        .cloud_event("id", "e-1");
    let publisher = fleet.publisher().await;
    publisher.publish(&message).await.unwrap();
    let raw = fleet.take(&fleet.queue(&Lane::New(0))).await.delivery;
    assert_eq!(raw.properties.delivery_mode(), &Some(PERSISTENT));

    publisher.publish(&message).await.unwrap();
    let mut consumer = fleet.consume(Lane::New(0), 1).await;
    let delivery = consumer.next().await;
    assert_eq!(text(&delivery), "an order");
    assert_eq!(delivery.headers, message.headers);
    assert!(!delivery.redelivered);
    delivery.ack();
    consumer.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_message_without_a_queue_is_returned() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    unbind(&fleet, &Lane::Retry).await;
    let result = publisher.publish(&to_lane(Lane::Retry, "lost")).await;
    assert!(matches!(result, Err(PublishError::Returned { .. })), "{result:?}");
    publisher.publish(&to_lane(Lane::Replay, "kept")).await.unwrap();
}

#[tokio::test]
async fn an_event_without_a_subscriber_is_published() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    publisher.publish(&outgoing(Destination::Event(EventType::Completed), "an event")).await.unwrap();
}

#[tokio::test]
async fn a_full_queue_rejects_and_keeps_all_it_has_confirmed() {
    let mut fleet = Fleet::new().await;
    fleet.settings.new_bytes_max = 2_000;
    let publisher = fleet.publisher().await;
    let mut confirmed = 0;
    let refused = loop {
        let body = format!("{confirmed:0500}");
        match publisher.publish(&to_lane(Lane::New(0), &body)).await {
            Ok(()) => confirmed += 1,
            Err(error) => break error,
        }
        assert!(confirmed < 100, "2,000 bytes hold a few messages of 500");
    };
    assert!(matches!(refused, PublishError::Nacked), "{refused:?}");
    assert!(confirmed > 0);
    publisher.publish(&to_lane(Lane::Retry, "another lane has room")).await.unwrap();

    let queue = fleet.queue(&Lane::New(0));
    fleet.until_ready(&queue, confirmed).await;
    for number in 0..confirmed {
        assert_eq!(fleet.take(&queue).await.delivery.data, format!("{number:0500}").as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_of_many_tasks_are_all_confirmed_and_arrive_once() {
    const COUNT: usize = 500;
    let fleet = Fleet::patient().await;
    assert_eq!(fleet.settings.publish_connections, 2);
    let publisher = fleet.publisher().await;
    let results = publish_at_once(&publisher, (0..COUNT).map(|number| (Lane::New(0), number))).await;
    assert!(results.iter().all(|(_, result)| result.is_ok()), "{results:?}");

    let mut consumer = fleet.consume(Lane::New(0), 100).await;
    let mut arrived = BTreeSet::new();
    while arrived.len() < COUNT {
        let delivery = consumer.next().await;
        assert!(arrived.insert(text(&delivery)), "twice: {delivery:?}");
        delivery.ack();
    }
    consumer.shut_down().await.unwrap();
    fleet.until_ready(&fleet.queue(&Lane::New(0)), 0).await;
}

/// A confirm that is given to the wrong message is a lost message.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn among_many_messages_exactly_those_without_a_queue_are_returned() {
    let fleet = Fleet::patient().await;
    let nowhere = Lane::New(fleet.settings.partitions);
    let lane = |number| if number % 5 == 0 { nowhere.clone() } else { Lane::Replay };
    let publisher = fleet.publisher().await;
    let results = publish_at_once(&publisher, (0..500).map(|number| (lane(number), number))).await;
    let is_wrong = |(lane, result): &&(Lane, Result<(), PublishError>)| match result {
        Ok(()) => *lane == nowhere,
        Err(PublishError::Returned { .. }) => *lane != nowhere,
        Err(_) => true,
    };
    let wrong: Vec<_> = results.iter().filter(is_wrong).collect();
    assert!(wrong.is_empty(), "{} are wrong: {wrong:?}", wrong.len());
}

/// The same for a queue that rejects: what was confirmed is in it, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn among_many_messages_exactly_those_that_are_rejected_are_missing() {
    let mut fleet = Fleet::patient().await;
    fleet.settings.new_bytes_max = 1;
    let publisher = fleet.publisher().await;
    publisher.publish(&to_lane(Lane::New(0), "fills it")).await.unwrap();
    let lane = |number| if number % 5 == 0 { Lane::New(0) } else { Lane::Replay };
    let results = publish_at_once(&publisher, (0..500).map(|number| (lane(number), number))).await;

    let confirmed = |of: Lane| results.iter().filter(|(lane, result)| *lane == of && result.is_ok()).count();
    assert_eq!(confirmed(Lane::Replay), 400);
    let new = u32::try_from(confirmed(Lane::New(0))).unwrap();
    fleet.until_ready(&fleet.queue(&Lane::New(0)), new + 1).await;
    fleet.until_ready(&fleet.queue(&Lane::Replay), 400).await;
}

#[tokio::test]
async fn depth_is_the_number_of_ready_messages() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    assert_eq!(publisher.depth(&Lane::Retry).await.unwrap(), 0);
    for body in ["1", "2", "3"] {
        publisher.publish(&to_lane(Lane::Retry, body)).await.unwrap();
    }
    fleet.until_ready(&fleet.queue(&Lane::Retry), 3).await;
    until_depth(&publisher, 3).await;

    let mut consumer = fleet.consume(Lane::Retry, 1).await;
    let in_hand = consumer.next().await;
    fleet.until_ready(&fleet.queue(&Lane::Retry), 2).await;
    until_depth(&publisher, 2).await;
    drop(in_hand);
}

/// A busy broker now and then says 0 without having looked.
async fn until_depth(publisher: &Publisher, depth: u32) {
    eventually(&format!("{depth} ready"), async || {
        (publisher.depth(&Lane::Retry).await.unwrap() == depth).then_some(())
    })
    .await;
}

#[tokio::test]
async fn depth_of_a_queue_that_is_gone_is_an_error_and_publishing_goes_on() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    let queue = fleet.queue(&Lane::Retry);
    fleet.channel().await.queue_delete(queue.as_str().into(), <_>::default()).await.unwrap();
    publisher.depth(&Lane::Retry).await.unwrap_err();
    publisher.publish(&to_lane(Lane::Replay, "still works")).await.unwrap();
}

#[tokio::test]
async fn settings_out_of_range_are_not_waited_for() {
    let settings = BrokerSettings { partitions: 0, ..BrokerSettings::default() };
    let topology = Topology::new("", 1, 1, &[]);
    let error = Publisher::connect(&settings, topology, "test").await.unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("partitions"), "{error}");
}

/// Publishes each body from a task of its own and tells what became of it.
async fn publish_at_once(
    publisher: &Publisher,
    messages: impl Iterator<Item = (Lane, usize)>,
) -> Vec<(Lane, Result<(), PublishError>)> {
    let tasks: JoinSet<_> = messages
        .map(|(lane, number)| {
            let publisher = publisher.clone();
            async move {
                let message = to_lane(lane.clone(), &number.to_string());
                (lane, publish_in_time(&publisher, &message).await)
            }
        })
        .collect();
    tasks.join_all().await
}

/// Makes a lane lead nowhere, as an operator's mistake would.
async fn unbind(fleet: &Fleet, lane: &Lane) {
    let (queue, exchange) = (fleet.queue(lane), format!("{}orders", fleet.settings.prefix));
    let routing_key = queue.rsplit('.').next().unwrap();
    let channel = fleet.channel().await;
    channel
        .queue_unbind(
            queue.as_str().into(),
            exchange.as_str().into(),
            routing_key.into(),
            FieldTable::default(),
        )
        .await
        .unwrap();
}
