//! The whole `orderfleet load`, as a process, against a stub of the producer and the query API.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod stub;

use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;
use stub::{Behaviour, Stub};
use tokio::process::Command;

/// Made-up: two sales of which one is split, a return, a stock adjustment, a give-away.
const EXPORT: &str = "\
InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
900001,MUG-1,BLUE MUG,6,2010-12-01 08:26:00,2.50,17001.0,United Kingdom
900002,BAG-1,LUNCH BAG,120,2010-12-01 08:28:00,1.65,17002.0,EIRE
900001,MUG-2,RED MUG,2,2010-12-01 08:26:00,2.55,17001.0,United Kingdom
C900003,MUG-1,BLUE MUG,-6,2010-12-01 08:30:00,2.50,17001.0,United Kingdom
900004,MUG-1,BLUE MUG,-40,2010-12-01 08:31:00,0.00,,United Kingdom
900005,MUG-1,,1,2010-12-01 08:32:00,0.00,,Channel Islands
";

struct Shop {
    folder: tempfile::TempDir,
    stub: std::sync::Arc<Stub>,
}

impl Shop {
    async fn new(behaviour: Behaviour) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), stub: Stub::start(behaviour).await }
    }

    fn file(&self, text: &str) -> PathBuf {
        let path = self.folder.path().join("export.csv");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Runs in the shop's own empty folder, so that no fleet of the machine is found.
    async fn run(&self, arguments: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orderfleet"));
        command.args(arguments.split_whitespace()).current_dir(self.folder.path());
        command.env("ORDERFLEET_PRODUCER_URL", &self.stub.url).env("ORDERFLEET_QUERY_URL", &self.stub.url);
        command.env("ORDERFLEET_API_KEY", "the-key");
        command.output().await.unwrap()
    }
}

