//! What an operator does with the CLI about single orders, and the record that it leaves.

use std::{fs, process::Stdio};

use futures_util::future::join_all;
use mongodb::bson::{Document, doc};
use orderfleet_domain::OrderId;
use orderfleet_tests::{Fleet, Plan, order, until};
use serde_json::{Value, json};

use crate::operator::{read, run};

/// The id of the order under a key, also before it was posted.
fn id_of(key: &str) -> String {
    OrderId::derive(&"eu1".parse().unwrap(), &"demo".parse().unwrap(), &key.parse().unwrap()).to_string()
}

/// Orders that hang at their second step until the sandbox is healed.
async fn fleet_that_hangs() -> Fleet {
    let plan = Plan { steps: "timeout_ms = 1_000\nquick_retries = 10", ..Plan::default() };
    let fleet = Fleet::start_as(plan).await;
    fleet.sandbox.fault(json!({ "service": "fulfilment", "hang": true })).await;
    fleet
}

async fn accept_hanging(fleet: &Fleet) -> String {
    let id = fleet.client.accept("k1", &order()).await;
    let hangs = |order: &Value| order["steps"][1]["state"] == "running";
    fleet.client.until_order(&id, "is at fulfilment", hangs).await;
    id
}

#[tokio::test]
async fn an_order_is_shown_with_everything_that_happened_to_it_and_nobody_in_person() {
    let mut fleet = Fleet::start().await;
    let id = fleet.client.accept("k1", &order()).await;
    fleet.client.until_ended(&id, "DONE").await;
    let report = read(&fleet, &["orders", "get", &id]).await;
    assert_eq!((&report["order_id"], &report["status"]), (&json!(id), &json!("DONE")), "{report:#}");
    let whats: Vec<_> = report["timeline"].as_array().unwrap().iter().map(|entry| &entry["what"]).collect();
    assert_eq!(whats, ["accepted", "stored", "step_done", "step_done", "step_done", "DONE"], "{report:#}");
    assert!(report["timeline"][2]["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{report:#}");
    assert_eq!(report["order"]["ship_to"]["name"], "***");

    let shown = run(&fleet, &["orders", "get", &id]).await;
    assert!(shown.stdout.starts_with(&format!("{id}  DONE, run 1\n")), "{}", shown.stdout);
    for text in [shown.stdout, report.to_string()] {
        assert!(!text.contains("A. Person") && !text.contains("Some Road"), "{text}");
    }
    let absent = run(&fleet, &["orders", "get", &id_of("absent")]).await;
    assert_eq!((absent.code, absent.stdout.as_str()), (Some(4), ""), "{}", absent.stderr);
    assert!(absent.stderr.contains("next:  "), "{}", absent.stderr);
    fleet.settle(&[]).await;
}

#[tokio::test]
async fn a_list_has_a_line_of_80_columns_for_each_order_and_says_when_nothing_matches() {
    let mut fleet = Fleet::start().await;
    let ids = [fleet.client.accept("k1", &order()).await, fleet.client.accept("k2", &order()).await];
    fleet.client.until_done(&ids).await;
    let listed = run(&fleet, &["orders", "list", "--oldest-first"]).await;
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    let lines: Vec<_> = listed.stdout.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("ORDER "), "{}", listed.stdout);
    assert!(lines.iter().all(|line| line.len() <= 80), "{}", listed.stdout);
    assert!(ids.iter().all(|id| listed.stdout.contains(id)), "{}", listed.stdout);
    let wide = run(&fleet, &["orders", "list", "--wide", "--account", "demo"]).await;
    assert!(wide.stdout.contains("demo"), "{}", wide.stdout);

    let none = run(&fleet, &["orders", "list", "--status", "held", "--output", "json"]).await;
    assert_eq!((none.code, none.stdout.as_str()), (Some(4), "[]\n"), "{}", none.stderr);
    assert_eq!(run(&fleet, &["orders", "list", "--status", "lost"]).await.code, Some(2));
    fleet.settle(&[]).await;
}

