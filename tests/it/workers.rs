//! Workers that crash or are told to end with orders in hand: others finish them, once.

use futures_util::future::join_all;
use orderfleet_tests::{Fleet, Plan, order, until_equal};
use serde_json::json;

const STEPS: &str = "timeout_ms = 1_000\nquick_retries = 10\nbreaker_failures = 1_000";
const STEPS_IN_BATCHES: &str =
    "timeout_ms = 1_000\nquick_retries = 10\nbreaker_failures = 1_000\nbatch_max = 16";

/// Starts two workers, each with orders in hand that wait for a service that hangs until it is healed. The calls that are under
/// way then end, of unknown outcome.
async fn two_busy_workers(steps: &'static str) -> (Fleet, Vec<String>) {
    let plan = Plan { workers: 2, steps, ..Plan::default() };
    let fleet = Fleet::start_as(plan).await;
    fleet.sandbox.fault(json!({ "service": "*", "hang": true })).await;
    let keys: Vec<_> = (0..60).map(|n| format!("k{n}")).collect();
    let order = order();
    let ids = join_all(keys.iter().map(|key| fleet.client.accept(key, &order))).await;
    until_equal("both workers are busy", true, async || {
        fleet.in_hand(0).await > 10 && fleet.in_hand(1).await > 10
    })
    .await;
    (fleet, ids)
}

async fn are_done_by_another(steps: &'static str) {
    let (mut fleet, ids) = two_busy_workers(steps).await;
    fleet.workers[0].kill().await;
    assert!(fleet.stored("DONE").await < ids.len() as u64, "the crash came in time");
    fleet.sandbox.heal().await;
    fleet.client.until_done(&ids).await;
    fleet.settle(&[]).await;
    fleet.sandbox.assert_done(&ids).await;
}

#[tokio::test]
async fn orders_in_the_hands_of_a_crashed_worker_are_done_by_another() {
    are_done_by_another(STEPS).await;
}

#[tokio::test]
async fn dos_in_the_batches_of_a_crashed_worker_are_repeated_by_another_without_a_second_effect() {
    are_done_by_another(STEPS_IN_BATCHES).await;
}

#[tokio::test]
async fn a_worker_told_to_end_under_load_drains_and_leaves_nothing_undone() {
    let (mut fleet, ids) = two_busy_workers(STEPS).await;
    fleet.sandbox.heal().await;
    assert_eq!(fleet.workers[0].terminate().await, Some(0));
    fleet.client.until_done(&ids).await;
    fleet.settle(&[]).await;
    fleet.sandbox.assert_done(&ids).await;
}
