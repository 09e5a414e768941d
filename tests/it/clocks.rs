//! Workers whose clocks are wrong.

use std::fs;

use jiff::Timestamp;
use mongodb::bson::{Document, doc};
use orderfleet_tests::{Fleet, Plan, order, until};

const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;

/// What an order owes is brought back by a sweeper that is an hour off, and put aside for as long as by any other.
async fn sweeps_with_a_clock_that_is_off(error_ms: i64) {
    let mut fleet = Fleet::start_as(Plan { workers: 0, ..Plan::default() }).await;
    let clock = fleet.folder().join("clock");
    fs::write(&clock, error_ms.to_string()).unwrap();
    let variables = [("ORDERFLEET_CLOCK_FILE", clock.to_str().unwrap())];
    let worker = fleet.start_worker_with("worker-off", &variables);
    fleet.workers.push(worker);
    let id = fleet.client.accept("k1", &order()).await;
    fleet.client.until_ended(&id, "DONE").await;

    let orders = fleet.mongodb().await.collection::<Document>("orders");
    let just_over = doc! { "$set": { "evp": true, "sweep_due": mongodb::bson::DateTime::now() } };
    orders.update_one(doc! { "_id": &id }, just_over).await.unwrap();
    let swept = until("the order is swept and owes nothing", async || {
        let found = orders.find_one(doc! { "_id": &id }).await.unwrap().unwrap();
        let is_swept =
            found.get_i64("sweeps").is_ok_and(|sweeps| sweeps == 1) && !found.get_bool("evp").unwrap();
        if is_swept { Ok(found) } else { Err(found) }
    })
    .await;
    let due = swept.get_datetime("sweep_due").unwrap().timestamp_millis() - Timestamp::now().as_millisecond();
    eprintln!("injected: a clock {error_ms} ms off; the order may be swept again in {due} ms");
    assert!((-MINUTE_MS..=MINUTE_MS).contains(&due), "{due}");
    fleet.settle(&[]).await;
    fleet.sandbox.assert_done(&[id]).await;
}

#[tokio::test]
async fn a_sweeper_whose_clock_is_fast_puts_nothing_aside_for_longer() {
    sweeps_with_a_clock_that_is_off(HOUR_MS).await;
}

#[tokio::test]
async fn a_sweeper_whose_clock_is_slow_finds_what_others_have_put_aside() {
    sweeps_with_a_clock_that_is_off(-HOUR_MS).await;
}