#[tokio::test]
async fn a_stuck_order_says_why_it_waits() {
    let mut fleet = fleet_that_hangs().await;
    let id = accept_hanging(&fleet).await;
    let stuck = read(&fleet, &["orders", "stuck", "--older-than", "0s"]).await;
    // Of the steps that are called on one write, the first.
    assert_eq!((&stuck[0]["order_id"], &stuck[0]["step"]), (&json!(id), &json!("inventory")), "{stuck:#}");
    // A worker has it in hand for longer than its lease lasts.
    let waits_for = stuck[0]["waiting"]["for"].as_str().unwrap();
    assert!(["worker", "message"].contains(&waits_for) && stuck[0]["attempts_max"] == 8, "{stuck:#}");
    assert_eq!(run(&fleet, &["orders", "stuck", "--older-than", "1h"]).await.code, Some(4));
    fleet.sandbox.heal().await;
    fleet.client.until_ended(&id, "DONE").await;
    fleet.settle(&[]).await;
}

#[tokio::test]
async fn a_cancel_says_what_will_come_of_it_and_is_honoured() {
    let mut fleet = fleet_that_hangs().await;
    let id = accept_hanging(&fleet).await;
    let cancel = ["orders", "cancel", &id, "--reason", "asked by phone"];
    let planned = read(&fleet, &[&cancel[..], &["--dry-run"]].concat()).await;
    assert_eq!((&planned["outlook"], &planned["requested"]), (&json!("will_be_undone"), &json!(false)));
    let foreign = run(&fleet, &[&cancel[..], &["--account", "other"]].concat()).await;
    assert_eq!(foreign.code, Some(1), "{}", foreign.stderr);

    let asked = read(&fleet, &cancel).await;
    assert_eq!((&asked["outlook"], &asked["requested"]), (&json!("will_be_undone"), &json!(true)));
    fleet.client.until_order(&id, "shows the request", |order| order["cancel"] == "requested").await;
    fleet.sandbox.heal().await;
    let order = fleet.client.until_ended(&id, "UNDONE").await;
    assert_eq!((&order["cancel"], &order["final"]), (&json!("cancelled"), &json!(true)), "{order:#}");
    let again = read(&fleet, &cancel).await;
    assert_eq!((&again["outlook"], &again["requested"]), (&json!("undone_already"), &json!(false)));

    let done = fleet.client.accept("done", &self::order()).await;
    fleet.client.until_ended(&done, "DONE").await;
    let late = run(&fleet, &["orders", "cancel", &done, "--reason", "x"]).await;
    assert!(late.code == Some(1) && late.stderr.contains("too late"), "{}", late.stderr);
    let log = read(&fleet, &["log", "list"]).await;
    let whats: Vec<_> =
        log.as_array().unwrap().iter().map(|entry| (&entry["what"], &entry["phase"])).collect();
    let (what, begin, end) = (json!("orders.cancel"), json!("begin"), json!("end"));
    assert_eq!(whats, [(&what, &end), (&what, &begin)], "only what was asked for is recorded");
    fleet.settle(&[]).await;
}

#[tokio::test]
async fn a_cancel_of_an_order_that_is_not_stored_yet_needs_its_account() {
    let mut fleet = Fleet::start_as(Plan { workers: 0, ..Plan::default() }).await;
    let id = id_of("k1");
    let nobodys = run(&fleet, &["orders", "cancel", &id, "--reason", "posted twice"]).await;
    assert_eq!(nobodys.code, Some(4), "{}", nobodys.stderr);
    let foreign = run(&fleet, &["orders", "cancel", &id, "--reason", "x", "--account", "other"]).await;
    assert_eq!(foreign.code, Some(1), "{}", foreign.stderr);
    let asked =
        read(&fleet, &["orders", "cancel", &id, "--reason", "posted twice", "--account", "demo"]).await;
    assert_eq!(asked["outlook"], "waits_for_order");
    fleet.client.accept("k1", &order()).await;
    fleet.start_worker().await;
    let order = fleet.client.until_order(&id, "has ended", |order| order["cancel_requested"] == true).await;
    assert_eq!(order["order_id"], json!(id));
    until("the order ends", async || {
        let status = fleet.client.order(&id).await.json()["status"].clone();
        if status == "UNDONE" || status == "DONE" { Ok(()) } else { Err(status) }
    })
    .await;
    fleet.settle(&[]).await;
}

/// An order whose undo was refused for good.
async fn accept_held(fleet: &Fleet) -> String {
    fleet.sandbox.fault(json!({ "service": "fulfilment", "refuse": true })).await;
    fleet.sandbox.fault(json!({ "service": "inventory", "refuse": true, "verb": "undo" })).await;
    let id = fleet.client.accept("held", &order()).await;
    fleet.client.until_ended(&id, "HELD").await;
    id
}

