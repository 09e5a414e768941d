//! `orderfleet dlq` on a whole fleet: from orders that failed at a service to orders that are done, whoever is interrupted or
//! killed meanwhile.

mod courses;
mod editing;
mod interrupted;
mod keeping;
mod many;
mod stopping;
mod story;
mod together;

use std::time::Duration;

use mongodb::{
    Collection,
    bson::{Document, doc},
};
use orderfleet_tests::{Fleet, Plan, order_of, until_within};
use serde_json::{Value, json};

use crate::{case::Case, operator::read};

/// Fulfilment answers orders to this country with an error.
const COUNTRY: &str = "IE";
const CHOSEN: [&str; 4] = ["dlq", "replay", "--where", "step=fulfilment"];
const ACT: [&str; 3] = ["--yes", "--reason", "the carrier is back"];
const STEPS: &str = "attempts_max = 1\nquick_retries = 1\nbreaker_failures = 1000\ntimeout_ms = 30000";
/// For a thousand orders, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// An order of the tests' own making.
fn order_to(country: &str, number: usize) -> Value {
    let quantity = u32::try_from(1 + number % 5).unwrap();
    let mut order = order_of(&format!("SKU{}", number % 7), quantity, "2.55");
    order["ship_to"]["country"] = json!(country);
    order
}

/// A fleet, and orders whose first run has failed: their dead letters are parked, and would fail again.
async fn fleet_with_letters(orders: usize) -> (Case, Vec<String>) {
    let mut case = Case::start(Plan { steps: STEPS, ..Plan::default() }).await;
    case.fleet.sandbox.fault(json!({ "service": "fulfilment", "error_country": COUNTRY })).await;
    let ids = case.place_all("k", orders, |number| order_to(COUNTRY, number)).await;
    until_open(&case.fleet, orders).await;
    (case, ids)
}

async fn letters(fleet: &Fleet) -> Collection<Document> {
    fleet.mongodb().await.collection("dead_letters")
}

/// Waits until so many dead letters are open.
async fn until_open(fleet: &Fleet, count: usize) {
    until_there(fleet, doc! { "ended": null }, |open| open == count as u64).await;
}

/// How many dead letters match.
async fn count(fleet: &Fleet, filter: Document) -> u64 {
    letters(fleet).await.count_documents(filter).await.unwrap()
}

/// Waits for a number of dead letters.
async fn until_there(fleet: &Fleet, filter: Document, is_there: impl Fn(u64) -> bool) {
    let letters = letters(fleet).await;
    until_within(PATIENCE, &format!("the dead letters with {filter} are there"), async || {
        let found = letters.count_documents(filter.clone()).await.unwrap();
        if is_there(found) { Ok(()) } else { Err(found) }
    })
    .await;
}

/// The replay that an operator began last.
async fn replay_of(fleet: &Fleet, who: &str) -> Option<String> {
    let replays = fleet.mongodb().await.collection::<Document>("replays");
    let found = replays.find_one(doc! { "who": who }).sort(doc! { "began_at": -1 }).await.unwrap();
    found.map(|replay| replay.get_str("_id").unwrap().to_owned())
}

/// What became of each item of a replay.
async fn results(fleet: &Fleet, replay: &str) -> Vec<Value> {
    let results = read(fleet, &["dlq", "replay", "--results", replay]).await;
    results.as_array().unwrap().clone()
}

/// The order ids of those items that stand so.
fn in_state(results: &[Value], state: &str) -> Vec<String> {
    let wanted = results.iter().filter(|item| item["state"] == state);
    wanted.map(|item| item["order_id"].as_str().unwrap().to_owned()).collect()
}
