//! From "what failed?" to "fixed".

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use orderfleet_tests::{
    Fleet,
    chaos::{self, Ledgers},
};
use serde_json::{Value, json};

use super::{ACT, CHOSEN, fleet_with_letters, replay_of};
use crate::operator::{JO, read, run};

const ORDERS: usize = 40;
const NONE: i32 = 4;
const USAGE: i32 = 2;

/// Everything that a replay could change.
#[derive(Debug, PartialEq)]
struct World {
    orders: Vec<Document>,
    letters: BTreeMap<String, Document>,
    messages: BTreeMap<String, u32>,
    effects: Ledgers,
}

async fn world(fleet: &Fleet) -> World {
    let orders = fleet.mongodb().await.collection("orders");
    World {
        orders: orders.find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap().try_collect().await.unwrap(),
        letters: fleet.dead_letters().await,
        messages: fleet.broker().await.depths().await,
        effects: chaos::ledgers(&fleet.sandbox).await,
    }
}

/// The groups of a forecast: what would become of how many.
async fn forecast(fleet: &Fleet) -> Vec<(String, usize)> {
    let groups = read(fleet, &[&CHOSEN[..], &["--forecast"]].concat()).await;
    let group = |group: &Value| {
        let count = usize::try_from(group["count"].as_u64().unwrap()).unwrap();
        (group["verdict"].as_str().unwrap().to_owned(), count)
    };
    groups.as_array().unwrap().iter().map(group).collect()
}

#[tokio::test]
async fn orders_that_failed_alike_are_brought_to_their_end_once_the_service_is_mended() {
    let (mut case, ids) = fleet_with_letters(ORDERS).await;
    let fleet = &case.fleet;
    let stats = read(fleet, &["dlq", "stats"]).await;
    assert_eq!(stats.as_array().unwrap().len(), 1, "one failure fingerprint: {stats:#}");
    assert_eq!((&stats[0]["count"], &stats[0]["step"]), (&json!(ORDERS), &json!("fulfilment")));
    assert_eq!(stats[0]["class"], "attempts_exhausted");

    fleet.until_drained(&[]).await;
    let before = world(fleet).await;
    assert_eq!(forecast(fleet).await, [("fail_same".to_owned(), ORDERS)]);
    fleet.sandbox.heal().await;
    assert_eq!(forecast(fleet).await, [("finish".to_owned(), ORDERS)]);
    let planned = read(fleet, &CHOSEN).await;
    let group = &planned["groups"][0];
    assert_eq!((&planned["count"], &group["count"]), (&json!(ORDERS), &json!(ORDERS)), "{planned:#}");
    assert_eq!(
        (&group["course"], &group["what"]),
        (&json!("run"), &json!("starts run 2, from the first step"))
    );
    let shown = run(fleet, &CHOSEN).await;
    assert!(shown.stdout.starts_with("FINGERPRINT"), "{}", shown.stdout);
    assert!(shown.stderr.contains(" of the database "), "{}", shown.stderr);
    // The operator log takes no such reason: there is no replay without a record.
    let too_long = "x".repeat(2_000);
    let refused = run(fleet, &[&CHOSEN[..], &["--yes", "--reason", &too_long]].concat()).await;
    assert_ne!(refused.code, Some(0), "{}", refused.stdout);
    assert_eq!(replay_of(fleet, JO).await, None);
    assert_eq!(world(fleet).await, before, "forecasts, plans and what is not recorded change nothing");
    assert_eq!(run(fleet, &["log", "list"]).await.code, Some(NONE), "and are not recorded");

    let plan = planned["plan"].as_str().unwrap();
    let done = read(fleet, &[&CHOSEN[..], &ACT, &["--expect", plan]].concat()).await;
    assert_eq!((&done["done"], &done["failed"], &done["refused"]), (&json!(ORDERS), &json!(0), &json!(0)));
    let again = run(fleet, &[&CHOSEN[..], &ACT].concat()).await;
    assert_eq!(
        (again.code, again.stdout.as_str()),
        (Some(NONE), "FINGERPRINT  QUEUE  CLASS  COUNT  WOULD\n"),
        "{}",
        again.stderr
    );
    let empty = run(fleet, &[&CHOSEN[..], &["--output", "json"]].concat()).await;
    assert_eq!((empty.code, &empty.json()["count"]), (Some(NONE), &json!(0)), "{}", empty.stderr);
    let empty = run(fleet, &[&CHOSEN[..], &["--forecast", "--output", "json"]].concat()).await;
    assert_eq!((empty.code, empty.json()), (Some(NONE), json!([])), "{}", empty.stderr);
    assert_eq!(run(fleet, &[&CHOSEN[..], &["--limit", "0"]].concat()).await.code, Some(USAGE));
    assert_eq!(run(fleet, &["dlq", "stats"]).await.code, Some(NONE));

    let replay = done["replay"].as_str().unwrap();
    assert_recorded(&read(fleet, &["log", "list"]).await, replay);
    case.asked_to_run(&ids, 2);
    case.assert_kept(ORDERS).await;
}

/// Who did what, why, to which dead letters, and what came of it.
fn assert_recorded(log: &Value, replay: &str) {
    let entries = log.as_array().unwrap();
    assert_eq!(entries.len(), 2, "{log:#}");
    for (entry, phase) in entries.iter().zip(["end", "begin"]) {
        assert_eq!((&entry["what"], &entry["phase"]), (&json!("dlq.replay"), &json!(phase)), "{log:#}");
        assert_eq!((&entry["who"], &entry["why"]), (&json!("jo"), &json!("the carrier is back")));
        assert_eq!(entry["target"], format!("replay {replay}: step=fulfilment"));
    }
    let result = format!("ended: {ORDERS} done, 0 failed, 0 refused, 0 begun, 0 waiting");
    assert_eq!(entries[0]["result"], result);
}
