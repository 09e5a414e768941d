//! The checker on real evidence: it passes honest services, and catches services that break their contract.

use orderfleet_tests::{Plan, SERVICES, chaos::Class, order_of};
use serde_json::{Value, json};

use crate::case::Case;

const GIVES_UP_AT_ONCE: &str = "attempts_max = 1\nquick_retries = 0";

async fn case(steps: &'static str) -> Case {
    Case::start(Plan { workers: 2, steps, ..Plan::default() }).await
}

#[tokio::test]
async fn honest_services_under_faults_are_passed() {
    let mut case = case("quick_retries = 0\nattempts_max = 2").await;
    case.fleet.sandbox.fault(json!({ "service": "*", "lost_reply": true, "times": 4 })).await;
    case.fleet.sandbox.fault(json!({ "service": "accounting", "refuse_sku": "BAD" })).await;
    case.fleet
        .sandbox
        .fault(json!({ "service": "fulfilment", "refuse": true, "verb": "undo", "times": 1 }))
        .await;
    let mut orders = Vec::new();
    for number in 0..12 {
        let sku = if number % 4 == 0 { "BAD" } else { "GOOD" };
        orders.push(case.place(&format!("k{number}"), &order_of(sku, 2, "1.05")).await);
    }
    for order in &orders {
        let ended = |order: &Value| ["DONE", "UNDONE", "HELD"].iter().any(|end| order["status"] == *end);
        case.fleet.client.until_order(order, "ends", ended).await;
    }
    let verdict = case.judge().await;
    assert_eq!(verdict.violations, []);
    let counts = &verdict.counts;
    assert_eq!((counts.accepted, counts.done, counts.undone, counts.held), (12, 9, 2, 1), "{counts:?}");
}

#[tokio::test]
async fn services_that_ignore_idempotency_keys_are_caught() {
    let mut case = case("").await;
    case.fleet.sandbox.fault(json!({ "service": "*", "ignore_keys": true })).await;
    for service in SERVICES {
        case.fleet.sandbox.fault(json!({ "service": service, "lost_reply": true, "times": 1 })).await;
    }
    let order = case.place("k1", &order_of("A", 2, "1.05")).await;
    case.fleet.client.until_ended(&order, "DONE").await;
    let verdict = case.judge().await;
    assert!(verdict.of(Class::Duplicated) >= SERVICES.len(), "{:#?}", verdict.violations);
    assert_eq!(verdict.of(Class::Lost), 0, "{:#?}", verdict.violations);
}

/// An order that is undone because no answer ever came, and then a do of it that was long on its way.
async fn a_late_do(case: &mut Case) -> u16 {
    case.fleet.sandbox.fault(json!({ "service": "fulfilment", "lost_reply": true, "times": 1 })).await;
    let body = order_of("A", 2, "1.05");
    let order = case.place("k1", &body).await;
    case.fleet.client.until_ended(&order, "UNDONE").await;
    case.fleet.sandbox.late_do("fulfilment", &order, "demo", &body).await
}

#[tokio::test]
async fn services_that_ignore_tombstones_are_caught() {
    let mut case = case(GIVES_UP_AT_ONCE).await;
    case.fleet.sandbox.fault(json!({ "service": "fulfilment", "ignore_tombstones": true })).await;
    assert_eq!(a_late_do(&mut case).await, 200);
    let verdict = case.judge().await;
    assert!(verdict.of(Class::HalfDone) >= 1, "{:#?}", verdict.violations);
}

#[tokio::test]
async fn services_that_keep_tombstones_are_passed() {
    let mut case = case(GIVES_UP_AT_ONCE).await;
    assert_eq!(a_late_do(&mut case).await, 409);
    let verdict = case.judge().await;
    assert_eq!(verdict.violations, []);
}
