//! A database that hangs for a while.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use orderfleet_native::{Mongo, MongoOptions, Signal, TempFolder};
use orderfleet_tests::{Plan, order, until_equal};
use tokio::time::{sleep, timeout};

use super::long;
use crate::case::Case;

const BEFORE: usize = 50;
const MEANWHILE: usize = 200;
/// Of one processor, all workers together.
const PROCESSOR_SHARE_MAX: f64 = 0.3;
const SILENT_FOR: Duration = Duration::from_secs(2);

#[tokio::test]
async fn an_outage_of_the_database_quarantines_nobody_and_every_order_is_done_afterwards() {
    let away = Duration::from_secs(if long() { 120 } else { 20 });
    let folder = TempFolder::new().unwrap();
    let mut mongo = Mongo::start(folder.path(), MongoOptions::default()).await.unwrap();
    let plan = Plan {
        workers: 2,
        mongodb_uri: Some(mongo.uri()),
        database: "timeout_ms = 1_500\nwrite_concern_timeout_ms = 1_000",
        ..Plan::default()
    };
    let mut case = Case::start(plan).await;
    case.place_all("before", BEFORE, |_| order()).await;

    mongo.signal(Signal::Stop);
    let since = Instant::now();
    case.place_all("meanwhile", MEANWHILE, |_| order()).await;
    let silent = timeout(SILENT_FOR, case.fleet.stored("DONE")).await;
    assert!(silent.is_err(), "the database answers: {silent:?}");
    let (begun, computed) = (Instant::now(), case.fleet.computed_by_workers());
    sleep(away.saturating_sub(since.elapsed()).max(Duration::from_secs(5))).await;
    let computed = (case.fleet.computed_by_workers() - computed).as_secs_f64();
    let share = computed / begun.elapsed().as_secs_f64();
    let paused = case.fleet.metric(0, "orderfleet_consuming", "consumer=\"consumer\"").await;
    mongo.signal(Signal::Continue);
    eprintln!(
        "injected: mongod stopped for {:.0?}, {MEANWHILE} orders accepted meanwhile; the workers used {share:.2} of a \
         processor, consuming: {paused}",
        since.elapsed()
    );

    let orders = BEFORE + MEANWHILE;
    until_equal("done orders", orders as u64, async || case.fleet.stored("DONE").await).await;
    let mut quarantined = 0.0;
    for worker in 0..2 {
        quarantined += case.fleet.metric(worker, "orderfleet_deliveries_total", "lane=\"quarantine\"").await;
    }
    assert!(quarantined < 1.0, "{quarantined} deliveries came by quarantine");
    assert!(share < PROCESSOR_SHARE_MAX, "{share}");
    case.assert_kept(orders).await;
    assert_eq!(case.fleet.dead_letters().await, BTreeMap::new());
}
