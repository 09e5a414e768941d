//! A customer changes their mind: in time, too early and too late.

use std::time::Duration;

use jiff::Timestamp;
use orderfleet_domain::{Command, CommandKind, OrderId};
use orderfleet_tests::{Answer, Count, Fleet, Plan, SERVICES, order, until, until_equal};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

const DELIVERIES: &str = "orderfleet_deliveries_total";
const DEFERRED_IN_RETRY: &str = r#"lane="retry",ending="deferred""#;

/// Orders that hang at their second step until the sandbox is healed, and are then asked again at once.
async fn fleet_that_hangs(workers: usize) -> Fleet {
    let plan = Plan { workers, steps: "timeout_ms = 1_000\nquick_retries = 10", ..Plan::default() };
    let fleet = Fleet::start_as(plan).await;
    fleet.sandbox.fault(json!({ "service": "fulfilment", "hang": true })).await;
    fleet
}

fn is_at_fulfilment(order: &Value) -> bool {
    order["steps"][1]["state"] == "running"
}

/// Checks that an order was cancelled and that nothing of it is left anywhere.
async fn assert_cancelled(fleet: &mut Fleet, id: &str) {
    let order = fleet.client.until_ended(id, "UNDONE").await;
    assert_eq!((&order["cancel"], &order["final"]), (&json!("cancelled"), &json!(true)), "{order:#}");
    assert_eq!(order["cause"]["class"], "cancelled", "{order:#}");
    fleet.settle(&[]).await;
    let effects = fleet.sandbox.effects().await;
    for service in SERVICES {
        let Count { done, undone } = effects.of(service, id);
        assert!(done == undone && done <= 1, "{service}: {done} done, {undone} undone");
    }
    assert_eq!(effects.of("accounting", id).done, 0);
}

#[tokio::test]
async fn an_order_is_cancelled_while_a_service_hangs() {
    let mut fleet = fleet_that_hangs(1).await;
    let events = fleet.broker().await.tap("orders.events", "#").await;
    let id = fleet.client.accept("k1", &order()).await;
    let shown = fleet.client.until_order(&id, "is at fulfilment", is_at_fulfilment).await;
    assert!(shown["cancel"].is_null(), "{shown:#}");

    for _ in 0..3 {
        let answer = fleet.client.cancel(&id).await;
        assert_eq!((answer.status, &answer.json()["order_id"]), (202, &json!(id)), "{}", answer.text);
        assert!(answer.header("location").ends_with(&format!("/v1/orders/{id}")), "{answer:?}");
    }
    let requested = |order: &Value| order["cancel"] == "requested" && order["cancel_requested"] == true;
    fleet.client.until_order(&id, "shows the request", requested).await;
    fleet.sandbox.heal().await;
    assert_cancelled(&mut fleet, &id).await;
    let types: Vec<_> = events.take(1).await.into_iter().map(|event| event.routing_key).collect();
    assert!(!types.is_empty() && types.iter().all(|kind| kind == "order.cancelled"), "{types:?}");
}

#[tokio::test]
async fn an_order_is_cancelled_before_anything_is_known_of_it() {
    let mut fleet = fleet_that_hangs(0).await;
    let id = OrderId::derive(&"eu1".parse().unwrap(), &"demo".parse().unwrap(), &"k1".parse().unwrap());
    let id = id.as_str();
    assert_eq!(fleet.client.cancel(id).await.status, 202);
    assert_eq!(fleet.client.accept("k1", &order()).await, id);
    fleet.start_worker().await;

    let requested = |order: &Value| !order["cancel"].is_null();
    fleet.client.until_order(id, "shows the request", requested).await;
    fleet.sandbox.heal().await;
    assert_cancelled(&mut fleet, id).await;
}

/// A cancel as a producer publishes it, of the order under the key `k1`.
fn cancel_of_k1(by: &str, requested_at: Timestamp) -> Vec<u8> {
    let order_id = OrderId::derive(&"eu1".parse().unwrap(), &"demo".parse().unwrap(), &"k1".parse().unwrap());
    let kind = CommandKind::Cancel { requested_at };
    Command { order_id, account: by.parse().unwrap(), generation: 1, fp: None, kind }.encode()
}

