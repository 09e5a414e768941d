//! Services that lose replies, fail, hang or are not there: the order is done once all the same.

use futures_util::future::join_all;
use mongodb::bson::{Document, doc};
use orderfleet_native::{Ports, TempFolder};
use orderfleet_tests::{Fleet, Plan, SERVICES, order, until_equal};
use serde_json::{Value, json};

/// Posts an order under these faults, and checks that it is done, once, and that the faults have happened.
async fn is_done_once_despite(steps: &'static str, faults: &[Value]) {
    let mut fleet = Fleet::start_as(Plan { steps, ..Plan::default() }).await;
    for fault in faults {
        fleet.sandbox.fault(fault.clone()).await;
    }
    let id = fleet.client.accept("k1", &order()).await;
    fleet.client.until_ended(&id, "DONE").await;
    fleet.settle(&[]).await;
    assert!(fleet.sandbox.faults_have_fired().await, "{}", fleet.sandbox.get("/faults").await);
    fleet.sandbox.assert_done(&[id]).await;
    assert_eq!(fleet.sandbox.receivable().await, "15.30".parse().unwrap());
}

#[tokio::test]
async fn a_lost_reply_of_any_step_has_no_second_effect() {
    let lost = SERVICES.map(|service| json!({ "service": service, "lost_reply": true, "times": 1 }));
    is_done_once_despite("", &lost).await;
}

#[tokio::test]
async fn a_lost_reply_that_is_not_repeated_at_once_has_no_second_effect() {
    let lost = SERVICES.map(|service| json!({ "service": service, "lost_reply": true, "times": 1 }));
    is_done_once_despite("quick_retries = 0", &lost).await;
}

#[tokio::test]
async fn two_errors_are_outlasted_by_repeats_at_once() {
    let errors = json!({ "service": "accounting", "error_rate": 1.0, "times": 2 });
    is_done_once_despite("attempts_max = 1", &[errors]).await;
}

#[tokio::test]
async fn five_errors_are_outlasted_by_waiting() {
    is_done_once_despite("", &[json!({ "service": "inventory", "error_rate": 1.0, "times": 5 })]).await;
}

#[tokio::test]
async fn a_service_that_hangs_once_is_asked_again() {
    let hangs = json!({ "service": "fulfilment", "hang": true, "times": 1 });
    is_done_once_despite("timeout_ms = 300", &[hangs]).await;
}

#[tokio::test]
async fn an_order_waits_without_charge_for_a_service_that_is_not_there() {
    let folder = TempFolder::new().unwrap();
    let port = Ports::open(&folder.path().join("ports")).unwrap().take("fulfilment").unwrap();
    let address = format!("127.0.0.1:{port}");
    let plan = Plan {
        steps: "attempts_max = 1\nquick_retries = 0",
        fulfilment_url: Some(format!("http://{address}/fulfilment/steps")),
        ..Plan::default()
    };
    let mut fleet = Fleet::start_as(plan).await;

    let id = fleet.client.accept("k1", &order()).await;
    let history_of = |order: &Value, what: &str| {
        let history = order["history"].as_array().cloned().unwrap_or_default();
        history.iter().filter(|entry| entry["what"] == what).count()
    };
    fleet.broker().await.until_depth("orders.wait.5s", 1).await;
    let waiting = fleet.client.order(&id).await.json();
    assert!(history_of(&waiting, "not_sent") > 0, "{waiting:#}");
    assert_eq!(
        (&waiting["status"], &waiting["steps"][1]["attempts"]),
        (&json!("RUN"), &json!(0)),
        "{waiting:#}"
    );

    let arrived = fleet.start_another_sandbox(&address).await;
    let done = fleet.client.until_ended(&id, "DONE").await;
    assert_eq!(history_of(&done, "attempt_failed"), 0, "{done:#}");
    fleet.settle(&[]).await;
    let shipments = arrived.get("/fulfilment/shipments").await;
    assert_eq!(shipments.as_array().unwrap().len(), 1, "{shipments}");
}

#[tokio::test]
async fn a_service_that_is_unavailable_for_a_while_is_waited_for() {
    let mut fleet = Fleet::start().await;
    fleet.sandbox.fault(json!({ "service": "fulfilment", "unavailable": true })).await;
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(fleet.client.accept(&format!("k{n}"), &order()).await);
    }
    for id in &ids {
        // Charged, or, once the circuit is open, not even sent.
        let waits = |order: &Value| {
            let history = order["history"].as_array().cloned().unwrap_or_default();
            history.iter().any(|entry| entry["what"] == "attempt_failed" || entry["what"] == "not_sent")
        };
        fleet.client.until_order(id, "waits", waits).await;
    }
    fleet.sandbox.heal().await;
    fleet.client.until_done(&ids).await;
    assert_eq!(fleet.stored("DONE").await, 10);
    fleet.settle(&[]).await;
    fleet.sandbox.assert_done(&ids).await;
}

