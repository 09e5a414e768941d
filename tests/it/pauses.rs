//! Pausing, scaling and draining with the CLI: obeyed at once, by what they are about and by nothing else.

use std::{
    fs,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use mongodb::bson::{Document, doc};
use orderfleet_domain::{
    failure::{Failure, FailureClass},
    saga::CauseClass,
};
use orderfleet_native::TempFolder;
use orderfleet_tests::{Fleet, Plan, order, program, until, until_equal, until_within};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::{Instant, timeout},
};

/// An operator is obeyed within a second; the rest is for a busy machine.
const OBEYED_WITHIN: Duration = Duration::from_secs(5);

/// Runs a command about the fleet; returns its exit code and its result.
async fn cli(fleet: &Fleet, arguments: &[&str]) -> (Option<i32>, Value) {
    let arguments = [&["fleet"], arguments, &["--config", "orderfleet.toml", "--output", "json"]].concat();
    let output = fleet.cli(&arguments).env("ORDERFLEET_OPERATOR", "jo").output().await.unwrap();
    (output.status.code(), result(&output))
}

/// What a command has printed.
fn result(output: &Output) -> Value {
    let told = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {told}")).unwrap()
}

/// Runs a command that must succeed.
async fn done(fleet: &Fleet, arguments: &[&str]) -> Value {
    let (code, value) = cli(fleet, arguments).await;
    assert_eq!(code, Some(0), "{arguments:?}: {value:#}");
    value
}

/// Pauses, and waits until the worker obeys.
async fn pause(fleet: &Fleet, target: &str) {
    pause_for(fleet, target, "1h").await;
}

async fn pause_for(fleet: &Fleet, target: &str, length: &str) {
    done(fleet, &["pause", target, "--for", length, "--reason", "the bank is away"]).await;
    until_within(OBEYED_WITHIN, "a worker obeys", async || {
        let pauses = fleet.metric(0, "orderfleet_pauses", "").await;
        if pauses > 0.0 { Ok(()) } else { Err(pauses) }
    })
    .await;
    if target == "queue:new" {
        fleet.broker().await.until_unconsumed("orders.new.0").await;
    }
}

async fn resume(fleet: &Fleet, target: &str) {
    done(fleet, &["resume", target, "--reason", "it is back"]).await;
}

/// What an order's history says behind this word, each time.
fn lines<'a>(order: &'a Value, what: &str) -> Vec<&'a str> {
    let history = order["history"].as_array().unwrap();
    let found = history.iter().filter(|entry| entry["what"] == what);
    found.map(|entry| entry["detail"].as_str().unwrap_or_default()).collect()
}

/// Waits until an order waits for a pause, and says so.
async fn until_paused(fleet: &Fleet, id: &str) -> Value {
    let told = |order: &Value| {
        order["history"].is_array()
            && lines(order, "not_sent").iter().any(|line| line.contains("is paused by jo until"))
    };
    let order = fleet.client.until_order(id, "waits for a pause", told).await;
    assert!(lines(&order, "not_sent")[0].contains(": the bank is away"), "{order:#}");
    order
}

/// It was paused: no attempt was charged.
fn assert_uncharged(order: &Value) {
    assert_eq!(lines(order, "attempt_failed"), [""; 0], "{order:#}");
}

#[tokio::test]
async fn fresh_orders_wait_in_their_queue_while_it_is_paused_and_what_was_begun_goes_on() {
    let mut fleet = Fleet::start_as(Plan { steps: "attempts_max = 1", ..Plan::default() }).await;
    fleet.sandbox.fault(json!({ "service": "fulfilment", "unavailable": true, "times": 1 })).await;
    let begun = fleet.client.accept("begun", &order()).await;
    fleet.client.until_order(&begun, "is stored", |order| order["status"].is_string()).await;
    pause(&fleet, "queue:new").await;
    let waits = fleet.client.accept("waits", &order()).await;
    fleet.broker().await.until_depth("orders.new.0", 1).await;
    fleet.client.until_order(&begun, "has ended", |order| order["status"] != "RUN").await;
    let status = done(&fleet, &["status"]).await;
    let fresh = &status["queues"][0];
    assert_eq!((&fresh["queue"], &fresh["ready"]), (&json!("new.0"), &json!(1)), "{fresh:#}");
    assert_eq!((&fresh["paused"]["owner"], &fresh["consumers"]), (&json!("jo"), &json!(0)), "{fresh:#}");
    assert_eq!(fleet.client.order(&waits).await.status, 404);

    resume(&fleet, "queue:new").await;
    fleet.client.until_ended(&waits, "DONE").await;
    fleet.settle(&[]).await;
}

