//! Replays that are interrupted, killed, and gone on with.

use mongodb::bson::{Bson, DateTime, Document, doc};
use orderfleet_domain::{Command, CommandKind};
use orderfleet_tests::Fleet;
use serde_json::{Value, json};

use super::{ACT, CHOSEN, count, fleet_with_letters, letters, replay_of, results, until_there};
use crate::operator::{JO, begin, interrupt, read, run, run_as};

const ORDERS: usize = 12;
const KILLS: usize = 3;
const INTERRUPTED: i32 = 130;
const CLOSED: &str = "ended.job";

#[tokio::test]
async fn a_replay_goes_on_after_ctrl_c_and_after_kills_with_each_dead_letter_once() {
    let (mut case, ids) = fleet_with_letters(ORDERS).await;
    let fleet = &case.fleet;
    fleet.sandbox.heal().await;
    fleet.sandbox.fault(json!({ "service": "accounting", "hang": true })).await;
    let replaying = begin(fleet, JO, &[&CHOSEN[..], &ACT].concat());
    until_there(fleet, doc! { CLOSED: { "$exists": true } }, |closed| closed == 1).await;
    let first = letters(fleet).await.find_one(doc! { CLOSED: { "$exists": true } }).await.unwrap().unwrap();
    let hangs = |order: &Value| order["gen"] == 2 && order["steps"][2]["state"] == "running";
    fleet.client.until_order(first.get_str("order_id").unwrap(), "hangs at its last step", hangs).await;

    interrupt(&replaying).await;
    let output = replaying.wait_with_output().await.unwrap();
    let (told, replay) = (String::from_utf8_lossy(&output.stderr), replay_of(fleet, JO).await.unwrap());
    assert_eq!(output.status.code(), Some(INTERRUPTED), "{told}");
    assert!(told.contains(&format!("next:  orderfleet dlq replay --resume {replay}\n")), "{told}");
    let closed = async || count(fleet, doc! { CLOSED: &replay }).await;
    assert_eq!(closed().await, 1, "the next batch waits for the first order");

    fleet.sandbox.heal().await;
    let resume = ["dlq", "replay", "--resume", &replay];
    for _ in 0..KILLS {
        let before = closed().await;
        let mut replaying = begin(fleet, JO, &[&resume[..], &["--rate", "10"]].concat());
        until_there(fleet, doc! { CLOSED: &replay }, |closed| closed > before).await;
        replaying.kill().await.unwrap();
    }
    assert!(closed().await < ORDERS as u64, "the kills came in time");
    assert_eq!(read(fleet, &resume).await["done"], ORDERS);
    let results = results(fleet, &replay).await;
    assert!(results.iter().all(|item| item["state"] == "done" && item["gen"] == 2), "{results:#?}");
    assert_eq!(closed().await, ORDERS as u64);

    let verified = read(fleet, &["log", "verify"]).await;
    assert_eq!(verified["open"].as_array().unwrap().len(), KILLS, "{verified:#}");
    case.asked_to_run(&ids, 2);
    case.assert_kept(ORDERS).await;
}

/// How far a replay had come with a dead letter when it was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Killed {
    Leased,
    Recorded,
    Published,
}

/// Leaves an item of a replay as a kill does.
async fn leave(fleet: &Fleet, replay: &str, seq: usize, item: &Value, killed: Killed) {
    let database = fleet.mongodb().await;
    let until = DateTime::from_millis(DateTime::now().timestamp_millis() + 60_000);
    let lease = doc! { "$set": { "lease": { "holder": replay, "until": until } } };
    let letter = doc! { "_id": item["letter"].as_str().unwrap() };
    assert_eq!(letters(fleet).await.update_one(letter, lease).await.unwrap().modified_count, 1);
    if killed >= Killed::Recorded {
        let items = database.collection::<Document>("replay_items");
        let begun = doc! { "$set": { "state": "begun", "gen": 2_i64 } };
        let updated = items.update_one(doc! { "_id": format!("{replay}.{seq:07}") }, begun).await.unwrap();
        assert_eq!(updated.modified_count, 1);
    }
    if killed == Killed::Published {
        let (order_id, kind) =
            (item["order_id"].as_str().unwrap().parse().unwrap(), CommandKind::Run { order: None });
        let account = "demo".parse().unwrap();
        let run = Command { order_id, account, generation: 2, fp: None, kind };
        fleet.broker().await.publish("orders.replay", &run.encode()).await;
    }
}