#[tokio::test]
async fn a_held_order_goes_on_when_a_person_has_decided_and_the_log_tells_who_and_why() {
    let mut fleet = Fleet::start_as(Plan { roles: Plan::ALL_ROLES, ..Plan::default() }).await;
    let id = accept_held(&fleet).await;
    let held = read(&fleet, &["orders", "list", "--status", "held"]).await;
    assert_eq!((held.as_array().unwrap().len(), &held[0]["order_id"]), (1, &json!(id)));
    let report = read(&fleet, &["orders", "get", &id]).await;
    assert_eq!(report["waiting"]["for"], "person", "{report:#}");

    let resolve = ["orders", "resolve", &id, "--reason", "stock is back"];
    let shown = read(&fleet, &[&resolve[..], &["--decision", "discard"]].concat()).await;
    assert_eq!((&shown["requested"], &shown["hold"]["id"]), (&json!(false), &held[0]["hold"]["id"]));
    let log = run(&fleet, &["log", "list", "--output", "json"]).await;
    assert_eq!((log.code, log.stdout.as_str()), (Some(4), "[]\n"), "nothing was done yet");

    fleet.sandbox.heal().await;
    let wait = ["--decision", "release", "--wait"];
    let released = read(&fleet, &[&resolve[..], &wait[..]].concat()).await;
    assert_ne!(released["applied"]["status"], "HELD", "{released:#}");
    fleet.client.until_ended(&id, "UNDONE").await;
    let log = read(&fleet, &["log", "list"]).await;
    assert_eq!(log.as_array().unwrap().len(), 2, "{log:#}");
    let target = format!("hold {} of order {id} of demo", held[0]["hold"]["id"].as_str().unwrap());
    for (entry, phase) in log.as_array().unwrap().iter().zip(["end", "begin"]) {
        assert_eq!((&entry["who"], &entry["why"]), (&json!("jo"), &json!("stock is back")), "{log:#}");
        assert_eq!((&entry["what"], &entry["phase"]), (&json!("orders.resolve.release"), &json!(phase)));
        assert_eq!(entry["target"], target);
    }
    let gone = run(&fleet, &[&resolve[..], &wait[..]].concat()).await;
    assert_eq!(gone.code, Some(4), "{}", gone.stderr);
    fleet.settle(&[]).await;
}

#[tokio::test]
async fn a_held_order_that_is_discarded_ends_for_good() {
    let mut fleet = Fleet::start_as(Plan { roles: Plan::ALL_ROLES, ..Plan::default() }).await;
    let id = accept_held(&fleet).await;
    let decided = ["--decision", "discard", "--reason", "sent back by hand", "--yes", "--wait"];
    let resolved = read(&fleet, &[&["orders", "resolve", &id][..], &decided[..]].concat()).await;
    assert_eq!(
        (&resolved["applied"]["status"], &resolved["applied"]["final"]),
        (&json!("UNDONE"), &json!(true))
    );
    fleet.settle(&[]).await;
}

#[tokio::test]
async fn a_watch_waits_for_an_order_that_is_not_there_yet_and_ends_with_it() {
    let mut fleet = Fleet::start_as(Plan { workers: 0, ..Plan::default() }).await;
    let id = id_of("k1");
    assert_eq!(run(&fleet, &["orders", "watch", "k1"]).await.code, Some(2), "that is no order id");
    let never = run(&fleet, &["orders", "watch", &id, "--timeout", "0s"]).await;
    assert_eq!((never.code, never.stdout.as_str()), (Some(4), ""), "{}", never.stderr);

    let arguments =
        ["orders", "watch", &id, "--output", "jsonl", "--timeout", "60s", "--config", "orderfleet.toml"];
    let mut watch = fleet.cli(&arguments);
    let watching = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(fleet.client.accept("k1", &order()).await, id);
    fleet.start_worker().await;
    let output = watching.wait_with_output().await.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["order_id"], &last["status"]), (&json!(id), &json!("DONE")), "{stdout}");
    fleet.settle(&[]).await;
}

#[tokio::test]
async fn a_watch_of_what_is_held_says_so_and_does_not_wait() {
    let fleet = Fleet::start_as(Plan { roles: Plan::ALL_ROLES, ..Plan::default() }).await;
    let id = accept_held(&fleet).await;
    let ran = run(&fleet, &["orders", "watch", &id]).await;
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(ran.stdout.contains("HELD") && ran.stdout.contains("held at inventory"), "{}", ran.stdout);
    let all = run(&fleet, &["orders", "watch"]).await;
    assert_eq!(all.code, Some(3), "{}", all.stderr);
    assert!(all.stdout.contains(&id), "{}", all.stdout);
}