fn summary(output: &Output) -> Value {
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(stdout.lines().count(), 1, "stdout is one line of data: {stdout}");
    serde_json::from_str(&stdout).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn an_export_is_posted_followed_and_summed_up() {
    let shop = Shop::new(Behaviour { end: Some("DONE"), ..Behaviour::default() }).await;
    shop.file(EXPORT);
    let output = shop.run("load export.csv --wait --output json").await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let summary = summary(&output);
    for (field, expected) in [
        ("posted", 5),
        ("accepted", 2),
        ("refused", 3),
        ("errors", 0),
        ("retried", 0),
        ("done", 2),
        ("undone", 0),
    ] {
        assert_eq!(summary[field], expected, "{field}");
    }
    for (field, expected) in [("held", 0), ("open", 0), ("conflict", 0), ("late", 0), ("unanswered", 0)] {
        assert_eq!(summary[field], expected, "{field}");
    }
    assert_eq!(summary["refused_by_reason"], serde_json::json!({"return": 1, "quantity": 1, "total": 1}));
    for field in ["p50_ms", "p99_ms", "seconds", "rate_per_s"] {
        assert!(summary[field].as_f64().is_some_and(|value| value > 0.0), "{field}");
    }
    let first: Value = serde_json::from_str(&shop.stub.bodies("invoice-900001")[0]).unwrap();
    assert_eq!(first["lines"][1]["unit_price"], "2.55");
}

#[tokio::test]
async fn an_unavailable_producer_gets_the_same_body_with_the_same_key_again() {
    let shop = Shop::new(Behaviour { unavailable_first: 2, ..Behaviour::default() }).await;
    shop.file(EXPORT);
    let output = shop.run("load export.csv --output json").await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let summary = summary(&output);
    assert_eq!(
        (&summary["accepted"], &summary["refused"], &summary["errors"]),
        (&2.into(), &3.into(), &0.into())
    );
    assert_eq!(summary["retried"], 10);
    for key in shop.stub.keys() {
        let bodies = shop.stub.bodies(&key);
        assert_eq!(bodies.len(), 3, "{key}");
        assert!(bodies.iter().all(|body| *body == bodies[0]), "{key}");
    }
}

#[tokio::test]
async fn a_second_load_posts_the_same_bodies_with_the_same_keys() {
    let shop = Shop::new(Behaviour::default()).await;
    shop.file(EXPORT);
    for _ in 0..2 {
        assert_eq!(shop.run("load export.csv").await.status.code(), Some(0));
    }
    assert_eq!(shop.stub.keys().len(), 5);
    for key in shop.stub.keys() {
        let bodies = shop.stub.bodies(&key);
        assert!(bodies.len() == 2 && bodies[0] == bodies[1], "{key}");
    }
    shop.run("load export.csv --key-prefix again- --limit 1").await;
    assert_eq!(shop.stub.bodies("again-900001").len(), 1);
}

#[tokio::test]
async fn an_open_loop_posts_every_order() {
    let shop = Shop::new(Behaviour::default()).await;
    shop.file(EXPORT);
    let output = shop.run("load export.csv --speed 3600 --output json").await;
    let summary = summary(&output);
    assert_eq!((&summary["posted"], &summary["accepted"]), (&5.into(), &2.into()));
    let seconds = summary["seconds"].as_f64().unwrap();
    assert!((0.1..30.0).contains(&seconds), "six minutes, 3600 times faster, took {seconds} s");
}

#[tokio::test]
async fn generated_orders_are_posted_and_undone_ones_counted() {
    let shop = Shop::new(Behaviour { end: Some("UNDONE"), ..Behaviour::default() }).await;
    let output = shop.run("--output json load --generate 40 --seed 7 --wait").await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let summary = summary(&output);
    assert_eq!(
        (&summary["accepted"], &summary["undone"], &summary["done"]),
        (&40.into(), &40.into(), &0.into())
    );
    assert_eq!(shop.stub.bodies("generated-7-40").len(), 1);
}

#[tokio::test]
async fn orders_that_never_end_are_open_when_the_time_is_up() {
    let shop = Shop::new(Behaviour::default()).await;
    let output = shop.run("load --generate 3 --wait --wait-timeout 1s --output json").await;
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert_eq!(summary(&output)["open"], 3);
}

#[tokio::test]
async fn an_invoice_that_cannot_be_a_request_is_an_error_and_the_rest_is_posted() {
    let shop = Shop::new(Behaviour::default()).await;
    shop.file(&EXPORT.replace("LUNCH BAG,120", "LUNCH BAG,ten dozen"));
    let output = shop.run("load export.csv --output json").await;
    assert_eq!(output.status.code(), Some(3));
    let summary = summary(&output);
    assert_eq!(
        (&summary["posted"], &summary["errors"], &summary["unanswered"]),
        (&4.into(), &1.into(), &0.into())
    );
    assert!(stderr(&output).contains("row 3, column Quantity: \"ten dozen\""), "{}", stderr(&output));
}

#[tokio::test]
async fn a_key_that_is_not_accepted_stops_the_load() {
    let shop = Shop::new(Behaviour { deny: true, ..Behaviour::default() }).await;
    let output = shop.run("load --generate 500 --concurrency 1 --output json").await;
    assert_eq!(output.status.code(), Some(5));
    let summary = summary(&output);
    assert_eq!((&summary["posted"], &summary["unanswered"]), (&1.into(), &499.into()));
    assert!(stderr(&output).contains("next:  check the API key"), "{}", stderr(&output));
}

#[tokio::test]
async fn a_producer_that_never_answers_is_a_dependency_down() {
    let shop = Shop::new(Behaviour::default()).await;
    // Port 1 is reserved and nothing listens on it.
    let output =
        shop.run("load --generate 50 --give-up 1s --producer-url http://127.0.0.1:1 --output json").await;
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    assert_eq!(summary(&output)["accepted"], 0);
}

#[tokio::test]
async fn without_a_fleet_the_next_step_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_orderfleet"));
    command
        .args(["load", "--generate", "1"])
        .current_dir(folder.path())
        .env_remove("ORDERFLEET_PRODUCER_URL");
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert!(stderr(&output).contains("next:  start a fleet here with `make up`"), "{}", stderr(&output));
}

#[tokio::test]
async fn the_fleet_that_orderfleet_up_left_behind_is_found() {
    let shop = Shop::new(Behaviour::default()).await;
    let folder = shop.folder.path().join(".orderfleet");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("key"), "the-key\n").unwrap();
    let endpoints = serde_json::json!({
        "producer_url": shop.stub.url, "query_url": shop.stub.url, "sandbox_url": "", "api_key_file": ".orderfleet/key"
    });
    std::fs::write(folder.join("endpoints.json"), endpoints.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_orderfleet"));
    command.args(["load", "--generate", "1"]).current_dir(shop.folder.path()).env_clear();
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(shop.stub.keys(), ["generated-1-1"]);
}