#[tokio::test]
async fn a_replay_goes_on_wherever_it_was_killed_and_begins_no_run_twice() {
    const ORDERS: usize = 5;
    let (mut case, ids) = fleet_with_letters(ORDERS).await;
    case.fleet.sandbox.heal().await;
    case.fleet.until_drained(&[]).await;
    case.fleet.stop_workers().await;
    let fleet = &case.fleet;
    // The first one is published for and closed, and nobody works on it.
    let mut replaying = begin(fleet, JO, &[&CHOSEN[..], &ACT].concat());
    until_there(fleet, doc! { CLOSED: { "$exists": true } }, |closed| closed == 1).await;
    replaying.kill().await.unwrap();
    let replay = replay_of(fleet, JO).await.unwrap();
    let items = results(fleet, &replay).await;
    for (seq, killed) in [(1, Killed::Leased), (2, Killed::Recorded), (3, Killed::Published)] {
        leave(fleet, &replay, seq, &items[seq], killed).await;
    }

    case.fleet.start_worker().await;
    let fleet = &case.fleet;
    let resume = ["dlq", "replay", "--resume", &replay, "--reason", "jo is out", "--output", "json"];
    let resumed = run_as(fleet, "sam", &resume).await;
    let done = resumed.json();
    assert_eq!((&done["done"], &done["refused"]), (&json!(ORDERS), &json!(0)), "{done}");
    assert_eq!(count(fleet, doc! { CLOSED: &replay }).await, ORDERS as u64);
    let by_sam = doc! { "ended.by": "sam", "ended.why": "jo is out" };
    assert_eq!(count(fleet, by_sam).await, ORDERS as u64 - 1, "the first was closed by jo");
    let log = read(fleet, &["log", "list"]).await;
    assert_eq!((&log[0]["who"], &log[0]["why"]), (&json!("sam"), &json!("jo is out")), "{log:#}");
    case.asked_to_run(&ids, 2);
    case.assert_kept(ORDERS).await;
}

#[tokio::test]
async fn a_replay_that_cannot_be_frozen_is_not_begun_and_the_log_says_so() {
    let (mut case, _) = fleet_with_letters(1).await;
    let fleet = &case.fleet;
    let before = fleet.dead_letters().await;
    let refuses_all = doc! { "collMod": "replays", "validator": { "never": { "$exists": true } } };
    fleet.mongodb().await.run_command(refuses_all).await.unwrap();
    let refused = run(fleet, &[&CHOSEN[..], &ACT].concat()).await;
    assert!(refused.code > Some(0) && refused.stdout.is_empty(), "{}", refused.stderr);
    let log = read(fleet, &["log", "list"]).await;
    let result = log[0]["result"].as_str().unwrap();
    assert!(log.as_array().unwrap().len() == 2 && result.starts_with("not begun: "), "{log:#}");
    assert_eq!(fleet.dead_letters().await, before);
    case.assert_kept(0).await;
}

#[tokio::test]
async fn a_dead_letter_whose_order_has_crashed_workers_since_it_was_published_for_is_left_open() {
    let (mut case, ids) = fleet_with_letters(1).await;
    case.fleet.sandbox.heal().await;
    case.fleet.until_drained(&[]).await;
    case.fleet.stop_workers().await;
    let mut replaying = begin(&case.fleet, JO, &[&CHOSEN[..], &ACT].concat());
    until_there(&case.fleet, doc! { CLOSED: { "$exists": true } }, |closed| closed == 1).await;
    replaying.kill().await.unwrap();
    // As if that was just before the letter was closed, and a message of the order has crashed workers since.
    let letters = letters(&case.fleet).await;
    let open = doc! { "$set": { "ended": Bson::Null, "lease": Bson::Null } };
    letters.update_one(doc! {}, open).await.unwrap();
    let mut crashed = letters.find_one(doc! {}).await.unwrap().unwrap();
    let crashed_id = format!("{}.crashed", ids[0]);
    crashed.extend(doc! { "_id": &crashed_id, "queue": "orders.dead.poison" });
    letters.insert_one(crashed).await.unwrap();

    case.fleet.start_worker().await;
    let fleet = &case.fleet;
    fleet.client.until_order(&ids[0], "is done", |order| order["status"] == "DONE").await;
    let replay = replay_of(fleet, JO).await.unwrap();
    assert_eq!(read(fleet, &["dlq", "replay", "--resume", &replay]).await["done"], 1);
    let items = results(fleet, &replay).await;
    assert!(items[0]["note"].as_str().unwrap().contains("was not closed"), "{items:#?}");
    assert_eq!(count(fleet, doc! { "ended": null }).await, 2);
    // No worker has made it, and the books would not balance with it.
    letters.delete_one(doc! { "_id": crashed_id }).await.unwrap();
    case.asked_to_run(&ids, 2);
    case.assert_kept(1).await;
}
