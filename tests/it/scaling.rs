//! A fleet on one machine that is scaled by its backlog, and what workers say of how old that is.

use std::{collections::BTreeMap, time::Duration};

use futures_util::TryStreamExt as _;
use mongodb::bson::doc;
use orderfleet_domain::OrderId;
use orderfleet_native::TempFolder;
use orderfleet_tests::{Fleet, NativeFleet, Plan, order, until, until_equal};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::poison::command;

/// What is read of a worker's heartbeat.
#[derive(Debug, Deserialize)]
struct Heartbeat {
    queues: Vec<Load>,
}

#[derive(Debug, Deserialize)]
struct Load {
    queue: String,
    taken_age_ms: Option<i64>,
}

/// How long one order took is printed and not judged: a busy machine may be slow.
#[tokio::test]
async fn workers_come_with_the_first_order_and_go_when_nothing_is_left_to_do() {
    let folder = TempFolder::new().unwrap();
    let fleet =
        NativeFleet::start(folder.path(), &["--workers", "0..2", "--idle-after", "8s"]).await.unwrap();
    until_equal("no worker", true, async || fleet.has_none()).await;
    let (code, signal) = fleet.cli(&["fleet", "signal"]).await.unwrap();
    assert_eq!(
        (code, &signal["workers_wanted"], &signal["valid"]),
        (Some(0), &json!(0), &json!(true)),
        "{signal:#}"
    );

    let served = fleet.serve_one("first").await.unwrap();
    eprintln!("the first order after idling: {served:?}");
    // By the time it answers, the worker may be gone again.
    let (_, status) = fleet.cli(&["fleet", "status"]).await.unwrap();
    assert_eq!(status["scaling"]["range"], "0..2", "{status:#}");
    until_equal("no worker again", true, async || fleet.has_none()).await;
    let changes = fleet.changes().unwrap();
    assert!(changes[0].starts_with("0 to 1 ("), "{changes:?}");
    let last = changes.last().unwrap();
    assert!(last.starts_with("1 to 0 (nothing was to be done for"), "{changes:?}");

    let scale = |number| ["fleet", "scale", number, "--reason", "a test"];
    let (code, _) = fleet.cli(&scale("2")).await.unwrap();
    let told = fleet.told();
    assert_eq!(
        (code, &told["wanted"], &told["fixed_by_operator"]),
        (Some(0), &json!(2), &json!(true)),
        "{told:#}"
    );
    let (code, _) = fleet.cli(&scale("auto")).await.unwrap();
    assert_eq!(code, Some(0));
    until_equal("no worker once the backlog decides again", true, async || fleet.has_none()).await;
    let usage = tokio::time::timeout(Duration::from_secs(120), fleet.stop()).await.unwrap().unwrap();
    assert!(usage.as_ref().is_some_and(|usage| usage.contains("2 workers at most")), "{usage:?}");
}

/// As a systemd unit runs them: broker, database and producer are somebody else's.
#[tokio::test]
async fn workers_alone_come_with_the_first_order_and_drain_on_sigterm() {
    let mut fleet = Fleet::start_as(Plan { workers: 0, ..Plan::default() }).await;
    let (folder, log) = (fleet.folder().join("workers"), fleet.folder().join("workers.log"));
    let mut command = fleet.cli(&["up", "--only", "workers", "--workers", "0..2", "--idle-after", "2s"]);
    command.arg("--dir").arg(&folder).arg("--config").arg(fleet.folder().join("orderfleet.toml"));
    let mut workers = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let told = || -> Value {
        let text = std::fs::read(folder.join("workers.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    };
    until_equal("no worker is wanted", json!(0), async || told()["wanted"].clone()).await;

    let id = fleet.client.accept("alone", &order()).await;
    fleet.client.until_ended(&id, "DONE").await;
    // What the file told before the order came is no worker, too.
    until("no worker again", async || {
        let (said, told) = (std::fs::read_to_string(&log).unwrap(), told());
        let left = ["ready", "starting", "stopping"].map(|field| told[field].clone());
        let is_over =
            said.contains("up: workers: 1 to 0 (") && left.iter().all(|workers| *workers == json!(0));
        if is_over { Ok(()) } else { Err((left, said)) }
    })
    .await;

    let second = fleet.client.accept("last", &order()).await;
    fleet.client.until_ended(&second, "DONE").await;
    let pid = workers.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = tokio::time::timeout(Duration::from_secs(60), workers.wait()).await.unwrap().unwrap();
    let said = std::fs::read_to_string(&log).unwrap();
    assert_eq!(ended.code(), Some(0), "{said}");
    assert!(said.contains("up: workers: 0 to 1 ("), "{said}");
    fleet.settle(&[]).await;
}

/// The message is as of an older build: it says when the order was accepted, decades ago, and not when it could be taken.
#[tokio::test]
async fn an_order_that_waited_in_a_tier_does_not_make_its_lane_old() {
    const HOUR_MS: i64 = 3_600_000;
    let mut fleet = Fleet::start().await;
    fleet.sandbox.fault(json!({ "service": "inventory", "error_rate": 1.0 })).await;
    let broker = fleet.broker().await;
    let heartbeats = fleet.mongodb().await.collection::<Heartbeat>("worker_status");
    let mut ages = BTreeMap::new();
    // One each time: what a heartbeat tells of one message is gone with the next heartbeat.
    let mut published = 0;
    until("both lanes tell an age", async || {
        broker.publish("orders.new.0", command(&format!("old-{published}")).as_bytes()).await;
        published += 1;
        let found: Vec<_> = heartbeats.find(doc! {}).await.unwrap().try_collect().await.unwrap();
        for load in found.into_iter().flat_map(|heartbeat| heartbeat.queues) {
            if let Some(age) = load.taken_age_ms {
                ages.insert(load.queue, age);
            }
        }
        if ages.contains_key("new.0") && ages.contains_key("retry") { Ok(()) } else { Err(ages.clone()) }
    })
    .await;
    assert!(ages["new.0"] > HOUR_MS && ages["retry"] < HOUR_MS, "{ages:?}");

    fleet.sandbox.heal().await;
    for number in 0..published {
        let key = format!("old-{number}").parse().unwrap();
        let id = OrderId::derive(&"eu1".parse().unwrap(), &"demo".parse().unwrap(), &key);
        fleet.client.until_ended(id.as_str(), "DONE").await;
    }
    fleet.settle(&[]).await;
}