#[tokio::test]
async fn an_order_that_can_never_be_sent_waits_on_and_raises_an_alarm() {
    let folder = TempFolder::new().unwrap();
    let port = Ports::open(&folder.path().join("ports")).unwrap().take("fulfilment").unwrap();
    let plan =
        Plan { fulfilment_url: Some(format!("http://127.0.0.1:{port}/fulfilment/steps")), ..Plan::default() };
    let fleet = Fleet::start_as(plan).await;
    let id = fleet.client.accept("k1", &order()).await;
    fleet.broker().await.until_depth("orders.wait.5s", 1).await;
    // As if it had waited for ten minutes.
    let orders = fleet.mongodb().await.collection::<Document>("orders");
    orders.update_one(doc! { "_id": &id }, doc! { "$set": { "waits": 19_i64 } }).await.unwrap();
    until_equal("alarms", 1.0, async || fleet.metric(0, "orderfleet_wait_alarms_total", "fulfilment").await)
        .await;
    let log = fleet.workers[0].log();
    assert!(log.lines().any(|line| line.contains("waits on") && line.contains(&id)), "{log}");
}

async fn accept(fleet: &Fleet, count: usize) -> Vec<String> {
    let keys: Vec<_> = (0..count).map(|number| format!("k{number}")).collect();
    let order = order();
    join_all(keys.iter().map(|key| fleet.client.accept(key, &order))).await
}

/// Orders that a worker finds in its queue when it starts, so that it takes them up together.
async fn accept_and_start(fleet: &mut Fleet, count: usize) -> Vec<String> {
    let ids = accept(fleet, count).await;
    fleet.start_worker().await;
    ids
}

/// How many requests were saved by batches, by the worker's own count.
async fn saved_by_batches(fleet: &mut Fleet) -> f64 {
    let address = fleet.metrics_addresses().into_iter().find(|(service, _)| *service == "worker").unwrap().1;
    let text = reqwest::get(format!("http://{address}/metrics")).await.unwrap().text().await.unwrap();
    let sum = |name: &str| {
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>()
    };
    sum("orderfleet_batch_size_sum") - sum("orderfleet_batch_size_count")
}

#[tokio::test]
async fn orders_whose_dos_go_in_batches_are_done_once() {
    let plan = Plan { workers: 0, steps: "batch_max = 16", ..Plan::default() };
    let mut fleet = Fleet::start_as(plan).await;
    let ids = accept_and_start(&mut fleet, 60).await;
    fleet.client.until_done(&ids).await;
    let saved = saved_by_batches(&mut fleet).await;
    eprintln!("{saved} requests saved of {}", ids.len() * SERVICES.len());
    assert!(saved > 0.0, "the dos of orders that are taken up together go together");
    fleet.settle(&[]).await;
    fleet.sandbox.assert_done(&ids).await;
}

#[tokio::test]
async fn a_batch_that_fails_in_part_or_whose_reply_is_lost_has_no_second_effect() {
    let plan = Plan { workers: 0, steps: "batch_max = 16", ..Plan::default() };
    let mut fleet = Fleet::start_as(plan).await;
    let errors = json!({ "service": "inventory", "error_rate": 1.0, "times": 5 });
    for fault in [errors, json!({ "service": "accounting", "lost_reply": true, "times": 1 })] {
        fleet.sandbox.fault(fault).await;
    }
    let ids = accept_and_start(&mut fleet, 60).await;
    fleet.client.until_done(&ids).await;
    assert!(fleet.sandbox.faults_have_fired().await, "{}", fleet.sandbox.get("/faults").await);
    let saved = saved_by_batches(&mut fleet).await;
    eprintln!("injected: five errors of inventory, a lost reply of accounting; {saved} requests saved");
    assert!(saved > 0.0, "dos go in batches");
    fleet.settle(&[]).await;
    fleet.sandbox.assert_done(&ids).await;
}

#[tokio::test]
async fn messages_that_were_in_the_hands_of_a_crashed_worker_go_in_no_batch() {
    const COUNT: u32 = 20;
    let plan = Plan { workers: 0, steps: "batch_max = 16", ..Plan::default() };
    let mut fleet = Fleet::start_as(plan).await;
    fleet.sandbox.fault(json!({ "service": "*", "hang": true })).await;
    let ids = accept(&fleet, COUNT as usize).await;
    let mut crashing = fleet.start_crashing_worker("crashing", "worker.insert.before", COUNT);
    crashing.ended("the crashing worker").await;
    eprintln!("injected: a crash with {COUNT} messages in hand, {} inserted", fleet.stored("RUN").await);
    fleet.sandbox.heal().await;
    fleet.start_worker().await;
    fleet.client.until_done(&ids).await;
    let requests = fleet.metric(0, "orderfleet_batch_size_count", "").await;
    assert!(requests < 0.5, "{requests} requests with what may have ended the worker");
    let fresh = fleet.client.accept("fresh", &order()).await;
    fleet.client.until_ended(&fresh, "DONE").await;
    assert!(fleet.metric(0, "orderfleet_batch_size_count", "").await > 0.5, "others may share a request");
    fleet.settle(&[]).await;
    fleet.sandbox.assert_done(&[ids, vec![fresh]].concat()).await;
}
