//! A look at the messages of a queue leaves them where they are, at a price that is told.

use futures_util::future::join_all;
use lapin::{
    options::{BasicGetOptions, BasicNackOptions},
    types::AMQPValue,
};
use orderfleet_domain::saga::{Lane, Tier};
use orderfleet_messaging::{Destination, Inspector};

use crate::support::{Fleet, eventually, outgoing, to_lane};

async fn inspector(fleet: &Fleet) -> Inspector {
    Inspector::connect(&fleet.settings, fleet.topology(), "test").await.unwrap()
}

async fn bodies(inspector: &Inspector, queue: &str, limit: u32) -> Vec<String> {
    let peeked = inspector.peek(queue, limit).await.unwrap();
    peeked.into_iter().map(|message| String::from_utf8(message.body).unwrap()).collect()
}

#[tokio::test]
async fn a_look_shows_the_first_messages_and_costs_each_one_delivery() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    let queue = fleet.queue(&Lane::Retry);
    for body in ["a", "b", "c"] {
        publisher.publish(&to_lane(Lane::Retry, body)).await.unwrap();
    }
    let inspector = inspector(&fleet).await;
    assert_eq!(bodies(&inspector, &queue, 0).await, [""; 0]);
    assert_eq!(bodies(&inspector, &queue, 2).await, ["a", "b"]);
    fleet.until_ready(&queue, 3).await;
    assert_eq!(bodies(&inspector, &queue, 9).await, ["a", "b", "c"]);
    fleet.until_ready(&queue, 3).await;
    // What the price is: the count that takes a message out of its queue at twenty.
    for (body, count) in [(b"a", 2), (b"b", 2), (b"c", 1)] {
        let message = fleet.take(&queue).await;
        assert_eq!(message.data, body);
        assert!(message.redelivered);
        let headers = message.properties.headers().as_ref().unwrap();
        assert_eq!(headers.inner()["x-delivery-count"], AMQPValue::LongLongInt(count));
    }
}

#[tokio::test]
async fn a_look_ends_at_a_message_that_was_given_back_ten_times() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    let queue = fleet.queue(&Lane::Replay);
    publisher.publish(&to_lane(Lane::Replay, "often")).await.unwrap();
    let channel = fleet.channel().await;
    for _ in 0..10 {
        let message = eventually("the message", async || {
            channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap()
        });
        message.await.nack(BasicNackOptions { multiple: false, requeue: true }).await.unwrap();
    }
    publisher.publish(&to_lane(Lane::Replay, "behind it")).await.unwrap();
    fleet.until_ready(&queue, 2).await;
    assert_eq!(bodies(&inspector(&fleet).await, &queue, 9).await, ["often"]);
    fleet.until_ready(&queue, 2).await;
}

#[tokio::test]
async fn what_waits_in_a_tier_goes_on_to_where_it_came_from_after_a_look() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    let waiting = Destination::Wait(Tier::S5, Lane::Retry);
    publisher.publish(&outgoing(waiting, "patient")).await.unwrap();
    let inspector = inspector(&fleet).await;
    let tier = fleet.topology().queue_names().find(|name| name.ends_with(".wait.5s")).unwrap().to_owned();
    assert_eq!(bodies(&inspector, &tier, 9).await, ["patient"]);
    assert_eq!(fleet.take(&fleet.queue(&Lane::Retry)).await.data, b"patient");
    let left = join_all([&tier, &fleet.queue(&Lane::Retry)].map(|queue| fleet.ready(queue))).await;
    assert_eq!(left, [0, 0]);
}
