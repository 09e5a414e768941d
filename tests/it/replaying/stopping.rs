//! Replays that come too early.

use mongodb::bson::{Document, doc};
use serde_json::json;

use super::{ACT, CHOSEN, fleet_with_letters, in_state, results, until_open};
use crate::operator::{read, run};

const ORDERS: usize = 12;
const FAILED: i32 = 1;
const PARTLY: i32 = 3;
const STOPPED: i32 = 7;

#[tokio::test]
async fn a_replay_that_comes_too_early_stops_after_the_first_order_and_leaves_the_others_alone() {
    let (mut case, ids) = fleet_with_letters(ORDERS).await;
    let fleet = &case.fleet;
    let before = fleet.dead_letters().await;
    let stopped = run(fleet, &[&CHOSEN[..], &ACT, &["--output", "json"]].concat()).await;
    assert_eq!(stopped.code, Some(STOPPED), "{}", stopped.stderr);
    let told = stopped.json();
    assert_eq!((&told["failed"], &told["waiting"]), (&json!(1), &json!(ORDERS - 1)), "{told}");
    let replay = told["replay"].as_str().unwrap();

    // The further failure of the first order is a dead letter of its own.
    until_open(fleet, ORDERS).await;
    let mut after = fleet.dead_letters().await;
    let touched = before.iter().filter(|(id, letter)| after.remove(*id).as_ref() != Some(*letter)).count();
    assert_eq!((touched, after.len()), (1, 1));
    let failed = in_state(&results(fleet, replay).await, "failed");
    assert_eq!(failed.len(), 1);

    fleet.sandbox.heal().await;
    let resumed = run(fleet, &["dlq", "replay", "--resume", replay, "--output", "json"]).await;
    assert_eq!(resumed.code, Some(FAILED), "one has failed: {}", resumed.stderr);
    let told = resumed.json();
    assert_eq!(
        (&told["done"], &told["failed"]),
        (&json!(ORDERS - 1), &json!(1)),
        "the choice is frozen: {told}"
    );
    assert_eq!(read(fleet, &[&CHOSEN[..], &ACT].concat()).await["done"], 1);

    case.asked_to_run(&ids, 2);
    case.asked_to_run(&failed, 3);
    case.assert_kept(ORDERS).await;
}

#[tokio::test]
async fn a_replay_whose_share_of_failures_is_allowed_goes_through_to_the_end() {
    let (mut case, ids) = fleet_with_letters(4).await;
    let fleet = &case.fleet;
    let ran = run(fleet, &[&CHOSEN[..], &ACT, &["--stop-at", "100", "--output", "json"]].concat()).await;
    assert_eq!(ran.code, Some(FAILED), "{}", ran.stderr);
    assert_eq!(ran.json()["failed"], 4);
    until_open(fleet, 4).await;
    case.asked_to_run(&ids, 2);
    case.assert_kept(0).await;
}

#[tokio::test]
async fn failures_count_however_a_batch_ends_and_an_interruption_does_not_forget_them() {
    const ORDERS: usize = 3;
    let (mut case, ids) = fleet_with_letters(ORDERS).await;
    case.fleet.sandbox.heal().await;
    case.fleet.until_drained(&[]).await;
    // Nobody works on what is begun.
    case.fleet.stop_workers().await;
    let fleet = &case.fleet;
    let short = ["--batch-timeout", "1s", "--output", "json"];
    let open = run(fleet, &[&CHOSEN[..], &ACT, &short].concat()).await;
    assert_eq!((open.code, &open.json()["begun"]), (Some(PARTLY), &json!(1)), "{}", open.stderr);
    let replay = open.json()["replay"].as_str().unwrap().to_owned();
    // As if the first order had failed again, and a second one been begun, just before an end without a word.
    let items = fleet.mongodb().await.collection::<Document>("replay_items");
    for (seq, fields) in [(0, doc! { "state": "failed" }), (1, doc! { "state": "begun", "gen": 2_i64 })] {
        let item = doc! { "_id": format!("{replay}.{seq:07}") };
        assert_eq!(items.update_one(item, doc! { "$set": fields }).await.unwrap().modified_count, 1);
    }
    let resume = ["dlq", "replay", "--resume", &replay];
    let stopped = run(fleet, &[&resume[..], &short].concat()).await;
    let told = stopped.json();
    assert_eq!(stopped.code, Some(STOPPED), "{}", stopped.stderr);
    assert_eq!(
        (&told["failed"], &told["begun"], &told["waiting"]),
        (&json!(1), &json!(1), &json!(1)),
        "{told}"
    );

    case.fleet.start_worker().await;
    let resumed = run(&case.fleet, &[&resume[..], &["--output", "json"]].concat()).await;
    assert_eq!((resumed.code, &resumed.json()["done"]), (Some(FAILED), &json!(2)), "{}", resumed.stderr);
    case.asked_to_run(&ids, 2);
    case.assert_kept(ORDERS).await;
}
