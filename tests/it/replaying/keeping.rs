//! Dead letters that are looked at, given up, carried away and brought back: none is lost or changed by it.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use mongodb::bson::{Bson, Document, doc};
use orderfleet_tests::{Fleet, Plan};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    time::timeout,
};

use super::{ACT, CHOSEN, COUNTRY, STEPS, fleet_with_letters, letters, order_to, until_open};
use crate::operator::{JO, command, read, run};

const QUEUE: &str = "orders.dead.fulfilment";
const NONE: i32 = 4;
const TRIES: usize = 30;

#[tokio::test]
async fn peeking_leaves_a_queue_and_what_is_parked_of_it_as_they_were() {
    const LETTERS: usize = 5;
    let mut fleet = Fleet::start_as(Plan { steps: STEPS, ..Plan::default() }).await;
    let broker = fleet.broker().await;
    let tap = broker.tap("orders.dlx", "dead.fulfilment").await;
    fleet.sandbox.fault(json!({ "service": "fulfilment", "error_country": COUNTRY })).await;
    let mut published = Vec::new();
    for number in 0..LETTERS {
        fleet.client.accept(&format!("k{number}"), &order_to(COUNTRY, number)).await;
        // One by one: two that are published at once may come to two queues in two orders.
        published.extend(tap.take(1).await);
    }
    fleet.settle(&[(QUEUE, 5)]).await;
    for _ in 0..3 {
        let peeked = read(&fleet, &["dlq", "peek", "fulfilment"]).await;
        let told = (&peeked["waiting"], &peeked["parked"], &peeked["consumers"]);
        assert_eq!(told, (&json!(LETTERS), &json!(0), &json!(0)), "{peeked}");
    }
    assert_eq!(broker.depths().await, BTreeMap::from([(QUEUE.to_owned(), 5)]));
    assert_eq!(broker.take_all(QUEUE).await, published, "in their order, as they came");
}

#[tokio::test]
async fn looking_at_parked_dead_letters_changes_nothing_about_them() {
    let (mut case, _) = fleet_with_letters(3).await;
    let fleet = &case.fleet;
    fleet.until_drained(&[]).await;
    let before = fleet.dead_letters().await;
    let id = before.keys().next().unwrap();
    for arguments in [
        &["dlq", "peek", "fulfilment"][..],
        &["dlq", "list"],
        &["dlq", "stats"],
        &["dlq", "show", id],
        &["dlq", "discard", "--all"],
    ] {
        read(fleet, arguments).await;
    }
    assert_eq!(fleet.dead_letters().await, before);
    assert_eq!(run(fleet, &["log", "list"]).await.code, Some(NONE));
    case.assert_kept(0).await;
}

#[tokio::test]
async fn a_dead_letter_that_is_given_up_is_kept_with_its_reason_and_never_replayed() {
    let (mut case, ids) = fleet_with_letters(2).await;
    let fleet = &case.fleet;
    fleet.sandbox.heal().await;
    let wanted = format!("order={}", ids[0]);
    let discard = ["dlq", "discard", "--where", &wanted, "--yes", "--reason", "bought elsewhere"];
    let done = read(fleet, &discard).await;
    assert_eq!(done["done"]["discarded"], 1, "{done}");
    assert_eq!(run(fleet, &discard).await.code, Some(NONE));
    let found = read(fleet, &["dlq", "list", "--where", "is=ended"]).await;
    let ended = &found[0]["ended"];
    assert_eq!((&found[0]["order_id"], &ended["how"]), (&json!(ids[0]), &json!("discarded")), "{found:#}");
    assert_eq!((&ended["by"], &ended["why"]), (&json!("jo"), &json!("bought elsewhere")));

    // Not even where it is asked for by name.
    let any = format!("{wanted} and is=any");
    let by_name = ["dlq", "replay", "--where", &any, "--yes", "--reason", "x"];
    assert_eq!(run(fleet, &by_name).await.code, Some(NONE));
    assert_eq!(read(fleet, &[&CHOSEN[..], &ACT].concat()).await["done"], 1);
    assert_eq!(fleet.client.order(&ids[0]).await.json()["status"], "UNDONE");
    case.asked_to_run(&ids[1..], 2);
    case.assert_kept(1).await;
}

/// The dead letters, without those who have them in hand.
async fn kept(fleet: &Fleet) -> BTreeMap<String, Document> {
    let mut letters = fleet.dead_letters().await;
    for letter in letters.values_mut() {
        letter.insert("lease", Bson::Null);
    }
    letters
}

#[tokio::test]
async fn what_was_exported_and_lost_is_imported_and_replayed() {
    const LETTERS: usize = 3;
    let (mut case, ids) = fleet_with_letters(LETTERS).await;
    let fleet = &case.fleet;
    fleet.sandbox.heal().await;
    fleet.until_drained(&[]).await;
    let before = kept(fleet).await;
    read(fleet, &["dlq", "export", "letters.jsonl", "--reveal", "--reason", "a copy"]).await;
    assert_eq!(kept(fleet).await, before, "an export takes nothing away");
    letters(fleet).await.delete_many(doc! {}).await.unwrap();
    assert_eq!(run(fleet, &["dlq", "list"]).await.code, Some(NONE));

    let import = ["dlq", "import", "letters.jsonl"];
    assert_eq!(read(fleet, &import).await["new"], LETTERS);
    assert_eq!(fleet.dead_letters().await.len(), 0, "it was only planned");
    for new in [LETTERS, 0] {
        let imported = read(fleet, &[&import[..], &["--yes", "--reason", "lost"]].concat()).await;
        assert_eq!((&imported["new"], &imported["known"]), (&json!(new), &json!(LETTERS - new)));
    }
    assert_eq!(kept(fleet).await, before);
    assert_eq!(read(fleet, &[&CHOSEN[..], &ACT].concat()).await["done"], LETTERS);
    case.asked_to_run(&ids, 2);
    case.assert_kept(LETTERS).await;
}

#[tokio::test]
async fn a_watch_shows_a_dead_letter_when_its_order_has_failed() {
    let (mut case, mut ids) = fleet_with_letters(1).await;
    let mut watch = command(&case.fleet, JO, &["dlq", "watch", "--output", "jsonl"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    // It looks from its start on: orders fail until one is seen.
    let line = loop {
        let key = format!("watched-{}-", ids.len());
        ids.extend(case.place_all(&key, 1, |number| order_to(COUNTRY, number)).await);
        if let Ok(line) = timeout(Duration::from_secs(2), lines.next_line()).await {
            break line.unwrap().unwrap();
        }
        assert!(ids.len() < TRIES, "nothing was printed");
    };
    let letter: Value = serde_json::from_str(&line).unwrap();
    assert!(ids[1..].iter().any(|id| letter["order_id"] == *id), "{letter:#}");
    assert_eq!((&letter["queue"], &letter["class"]), (&json!("fulfilment"), &json!("attempts_exhausted")));
    watch.kill().await.unwrap();
    until_open(&case.fleet, ids.len()).await;
    case.assert_kept(0).await;
}
