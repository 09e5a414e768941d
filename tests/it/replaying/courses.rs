//! What a replay does about an order, by how it stands: further runs, releases, nothing.

use std::collections::BTreeMap;

use mongodb::bson::{Document, doc};
use orderfleet_tests::{Fleet, Plan, order};
use serde_json::{Value, json};

use super::{ACT, fleet_with_letters, letters, order_to, replay_of, results, until_open};
use crate::{
    operator::{JO, Ran, begin, read, run},
    poison::command,
};

const POISON: &str = "orders.dead.poison";
const ALL: [&str; 3] = ["dlq", "replay", "--all"];
const PARTLY: i32 = 3;
const STOPPED: i32 = 7;

/// The holds in force, by order.
async fn holds(fleet: &Fleet, ids: &[String]) -> BTreeMap<String, String> {
    let orders = fleet.mongodb().await.collection::<Document>("orders");
    let mut holds = BTreeMap::new();
    for id in ids {
        let order = orders.find_one(doc! { "_id": id }).await.unwrap().unwrap();
        let hold = order.get_document("hold").unwrap().get_str("id").unwrap().to_owned();
        holds.insert(id.clone(), hold);
    }
    holds
}

#[tokio::test]
async fn undone_orders_start_another_run_and_held_ones_go_on_where_they_stand() {
    let (mut case, undone) = fleet_with_letters(3).await;
    case.fleet.sandbox.heal().await;
    case.fleet.sandbox.fault(json!({ "service": "fulfilment", "refuse": true })).await;
    case.fleet.sandbox.fault(json!({ "service": "inventory", "refuse": true, "verb": "undo" })).await;
    let held = case.place_all("held", 2, |number| order_to("GB", number)).await;
    let fleet = &case.fleet;
    until_open(fleet, undone.len() + held.len()).await;
    let holds = holds(fleet, &held).await;
    fleet.sandbox.heal().await;

    let planned = read(fleet, &ALL).await;
    let course =
        |group: &Value| (group["what"].as_str().unwrap().to_owned(), group["count"].as_u64().unwrap());
    let courses: Vec<_> = planned["groups"].as_array().unwrap().iter().map(course).collect();
    let expected = [("starts run 2, from the first step", 3), ("goes on being undone where it stands", 2)];
    assert_eq!(courses, expected.map(|(what, count)| (what.to_owned(), count)), "{planned:#}");
    let shown = run(fleet, &ALL).await;
    assert!(expected.iter().all(|(what, _)| shown.stdout.contains(what)), "{}", shown.stdout);

    let done = read(fleet, &[&ALL[..], &ACT].concat()).await;
    assert_eq!((&done["done"], &done["failed"]), (&json!(5), &json!(0)), "{done}");
    for id in &held {
        let order = fleet.client.order(id).await.json();
        assert_eq!((&order["status"], &order["gen"]), (&json!("UNDONE"), &json!(1)), "{order:#}");
    }
    case.asked_to_run(&undone, 2);
    for (id, hold) in holds {
        case.asked.releases.insert(id.clone(), [hold.clone()].into());
        case.asked.releases_confirmed.insert(id, [hold].into());
    }
    case.assert_kept(undone.len()).await;
}

#[tokio::test]
async fn two_dead_letters_of_one_order_bring_it_back_once() {
    let plan = Plan { roles: Plan::ALL_ROLES, steps: "quick_retries = 0", ..Plan::default() };
    let mut fleet = Fleet::start_as(plan).await;
    fleet.sandbox.fault(json!({ "service": "fulfilment", "error_rate": 1.0 })).await;
    let id = fleet.client.accept("k1", &order()).await;
    let failed_once = |order: &Value| order["steps"][1]["attempts"].as_u64() >= Some(1);
    fleet.client.until_order(&id, "waits", failed_once).await;
    // The message that crashed workers, and then the one that the order waited with, which finds the hold.
    fleet.broker().await.publish(POISON, command("k1").as_bytes()).await;
    fleet.client.until_ended(&id, "HELD").await;
    fleet.sandbox.heal().await;
    until_open(&fleet, 2).await;

    let ran = run(&fleet, &[&ALL[..], &ACT, &["--output", "json"]].concat()).await;
    assert_eq!(ran.code, Some(PARTLY), "{}", ran.stderr);
    assert_eq!((&ran.json()["done"], &ran.json()["refused"]), (&json!(1), &json!(1)), "{}", ran.stdout);
    fleet.client.until_ended(&id, "DONE").await;
    until_open(&fleet, 0).await;
    fleet.settle(&[]).await;
    fleet.sandbox.assert_done(&[id]).await;
}

