//! A broker that is short of memory and takes no messages, while workers must publish before they ack.

use std::time::{Duration, Instant};

use mongodb::bson::doc;
use orderfleet_native::RabbitMq;
use orderfleet_tests::{Plan, order, until_within};
use serde_json::json;

use super::{long, own_broker};
use crate::case::Case;

/// Thousands of orders, which the sweeper brings back one by one.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// A fleet without workers, with orders in its queue, and the alarm in force.
async fn queued_orders_and_an_alarm(broker: &RabbitMq, orders: usize) -> Case {
    let plan = Plan {
        workers: 0,
        amqp_url: Some(broker.amqp_url()),
        steps: "quick_retries = 0\nbreaker_failures = 1_000\nconcurrency = 1_000",
        ..Plan::default()
    };
    let mut case = Case::start(plan).await;
    case.place_all("k", orders, |_| order()).await;
    assert_eq!(broker.set_memory_alarm(true).await.unwrap(), ["memory"]);
    case
}

/// Starts a worker that may not be ready before the alarm is over.
fn start_worker(case: &mut Case) {
    let name = format!("worker-{}", case.fleet.workers.len());
    let worker = case.fleet.start_worker_with(&name, &[]);
    case.fleet.workers.push(worker);
}

/// Waits until no queue of orders holds a message, in hand or not.
async fn until_queues_are_empty(broker: &RabbitMq) {
    until_within(LONGEST_WAIT, "the queues of orders are empty", async || {
        let queues = broker.list_queues().await.unwrap();
        let full = |queue: &orderfleet_native::QueueCounts| {
            queue.name.contains("orders.") && queue.ready + queue.unacked + queue.dead_lettering > 0
        };
        let left: Vec<_> = queues.into_iter().filter(full).collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

async fn owing(case: &Case) -> u64 {
    let orders = case.fleet.mongodb().await.collection::<mongodb::bson::Document>("orders");
    orders.count_documents(doc! { "evp": true }).await.unwrap()
}

#[tokio::test]
async fn queued_orders_drain_while_publishing_is_blocked_and_every_event_arrives_afterwards() {
    let orders = if long() { 5_000 } else { 1_000 };
    let (broker, _folder) = own_broker().await;
    let mut case = queued_orders_and_an_alarm(&broker, orders).await;
    case.fleet.sandbox.fault(json!({ "service": "*", "lost_reply": true, "share": 0.05 })).await;
    let started = Instant::now();
    for _ in 0..2 {
        start_worker(&mut case);
    }
    until_queues_are_empty(&broker).await;
    let drained = started.elapsed();
    let (done, owed) = (case.fleet.stored("DONE").await, owing(&case).await);
    let rules = case.fleet.sandbox.get("/faults").await;
    eprintln!(
        "injected: a memory alarm; queues empty under it after {drained:.0?}: {done} of {orders} done, {owed} owe a publish; \
         {rules}"
    );
    assert!(rules[0]["fired"].as_u64() >= Some(orders as u64 / 10), "{rules}");
    assert!(done >= orders as u64 / 2, "{done} of {orders} orders were done under the alarm");

    assert!(broker.set_memory_alarm(false).await.unwrap().is_empty());
    let cleared = Instant::now();
    let all = (orders as u64, 0);
    until_within(LONGEST_WAIT, "all orders are done and owe nothing", async || {
        let found = (case.fleet.stored("DONE").await, owing(&case).await);
        if found == all { Ok(()) } else { Err(found) }
    })
    .await;
    case.assert_kept(orders).await;
    eprintln!("everything done and told {:.0?} after the alarm", cleared.elapsed());
}

#[tokio::test]
async fn what_no_worker_was_left_to_publish_is_published_by_the_next() {
    const ORDERS: usize = 300;
    let (broker, _folder) = own_broker().await;
    let mut case = queued_orders_and_an_alarm(&broker, ORDERS).await;
    start_worker(&mut case);
    until_queues_are_empty(&broker).await;
    case.fleet.stop_workers().await;
    let owed = owing(&case).await;
    assert_eq!((case.fleet.stored("DONE").await, owed), (ORDERS as u64, ORDERS as u64));

    assert!(broker.set_memory_alarm(false).await.unwrap().is_empty());
    // Those that were on their way to the broker when it stopped reading arrive without anybody's help.
    let arrived = case.fleet.broker().await.depth("events.seen").await;
    assert!(u64::from(arrived) < owed, "no event is left for the next worker to publish");
    eprintln!(
        "injected: a memory alarm until {owed} ended orders owed their events, then no worker at all; {arrived} arrived by themselves"
    );
    start_worker(&mut case);
    case.assert_kept(ORDERS).await;
}
