//! A primary that takes writes nobody else has: they may be gone tomorrow, and nothing may follow from them.

use std::time::Duration;

use mongodb::{
    Client, Collection,
    bson::{Document, doc},
};
use orderfleet_native::{MemberState, MongoSet, MongoSetOptions, Signal, TempFolder};
use orderfleet_tests::{Plan, order, until_equal};
use serde_json::{Value, json};

use crate::case::Case;

const IN_A_CALL: usize = 8;
const FRESH: usize = 16;

/// Long enough that the primary does not step down while its secondaries are stopped, on a busy machine too.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(30);

async fn secondaries(set: &MongoSet) -> Vec<usize> {
    let members = set.until_whole().await.unwrap();
    members.iter().filter(|it| it.state == MemberState::Secondary).map(|it| it.member).collect()
}

/// The orders as one member has them, also when it is no primary any more: a driver that looks for one would wait for it.
async fn orders_of(case: &Case, member: u16) -> Collection<Document> {
    let uri = format!("mongodb://127.0.0.1:{member}/?directConnection=true");
    let database = case.fleet.mongodb().await.name().to_owned();
    Client::with_uri_str(uri).await.unwrap().database(&database).collection("orders")
}

fn effects(calls: &[Value]) -> usize {
    calls.iter().filter(|call| call["outcome"] == "effect").count()
}

#[tokio::test]
async fn no_service_is_called_whose_intent_the_majority_does_not_have() {
    let folder = TempFolder::new().unwrap();
    let options = MongoSetOptions { election_timeout: ELECTION_TIMEOUT, ..MongoSetOptions::default() };
    let mut set = MongoSet::start(folder.path(), options).await.unwrap();
    let plan = Plan {
        mongodb_uri: Some(set.uri()),
        database: "timeout_ms = 1_500\nwrite_concern_timeout_ms = 1_000",
        steps: "timeout_ms = 20_000",
        ..Plan::default()
    };
    let mut case = Case::start(plan).await;
    let secondaries = secondaries(&set).await;
    let before = set.primary().await.unwrap();
    case.fleet
        .sandbox
        .fault(json!({ "service": "inventory", "latency_ms": 8_000, "times": IN_A_CALL }))
        .await;
    case.place_all("in-a-call", IN_A_CALL, |_| order()).await;
    until_equal("orders in their first call", true, async || case.fleet.sandbox.faults_have_fired().await)
        .await;

    for member in &secondaries {
        assert_eq!(set.signal(*member, Signal::Stop).await.unwrap().state, MemberState::Silent);
    }
    case.place_all("fresh", FRESH, |_| order()).await;
    // What has no majority is there all the same, on the primary alone.
    let primary = orders_of(&case, before.port).await;
    let (fresh, moved_on) = (FRESH as u64, IN_A_CALL as u64);
    until_equal("writes that the primary has alone", (fresh, moved_on), async || {
        let at = async |cur: i64| primary.count_documents(doc! { "cur": cur, "phase": "RUN" }).await.unwrap();
        (at(0).await, at(1).await)
    })
    .await;
    until_equal("a write concern timed out", true, async || {
        case.fleet.workers[0].log().contains("write concern")
    })
    .await;
    let [inventory, fulfilment] =
        [case.fleet.sandbox.ledger("inventory").await, case.fleet.sandbox.ledger("fulfilment").await];
    let member = before.member;
    assert_eq!(
        set.primary().await.map(|primary| primary.term),
        Some(before.term),
        "member {member} stepped down"
    );
    eprintln!(
        "injected: members {secondaries:?} stopped, {member} alone took the writes of {} orders; calls meanwhile: {} and {}",
        IN_A_CALL + FRESH,
        inventory.len(),
        fulfilment.len()
    );
    assert_eq!((effects(&inventory), inventory.len(), fulfilment.len()), (IN_A_CALL, IN_A_CALL, 0));

    for member in &secondaries {
        set.signal(*member, Signal::Continue).await.unwrap();
    }
    let orders = IN_A_CALL + FRESH;
    until_equal("done orders", orders as u64, async || case.fleet.stored("DONE").await).await;
    case.assert_kept(orders).await;
}