#[tokio::test]
async fn a_dead_letter_that_no_message_can_be_made_for_is_refused_and_stays_open() {
    let (mut case, ids) = fleet_with_letters(1).await;
    let fleet = &case.fleet;
    fleet.sandbox.heal().await;
    let letters = letters(fleet).await;
    letters.update_one(doc! {}, doc! { "$unset": { "account": 1 } }).await.unwrap();
    let planned = read(fleet, &ALL).await;
    assert_eq!(planned["groups"][0]["course"], "nothing", "{planned:#}");
    let ran = run(fleet, &[&ALL[..], &ACT, &["--output", "json"]].concat()).await;
    assert_eq!((ran.code, &ran.json()["refused"]), (Some(PARTLY), &json!(1)), "{}", ran.stdout);
    let results = results(fleet, ran.json()["replay"].as_str().unwrap()).await;
    let note = results[0]["note"].as_str().unwrap();
    assert!(note.contains("names no account"), "{note}");

    until_open(fleet, 1).await;
    letters.update_one(doc! {}, doc! { "$set": { "account": "demo" } }).await.unwrap();
    assert_eq!(read(fleet, &[&ALL[..], &ACT].concat()).await["done"], 1);
    case.asked_to_run(&ids, 2);
    case.assert_kept(1).await;
}

#[tokio::test]
async fn an_order_that_was_cancelled_since_is_not_run_again() {
    let (mut case, ids) = fleet_with_letters(2).await;
    let fleet = &case.fleet;
    fleet.sandbox.heal().await;
    assert_eq!(fleet.client.cancel(&ids[0]).await.status, 202);
    fleet.client.until_order(&ids[0], "is final", |order| order["final"] == true).await;
    let ran = run(fleet, &[&ALL[..], &ACT, &["--output", "json"]].concat()).await;
    assert_eq!(ran.code, Some(PARTLY), "{}", ran.stderr);
    assert_eq!((&ran.json()["done"], &ran.json()["refused"]), (&json!(1), &json!(1)), "{}", ran.stdout);
    let cancelled = fleet.client.order(&ids[0]).await.json();
    assert_eq!((&cancelled["status"], &cancelled["gen"]), (&json!("UNDONE"), &json!(1)), "{cancelled:#}");

    case.cancelled(&ids[..1]);
    case.asked_to_run(&ids[1..], 2);
    case.assert_kept(1).await;
}

#[tokio::test]
async fn a_run_whose_message_crashes_workers_before_it_begins_is_not_waited_for() {
    let (mut case, ids) = fleet_with_letters(1).await;
    case.fleet.sandbox.heal().await;
    case.fleet.until_drained(&[]).await;
    case.fleet.stop_workers().await;
    let replaying = begin(&case.fleet, JO, &[&ALL[..], &ACT].concat());
    until_open(&case.fleet, 0).await;
    let broker = case.fleet.broker().await;
    let sent = broker.take_all("orders.replay").await;
    broker.publish(POISON, &sent[0].body).await;
    case.fleet.start_worker().await;
    let stopped: Ran = replaying.wait_with_output().await.unwrap().into();
    assert_eq!(stopped.code, Some(STOPPED), "{}", stopped.stderr);
    let fleet = &case.fleet;
    let items = results(fleet, &replay_of(fleet, JO).await.unwrap()).await;
    assert_eq!(items[0]["note"], "its message is a dead letter again", "{items:#?}");

    until_open(fleet, 1).await;
    assert_eq!(read(fleet, &[&ALL[..], &ACT].concat()).await["done"], 1);
    let order = fleet.client.order(&ids[0]).await.json();
    assert_eq!((&order["status"], &order["gen"]), (&json!("DONE"), &json!(2)), "{order:#}");
}
