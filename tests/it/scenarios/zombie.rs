//! A worker that hangs in its calls until others have taken over, and then goes on as if nothing had been.

use orderfleet_native::Signal;
use orderfleet_tests::{Plan, order, until_equal};
use serde_json::json;

use super::own_broker;
use crate::case::Case;

const ORDERS: usize = 20;
const FENCED: &str = "ending=\"fenced\"";

#[tokio::test]
async fn a_zombie_that_wakes_after_its_channel_died_has_no_second_effect() {
    let (broker, _folder) = own_broker().await;
    let plan = Plan {
        amqp_url: Some(broker.amqp_url()),
        steps: "timeout_ms = 4_000\nquick_retries = 0\nattempts_max = 100\nbreaker_failures = 1_000",
        ..Plan::default()
    };
    let mut case = Case::start(plan).await;
    case.fleet.sandbox.fault(json!({ "service": "inventory", "hang": true, "times": ORDERS })).await;
    let ids = case.place_all("k", ORDERS, |_| order()).await;
    until_equal("every order is in a call", true, async || case.fleet.sandbox.faults_have_fired().await)
        .await;

    let pids = case.fleet.freeze_workers().await;
    case.fleet.sandbox.heal().await;
    let closed = broker.close_all_connections("a test").await.unwrap();
    // None ends before the zombie wakes, or it would find nothing that it could harm.
    case.fleet.sandbox.fault(json!({ "service": "accounting", "hang": true })).await;
    case.fleet.start_worker().await;
    until_equal("orders that another has taken to their last step", ORDERS, async || {
        let calls = case.fleet.sandbox.ledger("fulfilment").await;
        calls.iter().filter(|call| call["outcome"] == "effect").count()
    })
    .await;

    case.fleet.workers[0].signal(Signal::Continue);
    until_equal("the zombie is fenced", true, async || {
        case.fleet.metric(0, "orderfleet_deliveries_total", FENCED).await >= 1.0
    })
    .await;
    case.fleet.sandbox.heal().await;
    case.fleet.client.until_done(&ids).await;
    case.fleet.sandbox.assert_done(&ids).await;
    let fenced = case.fleet.metric(0, "orderfleet_deliveries_total", FENCED).await;
    eprintln!(
        "injected: processes {pids:?} stopped in {ORDERS} calls, {closed} connections closed, woken when another had \
         taken all of them to their last step; the zombie was fenced at {fenced} orders"
    );
    case.assert_kept(ORDERS).await;
}