/// Four operators ask for a cancel at once.
async fn fleet_with_a_log() -> Fleet {
    let fleet = Fleet::start_as(Plan { workers: 0, ..Plan::default() }).await;
    let ids: Vec<_> = (0..4).map(|number| id_of(&format!("k{number}"))).collect();
    join_all(ids.iter().map(|id| async {
        let asked = read(&fleet, &["orders", "cancel", id, "--reason", "a test", "--account", "demo"]).await;
        assert_eq!(asked["requested"], true);
    }))
    .await;
    fleet
}

async fn entries(fleet: &Fleet) -> mongodb::Collection<Document> {
    fleet.mongodb().await.collection("operator_log")
}

async fn assert_fault(fleet: &Fleet, what: &str) {
    let ran = run(fleet, &["log", "verify"]).await;
    assert!(ran.code == Some(1) && ran.stderr.contains(what), "{what}: {}{}", ran.stdout, ran.stderr);
}

#[tokio::test]
async fn operators_at_once_keep_one_chain_and_what_is_changed_in_it_shows() {
    let fleet = fleet_with_a_log().await;
    let verified = read(&fleet, &["log", "verify"]).await;
    assert_eq!(
        (&verified["entries"], &verified["fault"], &verified["open"]),
        (&json!(8), &json!(null), &json!([]))
    );

    let log = entries(&fleet).await;
    let (third, original) =
        (doc! { "_id": 3_i64 }, log.find_one(doc! { "_id": 3_i64 }).await.unwrap().unwrap());
    log.update_one(third.clone(), doc! { "$set": { "why": "another" } }).await.unwrap();
    assert_fault(&fleet, "entry 3 was changed").await;
    log.delete_one(third.clone()).await.unwrap();
    assert_fault(&fleet, "entry 3 is missing").await;
    log.insert_one(&original).await.unwrap();
    let mut inserted = original.clone();
    inserted.extend(doc! { "_id": 3.5, "act": "another" });
    log.insert_one(inserted).bypass_document_validation(true).await.unwrap();
    assert_fault(&fleet, "entry 3.5 is no entry").await;
    log.delete_one(doc! { "_id": 3.5 }).await.unwrap();
    assert_eq!(read(&fleet, &["log", "verify"]).await["entries"], 8);
}

#[tokio::test]
async fn an_end_that_is_cut_off_shows_by_the_head_that_was_noted_and_leaves_an_act_without_an_end() {
    let fleet = fleet_with_a_log().await;
    let verified = read(&fleet, &["log", "verify"]).await;
    let (seq, hash) = (&verified["head"]["seq"], verified["head"]["hash"].as_str().unwrap());
    let head = format!("{seq}:{hash}");
    read(&fleet, &["log", "verify", "--expect", &head]).await;
    entries(&fleet).await.delete_one(doc! { "_id": 8_i64 }).await.unwrap();

    let ran = run(&fleet, &["log", "verify"]).await;
    assert!(ran.code == Some(0) && ran.stderr.contains("has no end"), "{}{}", ran.stdout, ran.stderr);
    let ran = run(&fleet, &["log", "verify", "--expect", &head]).await;
    assert!(ran.code == Some(1) && ran.stderr.contains("cut off"), "{}{}", ran.stdout, ran.stderr);
}

#[tokio::test]
async fn the_log_is_exported_whole_and_over_nothing() {
    let fleet = fleet_with_a_log().await;
    let told = read(&fleet, &["log", "export", "out.jsonl"]).await;
    assert_eq!((&told["entries"], &told["file"]), (&json!(8), &json!("out.jsonl")), "{told}");
    let text = fs::read_to_string(fleet.folder().join("out.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let numbers: Vec<_> = lines.iter().map(|line| line["seq"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (1..=8).collect::<Vec<_>>());
    for pair in lines.windows(2) {
        assert_eq!(pair[0]["hash"], pair[1]["prev"]);
    }
    assert_eq!(run(&fleet, &["log", "export", "out.jsonl"]).await.code, Some(1));
    assert_eq!(run(&fleet, &["log", "export", "-"]).await.stdout, text);
}
