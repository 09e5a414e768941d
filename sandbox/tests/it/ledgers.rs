//! What survives a restart: the state that the ledger files say.

use std::fs::{OpenOptions, read_to_string};
use std::io::Write;
use std::path::Path;

use orderfleet_sandbox::{Options, Sandbox};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Shop, Step, answer};

const SERVICES: [&str; 3] = ["inventory", "fulfilment", "accounting"];

fn options(folder: &Path) -> Options {
    Options { data: Some(folder.to_owned()), ..Options::on_free_port() }
}

async fn everything_readable(shop: &Shop) -> Vec<Value> {
    let mut seen = vec![
        shop.get("/inventory/stock").await,
        shop.get("/fulfilment/shipments").await,
        shop.get("/accounting/accounts").await,
    ];
    for service in SERVICES {
        seen.push(shop.get(&format!("/{service}/summary")).await);
        seen.push(shop.text(&format!("/{service}/ledger")).await.into());
        for order_id in ["eu1-a-1", "eu1-a-2", "eu1-a-3", "eu1-a-4"] {
            seen.push(shop.look(&Step::of(service, order_id)).await);
        }
    }
    seen
}

#[tokio::test]
async fn the_state_is_rebuilt_from_the_ledgers() {
    let folder = tempfile::tempdir().unwrap();
    let shop = Shop::with(options(folder.path())).await;
    answer(shop.request(Method::PUT, "/inventory/stock/22423").json(&json!({ "on_hand": 9 }))).await;
    for service in SERVICES {
        let [done, undone, buried, fenced] =
            ["eu1-a-1", "eu1-a-2", "eu1-a-3", "eu1-a-4"].map(|order_id| Step::of(service, order_id));
        shop.do_step(&done).await;
        shop.do_step(&done).await;
        shop.do_step(&undone).await;
        shop.undo_step(&undone).await;
        shop.undo_step(&buried).await;
        shop.do_step(&fenced.clone().with_fence(u64::MAX)).await;
        shop.undo_step(&fenced).await;
    }
    let before = everything_readable(&shop).await;
    shop.stop().await;

    let shop = Shop::with(options(folder.path())).await;

    assert_eq!(everything_readable(&shop).await, before);
    assert_eq!(shop.get("/inventory/stock/22423").await["on_hand"], 9);
    let (status, result) = shop.do_step(&Step::of("accounting", "eu1-a-1")).await;
    assert_eq!(
        (status, &result),
        (StatusCode::OK, &json!({ "result": { "booked": "15.30", "currency": "GBP" } }))
    );
    assert_eq!(shop.do_step(&Step::of("accounting", "eu1-a-3")).await.1, json!({ "cancelled": true }));
    assert_eq!(
        shop.undo_step(&Step::of("accounting", "eu1-a-4")).await.1,
        json!({ "stale_fence": u64::MAX })
    );
}

#[tokio::test]
async fn a_torn_last_line_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("inventory.jsonl");
    let shop = Shop::with(options(folder.path())).await;
    shop.do_step(&Step::of("inventory", "eu1-a-1")).await;
    shop.stop().await;
    let whole = read_to_string(&ledger).unwrap();
    let torn = &whole[..whole.len() / 2];
    OpenOptions::new().append(true).open(&ledger).unwrap().write_all(torn.as_bytes()).unwrap();

    let shop = Shop::with(options(folder.path())).await;

    assert_eq!(shop.text("/inventory/ledger").await, whole);
    assert_eq!(shop.do_step(&Step::of("inventory", "eu1-a-2")).await.0, StatusCode::OK);
    shop.stop().await;
    assert_eq!(read_to_string(&ledger).unwrap().lines().count(), 2);
}

#[tokio::test]
async fn a_damaged_line_in_the_middle_stops_the_start_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("accounting.jsonl"), "{}\n").unwrap();

    let error = Sandbox::start(options(folder.path())).await.err().expect("the start fails");

    let cause = std::error::Error::source(&error).expect("the error has a cause").to_string();
    assert!(cause.starts_with("line 1 of the ledger ") && cause.contains("accounting.jsonl"), "{cause}");
}

#[tokio::test]
async fn a_ledger_that_lost_its_first_records_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("inventory.jsonl");
    let shop = Shop::with(options(folder.path())).await;
    let step = Step::of("inventory", "eu1-a-1");
    shop.do_step(&step).await;
    shop.undo_step(&step).await;
    shop.stop().await;
    let whole = read_to_string(&ledger).unwrap();
    std::fs::write(&ledger, whole.split_inclusive('\n').nth(1).unwrap()).unwrap();

    let error = Sandbox::start(options(folder.path())).await.err().expect("the start fails");

    let cause = std::error::Error::source(&error).expect("the error has a cause").to_string();
    assert!(cause.ends_with("has seq 2"), "{cause}");
}

#[tokio::test]
async fn two_sandboxes_cannot_share_a_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Shop::with(options(folder.path())).await;

    let error = Sandbox::start(options(folder.path())).await.err().expect("the start fails");

    let cause = std::error::Error::source(&error).expect("the error has a cause").to_string();
    assert!(cause.ends_with("is in use by another sandbox"), "{cause}");
}

#[tokio::test]
async fn a_long_ledger_is_streamed_whole_and_in_order() {
    let shop = Shop::start().await;
    let step = Step::of("fulfilment", "eu1-a-1");
    for _ in 0..2_500 {
        shop.undo_step(&step).await;
    }

    let ledger = shop.text("/fulfilment/ledger").await;

    let seqs =
        ledger.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap());
    assert!(seqs.eq(1..=2_500));
}