#[tokio::test]
async fn a_pause_ends_by_itself_when_its_time_is_over() {
    let mut fleet = Fleet::start().await;
    let begun = Instant::now();
    pause_for(&fleet, "queue:new", "5s").await;
    let id = fleet.client.accept("k1", &order()).await;
    fleet.client.until_ended(&id, "DONE").await;
    assert!(begun.elapsed() >= Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(cli(&fleet, &["pauses"]).await, (Some(4), json!([])));
    fleet.settle(&[]).await;
}

#[tokio::test]
async fn a_paused_downstream_is_not_called_and_costs_no_attempt() {
    let mut fleet = Fleet::start_as(Plan { steps: "attempts_max = 1", ..Plan::default() }).await;
    pause(&fleet, "downstream:accounting").await;
    let id = fleet.client.accept("k1", &order()).await;
    let order = until_paused(&fleet, &id).await;
    assert_eq!(order["steps"][1]["state"], "done", "the steps before it are not paused: {order:#}");
    assert_eq!(fleet.sandbox.ledger("accounting").await.len(), 0);
    let status = done(&fleet, &["status"]).await;
    assert_eq!(status["downstreams"][2]["paused"]["reason"], "the bank is away", "{status:#}");

    resume(&fleet, "downstream:accounting").await;
    assert_uncharged(&fleet.client.until_ended(&id, "DONE").await);
    fleet.settle(&[]).await;
    fleet.sandbox.assert_done(&[id]).await;
}

#[tokio::test]
async fn the_orders_of_a_paused_account_wait_and_those_of_others_do_not() {
    let mut fleet = Fleet::start().await;
    pause(&fleet, "account:demo").await;
    let (paused, other) =
        (fleet.client.accept("k1", &order()).await, fleet.stranger.accept("k1", &order()).await);
    fleet.stranger.until_ended(&other, "DONE").await;
    until_paused(&fleet, &paused).await;
    let called = fleet.sandbox.ledger("inventory").await;
    assert!(called.iter().all(|call| call["order_id"] != paused.as_str()), "{called:#?}");

    resume(&fleet, "account:demo").await;
    assert_uncharged(&fleet.client.until_ended(&paused, "DONE").await);
    fleet.settle(&[]).await;
    fleet.sandbox.assert_done(&[paused, other]).await;
}

#[tokio::test]
async fn orders_that_failed_like_a_paused_failure_are_not_tried_again_and_those_that_failed_otherwise_are() {
    let plan = Plan { steps: "quick_retries = 0\nbreaker_failures = 1000", ..Plan::default() };
    let mut fleet = Fleet::start_as(plan).await;
    let class = FailureClass::Run(CauseClass::AttemptsExhausted);
    let step = "fulfilment".parse().ok();
    let fingerprint = Failure::new(step, class, None, "503 Service Unavailable").fingerprint();
    let target = format!("fingerprint:{fingerprint}");
    fleet.sandbox.fault(json!({ "service": "fulfilment", "unavailable": true })).await;
    let id = fleet.client.accept("k1", &order()).await;
    let failed = |order: &Value| order["history"].is_array() && !lines(order, "attempt_failed").is_empty();
    let order_then = fleet.client.until_order(&id, "has failed", failed).await;
    assert!(lines(&order_then, "attempt_failed")[0].starts_with("503 Service Unavailable"), "{order_then:#}");
    pause(&fleet, &target).await;
    let waiting = until_paused(&fleet, &id).await;
    let charged = lines(&waiting, "attempt_failed").len();
    fleet.sandbox.heal().await;

    // Another order fails at the same step and otherwise, and is done at its second attempt.
    fleet.sandbox.fault(json!({ "service": "fulfilment", "lost_reply": true, "times": 1 })).await;
    let other = fleet.client.accept("k2", &order()).await;
    fleet.client.until_ended(&other, "DONE").await;
    let still = fleet.client.order(&id).await.json();
    assert_eq!(
        (&still["status"], lines(&still, "attempt_failed").len()),
        (&json!("RUN"), charged),
        "{still:#}"
    );

    resume(&fleet, &target).await;
    let ended = fleet.client.until_ended(&id, "DONE").await;
    assert_eq!(lines(&ended, "attempt_failed").len(), charged, "{ended:#}");
    fleet.settle(&[]).await;
    fleet.sandbox.assert_done(&[id, other]).await;
}

#[tokio::test]
async fn a_second_worker_that_starts_while_a_queue_is_paused_takes_nothing_from_it() {
    let mut fleet = Fleet::start().await;
    pause(&fleet, "queue:new").await;
    let ids = [fleet.client.accept("k1", &order()).await, fleet.client.accept("k2", &order()).await];
    fleet.broker().await.until_depth("orders.new.0", 2).await;
    fleet.start_worker().await;
    let orders = fleet.mongodb().await.collection::<Document>("orders");
    until("both workers are heard of", async || {
        let status = done(&fleet, &["status"]).await;
        let workers = status["workers"].as_array().unwrap().len();
        if workers == 2 && status["queues"][0]["in_hand"] == 0 { Ok(()) } else { Err(status) }
    })
    .await;
    assert_eq!(orders.count_documents(doc! {}).await.unwrap(), 0);
    resume(&fleet, "queue:new").await;
    fleet.client.until_done(&ids).await;
    fleet.settle(&[]).await;
}

#[tokio::test]
async fn a_worker_that_ends_in_order_is_not_heard_of_any_more() {
    let mut fleet = Fleet::start().await;
    let heard = async || done(&fleet, &["status"]).await["workers"].as_array().unwrap().len();
    until_equal("workers heard of", 1, heard).await;
    fleet.stop_workers().await;
    let (_, status) = cli(&fleet, &["status"]).await;
    assert_eq!(status["workers"], json!([]), "{status:#}");
}

#[tokio::test]
async fn a_drained_fleet_has_nothing_in_flight_and_goes_on_where_it_stopped() {
    let mut fleet = Fleet::start_as(Plan { workers: 2, ..Plan::default() }).await;
    let mut ids = Vec::new();
    for number in 0..30 {
        ids.push(fleet.client.accept(&format!("k{number}"), &order()).await);
    }
    let drained = done(&fleet, &["drain", "--timeout", "60s", "--reason", "a broker update"]).await;
    assert_eq!((&drained["drained"], &drained["in_flight"]), (&json!(true), &json!([])), "{drained:#}");
    assert_eq!(fleet.stored("RUN").await, 0);
    let later = fleet.client.accept("later", &order()).await;
    ids.push(later.clone());
    let waiting = ids.len() - usize::try_from(fleet.stored("DONE").await).unwrap();
    fleet.broker().await.until_depth("orders.new.0", u32::try_from(waiting).unwrap()).await;
    assert_eq!(fleet.client.order(&later).await.status, 404);
    resume(&fleet, "queue:new").await;
    fleet.client.until_done(&ids).await;
    fleet.settle(&[]).await;
    fleet.sandbox.assert_done(&ids).await;
}

/// A whole fleet on this machine, as `orderfleet up` runs it.
struct Up {
    process: Child,
    folder: TempFolder,
}

impl Up {
    /// Starts it with one worker, and waits until it is ready.
    async fn start() -> Self {
        let folder = TempFolder::new().unwrap();
        let mut command = Self::command(folder.path());
        command.args(["up", "--workers", "1", "--output", "json"]);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = timeout(Duration::from_secs(180), lines.next_line()).await.expect("ready in time");
        assert!(line.unwrap().is_some(), "the fleet is ready");
        Self { process, folder }
    }

    fn command(folder: &Path) -> Command {
        let mut command = Command::new(program("orderfleet"));
        command.current_dir(folder).kill_on_drop(true).env("ORDERFLEET_OPERATOR", "jo");
        // A broker and a database of its own.
        command.env_remove("ORDERFLEET_AMQP_URL").env_remove("ORDERFLEET_MONGODB_URI");
        command
    }

    async fn cli(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let mut command = Self::command(self.folder.path());
        let output = command.args(arguments).args(["--output", "json"]).output().await.unwrap();
        (output.status.code(), result(&output))
    }

    async fn heard_of(&self) -> usize {
        let (_, status) = self.cli(&["fleet", "status"]).await;
        status["workers"].as_array().map_or(0, Vec::len)
    }

    /// SIGINT, as by Ctrl-C.
    async fn stop(mut self) {
        let pid = self.process.id().unwrap().to_string();
        let killed = Command::new("kill").args(["-INT", &pid]).status().await.unwrap();
        assert!(killed.success());
        let ended = timeout(Duration::from_secs(60), self.process.wait()).await.expect("an end in time");
        assert_eq!(ended.unwrap().code(), Some(0));
        assert!(!fs::exists(self.folder.path().join(".orderfleet/workers.json")).unwrap());
    }
}

#[tokio::test]
async fn a_fleet_on_one_machine_is_scaled_out_and_in_and_the_command_waits_until_it_is_so() {
    let up = Up::start().await;
    for wanted in [3_usize, 1, 0, 2] {
        let number = wanted.to_string();
        let (code, workers) = up.cli(&["fleet", "scale", &number, "--reason", "a test"]).await;
        let so = json!({ "wanted": wanted, "ready": wanted, "starting": 0, "stopping": 0 });
        assert_eq!((code, &workers), (Some(0), &so));
        until_equal("workers heard of", wanted, async || up.heard_of().await).await;
    }
    let (code, log) = up.cli(&["log", "list"]).await;
    assert_eq!((code, log.as_array().unwrap().len()), (Some(0), 8), "{log:#}");
    assert_eq!((&log[0]["what"], &log[0]["result"]), (&json!("fleet.scale"), &json!("2 workers are ready")));
    up.stop().await;
}
