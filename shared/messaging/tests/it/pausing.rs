//! Pausing: nothing new is taken, what is in hand can be acked, and a resumed consumer takes everything that waits.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use orderfleet_domain::saga::Lane;
use orderfleet_messaging::{Consumer, Delivery, Subscription};
use tokio::sync::{Semaphore, watch};

use crate::support::{Fleet, OwnBroker, Running, eventually, subscription, text, to_lane};

/// A consumer, and what pauses it.
fn pausable(
    fleet: &Fleet,
    subscriptions: Vec<Subscription>,
    paused: bool,
) -> (Consumer, watch::Sender<bool>) {
    let (pause, paused) = watch::channel(paused);
    (Consumer { paused, ..fleet.consumer(subscriptions) }, pause)
}

#[tokio::test]
async fn while_paused_nothing_is_delivered_and_what_is_in_hand_can_be_acked() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    let lanes = [Lane::New(0), Lane::Retry];
    let subscriptions = lanes.clone().map(|lane| subscription(lane, 4, 4)).to_vec();
    let (consumer, pause) = pausable(&fleet, subscriptions, false);
    let mut consumer = Running::start(consumer).await;
    for lane in &lanes {
        publisher.publish(&to_lane(lane.clone(), "before")).await.unwrap();
    }
    let in_hand = [consumer.next().await, consumer.next().await];

    pause.send(true).unwrap();
    consumer.until_paused(1).await;
    for lane in &lanes {
        publisher.publish(&to_lane(lane.clone(), "meanwhile")).await.unwrap();
    }
    for delivery in in_hand {
        delivery.ack();
    }
    for lane in &lanes {
        // Nobody is there to take it: what is ready stays ready.
        fleet.until_unconsumed(&fleet.queue(lane)).await;
        fleet.until_ready(&fleet.queue(lane), 1).await;
    }
    assert!(consumer.has_nothing());

    pause.send(false).unwrap();
    consumer.until_subscribed(2).await;
    for _ in &lanes {
        let delivery = consumer.next().await;
        assert!(text(&delivery) == "meanwhile" && !delivery.redelivered, "{delivery:?}");
        delivery.ack();
    }
    publisher.publish(&to_lane(Lane::Retry, "after")).await.unwrap();
    let after = consumer.next().await;
    assert!(text(&after) == "after" && consumer.has_nothing(), "both acks during the pause took effect");
    after.ack();
    consumer.shut_down().await.unwrap();
    for lane in &lanes {
        fleet.until_ready(&fleet.queue(lane), 0).await;
    }
}

/// Neither again because of the second consumer on their channel, nor never.
#[tokio::test]
async fn deliveries_from_before_a_pause_can_be_acked_after_it_and_do_not_come_again() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    let (consumer, pause) = pausable(&fleet, vec![subscription(Lane::Retry, 10, 10)], false);
    let mut consumer = Running::start(consumer).await;
    let mut in_hand = Vec::new();
    for round in 1..=3 {
        for number in 0..2 {
            publisher.publish(&to_lane(Lane::Retry, &format!("{round} {number}"))).await.unwrap();
            in_hand.push(consumer.next().await);
        }
        pause.send(true).unwrap();
        consumer.until_paused(round).await;
        pause.send(false).unwrap();
        consumer.until_subscribed(round + 1).await;
    }
    let mut seen: Vec<_> = in_hand.iter().map(text).collect();
    seen.dedup();
    assert_eq!(seen.len(), 6, "{seen:?}");
    assert!(in_hand.iter().all(|delivery| !delivery.redelivered), "{in_hand:?}");
    for delivery in in_hand {
        delivery.ack();
    }
    consumer.shut_down().await.unwrap();
    fleet.until_ready(&fleet.queue(&Lane::Retry), 0).await;
}