/// Waits until a cancel has been looked at and put aside. An order that hangs is put aside too, but in the lane of new ones.
async fn until_put_aside(fleet: &Fleet, times: f64) {
    until("the cancel waits", async || {
        let waits = fleet.metric(0, DELIVERIES, DEFERRED_IN_RETRY).await;
        if waits >= times { Ok(()) } else { Err(waits) }
    })
    .await;
}

#[tokio::test]
async fn a_cancel_is_honoured_whatever_the_clock_of_its_producer_says() {
    for requested_at in [Timestamp::UNIX_EPOCH, Timestamp::now() + Duration::from_secs(48 * 3_600)] {
        let mut fleet = fleet_that_hangs(1).await;
        fleet.broker().await.publish("orders.retry", &cancel_of_k1("demo", requested_at)).await;
        until_put_aside(&fleet, 2.0).await;
        let id = fleet.client.accept("k1", &order()).await;
        fleet.client.until_order(&id, "shows the request", |order| !order["cancel"].is_null()).await;
        fleet.sandbox.heal().await;
        assert_cancelled(&mut fleet, &id).await;
    }
}

/// The tags of two accounts may be the same, and then a producer lets the one ask for a cancel of the other's order.
#[tokio::test]
async fn a_cancel_of_another_account_that_came_past_the_producer_is_of_no_effect() {
    let mut fleet = fleet_that_hangs(1).await;
    let id = fleet.client.accept("k1", &order()).await;
    fleet.client.until_order(&id, "is at fulfilment", is_at_fulfilment).await;
    fleet.broker().await.publish("orders.retry", &cancel_of_k1("other", Timestamp::now())).await;
    until_put_aside(&fleet, 1.0).await;
    fleet.sandbox.heal().await;
    let done = fleet.client.until_ended(&id, "DONE").await;
    assert!(done["cancel"].is_null() && done["cancel_requested"] == false, "{done:#}");
    fleet.stop_workers().await;
    fleet.sandbox.assert_done(&[id]).await;
}

#[tokio::test]
async fn a_cancel_that_comes_after_the_end_is_recorded_and_changes_nothing() {
    let mut fleet = Fleet::start().await;
    let id = fleet.client.accept("k1", &order()).await;
    fleet.client.until_ended(&id, "DONE").await;
    for _ in 0..2 {
        assert_eq!(fleet.client.cancel(&id).await.status, 202);
    }
    let late = |order: &Value| order["cancel"] == "too_late" && order["cancel_requested"] == true;
    let order = fleet.client.until_order(&id, "shows that it was too late", late).await;
    assert_eq!(order["status"], "DONE", "{order:#}");
    fleet.settle(&[]).await;
    fleet.sandbox.assert_done(&[id]).await;
}

#[tokio::test]
async fn only_the_account_itself_cancels_its_orders() {
    let mut fleet = fleet_that_hangs(1).await;
    let id = fleet.client.accept("k1", &order()).await;
    fleet.client.until_order(&id, "is at fulfilment", is_at_fulfilment).await;

    let path = format!("/v1/orders/{id}/cancel");
    let request = |method, path: &str| fleet.client.request_path(method, path).bearer_auth(&fleet.client.key);
    let large = request(Method::POST, &path).body(vec![b'x'; 10_000_000]);
    let cases = [
        ("a malformed id", request(Method::POST, "/v1/orders/no-id/cancel"), 404),
        ("no text", request(Method::POST, "/v1/orders/%FF/cancel"), 404),
        ("a GET", request(Method::GET, &path), 405),
        ("no key", fleet.client.request_path(Method::POST, &path), 401),
        ("10 MB", large, 413),
    ];
    let foreign = fleet.stranger.cancel(&id).await;
    assert_eq!((foreign.status, foreign.problem().as_str()), (404, "not-found"), "{}", foreign.text);
    for (case, request, status) in cases {
        let answer = answer(request).await;
        assert_eq!(answer.status, status, "{case}: {}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{case}");
    }
    until_equal("messages about a cancel", 0, async || fleet.broker().await.depth("orders.retry").await)
        .await;
    fleet.sandbox.heal().await;
    let order = fleet.client.until_ended(&id, "DONE").await;
    assert!(order["cancel"].is_null() && order["cancel_requested"] == false, "{order:#}");
    fleet.settle(&[]).await;
    fleet.sandbox.assert_done(&[id]).await;
}

async fn answer(request: RequestBuilder) -> Answer {
    Answer::read(request.send().await.unwrap()).await.unwrap()
}
