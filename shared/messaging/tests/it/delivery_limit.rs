//! The broker takes out what it has delivered too often: first to where it is tried alone, then to people.

use lapin::options::{BasicAckOptions, BasicGetOptions};
use orderfleet_domain::saga::{DeadLetterQueue, Lane};

use crate::support::{Fleet, connect, eventually, to_lane};

const DELIVERY_LIMIT: usize = 20;

#[tokio::test]
async fn a_message_that_always_loses_its_holder_ends_in_quarantine_and_then_with_people() {
    let fleet = Fleet::new().await;
    fleet.publisher().await.publish(&to_lane(Lane::New(0), "a killer")).await.unwrap();

    let quarantine = fleet.queue(&Lane::Quarantine);
    lose_holders(&fleet, &fleet.queue(&Lane::New(0))).await;
    fleet.until_ready(&quarantine, 1).await;

    lose_holders(&fleet, &quarantine).await;
    let poison = fleet.topology().dead_letter_queue(&DeadLetterQueue::Poison);
    assert_eq!(fleet.take(&poison).await.delivery.data, b"a killer");
    for queue in [fleet.queue(&Lane::New(0)), quarantine, poison] {
        fleet.until_ready(&queue, 0).await;
    }
}

#[tokio::test]
async fn a_message_that_is_acked_within_the_limit_stays_in_its_lane() {
    let fleet = Fleet::new().await;
    fleet.publisher().await.publish(&to_lane(Lane::New(0), "an innocent")).await.unwrap();
    let queue = fleet.queue(&Lane::New(0));
    for _ in 0..DELIVERY_LIMIT {
        lose_holder(&fleet, &queue).await;
    }
    let channel = fleet.channel().await;
    let last = eventually("one more delivery", async || {
        channel.basic_get(queue.as_str().into(), BasicGetOptions { no_ack: false }).await.unwrap()
    })
    .await;
    last.delivery.ack(BasicAckOptions::default()).await.unwrap();
    fleet.until_ready(&queue, 0).await;
    fleet.until_ready(&fleet.queue(&Lane::Quarantine), 0).await;
}

/// One holder more than the limit allows.
async fn lose_holders(fleet: &Fleet, queue: &str) {
    for _ in 0..=DELIVERY_LIMIT {
        lose_holder(fleet, queue).await;
    }
}

/// Takes the message and closes the connection without a word about it.
async fn lose_holder(fleet: &Fleet, queue: &str) {
    let connection = connect(&fleet.settings.url).await;
    let channel = connection.create_channel().await.unwrap();
    eventually(&format!("a delivery from {queue}"), async || {
        channel.basic_get(queue.into(), BasicGetOptions { no_ack: false }).await.unwrap()
    })
    .await;
    connection.close(200, "holder lost".into()).await.unwrap();
}