#[tokio::test]
async fn pauses_one_after_the_other_do_not_add_up_what_is_in_hand() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    let lanes = [Lane::Retry, Lane::Replay];
    let subscriptions = lanes.clone().map(|lane| subscription(lane, 2, 20)).to_vec();
    let (consumer, pause) = pausable(&fleet, subscriptions, false);
    let mut consumer = Running::start(consumer).await;
    for number in 0..8 {
        publisher.publish(&to_lane(Lane::Retry, &number.to_string())).await.unwrap();
    }
    let queue = fleet.queue(&Lane::Retry);
    let mut in_hand = vec![consumer.next().await, consumer.next().await];
    for round in 1..=5 {
        pause.send(true).unwrap();
        consumer.until_paused(round).await;
        pause.send(false).unwrap();
        consumer.until_subscribed(round + 1).await;
        // The other queue is consumed again, while this one waits until there is room.
        publisher.publish(&to_lane(Lane::Replay, "other")).await.unwrap();
        let other = consumer.next().await;
        assert_eq!(text(&other), "other", "round {round}");
        other.ack();
        fleet.until_ready(&queue, 6).await;
    }
    assert!(consumer.has_nothing());

    in_hand.remove(0).ack();
    in_hand.push(consumer.next().await);
    in_hand.push(consumer.next().await);
    for delivery in in_hand {
        delivery.ack();
    }
    for _ in 0..4 {
        let delivery = consumer.next().await;
        assert!(!delivery.redelivered, "{delivery:?}");
        delivery.ack();
    }
    consumer.shut_down().await.unwrap();
    fleet.until_ready(&queue, 0).await;
}

#[tokio::test]
async fn a_consumer_that_begins_paused_takes_nothing_until_it_is_resumed() {
    let fleet = Fleet::new().await;
    let (consumer, pause) = pausable(&fleet, vec![subscription(Lane::Retry, 1, 1)], true);
    let mut consumer = Running::start(consumer).await;
    fleet.publisher().await.publish(&to_lane(Lane::Retry, "waits")).await.unwrap();
    let queue = fleet.queue(&Lane::Retry);
    fleet.until_unconsumed(&queue).await;
    fleet.until_ready(&queue, 1).await;
    pause.send(false).unwrap();
    let delivery = consumer.next().await;
    assert_eq!(text(&delivery), "waits");
    delivery.ack();
    consumer.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_paused_consumer_shuts_down_and_waits_for_what_is_in_hand() {
    let fleet = Fleet::new().await;
    let (consumer, pause) = pausable(&fleet, vec![subscription(Lane::Retry, 1, 1)], false);
    fleet.publisher().await.publish(&to_lane(Lane::Retry, "in hand")).await.unwrap();
    let mut consumer = Running::start(consumer).await;
    let in_hand = consumer.next().await;
    pause.send(true).unwrap();
    consumer.until_paused(1).await;
    in_hand.ack();
    consumer.shut_down().await.unwrap();
    fleet.until_ready(&fleet.queue(&Lane::Retry), 0).await;
}

#[tokio::test]
async fn a_connection_that_is_lost_while_paused_is_made_again_and_consumes_nothing() {
    let OwnBroker { server, fleet, .. } = &OwnBroker::start().await;
    let (consumer, pause) = pausable(fleet, vec![subscription(Lane::Retry, 2, 2)], false);
    let mut consumer = Running::start(consumer).await;
    let publisher = fleet.publisher().await;
    publisher.publish(&to_lane(Lane::Retry, "in hand")).await.unwrap();
    let lost = consumer.next().await;
    pause.send(true).unwrap();
    consumer.until_paused(1).await;

    server.rabbitmqctl(&["close_all_connections", "a test"]).await.unwrap();
    consumer.until_paused(2).await;
    let queue = fleet.queue(&Lane::Retry);
    let own = &Fleet::at(&fleet.settings.url).await;
    assert_eq!(consumer.times_subscribed(), 1);
    own.until_unconsumed(&queue).await;
    own.until_ready(&queue, 1).await;
    lost.ack();

    pause.send(false).unwrap();
    let again = consumer.next().await;
    assert!(again.redelivered && text(&again) == "in hand");
    again.ack();
    consumer.shut_down().await.unwrap();
    own.until_ready(&queue, 0).await;
}

#[tokio::test]
async fn a_queue_that_is_paused_by_itself_keeps_its_messages_and_the_others_are_consumed() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    let (paused, other) = (subscription(Lane::Retry, 4, 4), subscription(Lane::Replay, 4, 4));
    let control = paused.control.clone();
    let mut consumer = Running::start(fleet.consumer(vec![paused, other])).await;
    let queue = fleet.queue(&Lane::Retry);
    for round in ["first", "second", "third"] {
        publisher.publish(&to_lane(Lane::Retry, "before")).await.unwrap();
        let in_hand = consumer.next().await;
        control.pause(true);
        in_hand.ack();
        fleet.until_unconsumed(&queue).await;
        for lane in [Lane::Retry, Lane::Replay] {
            publisher.publish(&to_lane(lane, round)).await.unwrap();
        }
        let delivery = consumer.next().await;
        assert_eq!((&delivery.lane, text(&delivery).as_str()), (&Lane::Replay, round));
        delivery.ack();
        fleet.until_ready(&queue, 1).await;
        assert!(consumer.has_nothing());

        control.pause(false);
        let delivery = consumer.next().await;
        assert!(text(&delivery) == round && !delivery.redelivered, "{delivery:?}");
        delivery.ack();
    }
    assert_eq!(consumer.times_subscribed(), 1, "the connection and the other queue were left alone");
    consumer.shut_down().await.unwrap();
}

/// Two of three wait for the only permit when the pause begins.
#[tokio::test]
async fn of_a_queue_that_is_paused_by_itself_what_was_begun_is_finished_and_what_was_not_is_given_back() {
    let fleet = Fleet::new().await;
    let subscription = subscription(Lane::Retry, 3, 1);
    let control = subscription.control.clone();
    let (gate, handled) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let handle = {
        let (gate, handled) = (Arc::clone(&gate), Arc::clone(&handled));
        move |delivery: Delivery| {
            let (gate, handled) = (Arc::clone(&gate), Arc::clone(&handled));
            async move {
                gate.acquire().await.unwrap().forget();
                delivery.ack();
                handled.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let consumer = Running::start_with(fleet.consumer(vec![subscription]), handle).await;
    let publisher = fleet.publisher().await;
    for number in 0..5 {
        publisher.publish(&to_lane(Lane::Retry, &number.to_string())).await.unwrap();
    }
    eventually("three in hand", async || (control.in_hand() == 3).then_some(())).await;

    control.pause(true);
    let queue = fleet.queue(&Lane::Retry);
    fleet.until_ready(&queue, 4).await;
    eventually("only what was begun in hand", async || (control.in_hand() == 1).then_some(())).await;
    gate.add_permits(5);
    eventually("none in hand", async || (control.in_hand() == 0).then_some(())).await;
    assert_eq!(handled.load(Ordering::Relaxed), 1, "nothing is begun during the pause");

    control.pause(false);
    eventually("all are handled", async || (handled.load(Ordering::Relaxed) == 5).then_some(())).await;
    consumer.shut_down().await.unwrap();
    fleet.until_ready(&queue, 0).await;
}

/// Not even when a permit becomes free before it is given back.
#[tokio::test]
async fn what_waits_for_its_turn_is_not_begun_during_a_pause() {
    let fleet = Fleet::new().await;
    let subscription = subscription(Lane::Retry, 2, 1);
    let (control, permits) = (subscription.control.clone(), Arc::clone(&subscription.permits));
    let mut consumer = Running::start(fleet.consumer(vec![subscription])).await;
    let at_work = permits.acquire().await.unwrap();
    fleet.publisher().await.publish(&to_lane(Lane::Retry, "waits")).await.unwrap();
    eventually("in hand", async || (control.in_hand() == 1).then_some(())).await;

    control.pause(true);
    drop(at_work);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(consumer.has_nothing());
    control.pause(false);
    let delivery = consumer.next().await;
    assert!(text(&delivery) == "waits", "{delivery:?}");
    delivery.ack();
    consumer.shut_down().await.unwrap();
    fleet.until_ready(&fleet.queue(&Lane::Retry), 0).await;
}

#[tokio::test]
async fn a_consumer_whose_only_queue_is_paused_from_the_beginning_waits_and_then_takes_it() {
    let fleet = Fleet::new().await;
    let subscription = subscription(Lane::Retry, 1, 1);
    let control = subscription.control.clone();
    control.pause(true);
    let mut consumer = Running::start(fleet.consumer(vec![subscription])).await;
    fleet.publisher().await.publish(&to_lane(Lane::Retry, "waits")).await.unwrap();
    let queue = fleet.queue(&Lane::Retry);
    fleet.until_ready(&queue, 1).await;
    fleet.until_unconsumed(&queue).await;
    control.pause(false);
    let delivery = consumer.next().await;
    assert_eq!(text(&delivery), "waits");
    delivery.ack();
    consumer.shut_down().await.unwrap();
}
