//! Pausing, scaling and draining with the CLI: obeyed at once, by what they are about and by nothing else.

use std::{
    fs,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use futures_util::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use mongodb::bson::{DateTime, Document, doc};
use orderfleet_domain::{
    failure::{Failure, FailureClass},
    saga::CauseClass,
};
use orderfleet_native::{Mongo, MongoOptions, Signal, TempFolder};
use orderfleet_tests::{Fleet, Plan, order, program, until, until_equal};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::{interval, timeout},
};

/// From when an operator was told that it is so: a second, and seven for a busy machine.
const OBEYED_WITHIN: SignedDuration = SignedDuration::from_secs(1 + 7);
/// Between two orders of a stream.
const PACE: Duration = Duration::from_millis(50);

/// An operator waits, also where a test gives the services little time.
const PATIENCE: [&str; 4] =
    ["--set", "database.timeout_ms=30000", "--set", "database.write_concern_timeout_ms=25000"];

/// Runs a command about the fleet; returns its exit code and its result.
async fn cli(fleet: &Fleet, arguments: &[&str]) -> (Option<i32>, Value) {
    let settings = ["--config", "orderfleet.toml", "--output", "json"];
    let arguments = [&["fleet"], arguments, &settings, &PATIENCE].concat();
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

/// Pauses; returns until when.
async fn pause_for(fleet: &Fleet, target: &str, length: &str) -> Timestamp {
    let pause = done(fleet, &["pause", target, "--for", length, "--reason", "the bank is away"]).await;
    time(&pause["until"])
}

/// Pauses, and waits until the worker obeys.
async fn pause(fleet: &Fleet, target: &str) {
    pause_for(fleet, target, "1h").await;
    until("a worker obeys", async || {
        let pauses = fleet.metric(0, "orderfleet_pauses", "").await;
        if pauses > 0.0 { Ok(()) } else { Err(pauses) }
    })
    .await;
    if target == "queue:new" {
        fleet.broker().await.until_unconsumed("orders.new.0").await;
    }
}

/// To the millisecond, as times are stored.
fn time(value: &Value) -> Timestamp {
    let time: Timestamp = value.as_str().unwrap().parse().unwrap();
    Timestamp::from_millisecond(time.as_millisecond()).unwrap()
}

/// Posts orders one after the other until an operator whose command ended at this time must have been obeyed.
async fn post_until_obeyed(fleet: &Fleet, said: Timestamp) -> Vec<String> {
    let (mut ids, mut pace) = (Vec::new(), interval(PACE));
    while ids.is_empty() || Timestamp::now() <= said + OBEYED_WITHIN {
        pace.tick().await;
        ids.push(fleet.client.accept(&format!("stream-{}", ids.len()), &order()).await);
    }
    ids
}

/// When a worker took each order from its queue for the first time.
async fn taken_at(fleet: &Fleet) -> Vec<(String, Timestamp)> {
    let orders = fleet.mongodb().await.collection::<Document>("orders");
    let orders: Vec<_> = orders.find(doc! {}).await.unwrap().try_collect().await.unwrap();
    let taken = |order: &Document| {
        let at = order.get_datetime("created_at").unwrap().timestamp_millis();
        (order.get_str("_id").unwrap().to_owned(), Timestamp::from_millisecond(at).unwrap())
    };
    orders.iter().map(taken).collect()
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
            && lines(order, "not_sent").iter().any(|line| line.contains("is paused until"))
    };
    let order = fleet.client.until_order(id, "waits for a pause", told).await;
    let text = order["history"].to_string();
    assert!(!text.contains("jo ") && !text.contains("bank"), "who and why is not the customer's: {text}");
    order
}

/// Waits until an order's operators are told that it waits for this pause.
async fn until_told(fleet: &Fleet, id: &str, target: &str) {
    let arguments = ["orders", "get", id, "--config", "orderfleet.toml", "--output", "json"];
    until_equal("what is paused", json!(target), async || {
        let report = result(&fleet.cli(&arguments).output().await.unwrap());
        report["waiting"]["target"].clone()
    })
    .await;
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
async fn no_order_of_a_stream_is_begun_a_second_after_its_queue_was_paused() {
    let mut fleet = Fleet::start().await;
    let begun = fleet.client.accept("begun", &order()).await;
    fleet.client.until_ended(&begun, "DONE").await;
    pause_for(&fleet, "queue:new", "1h").await;
    let said = Timestamp::now();
    let ids = post_until_obeyed(&fleet, said).await;
    let taken = taken_at(&fleet).await;
    let late: Vec<_> = taken.iter().filter(|(_, at)| *at > said + OBEYED_WITHIN).collect();
    assert!(late.is_empty() && taken.len() <= ids.len(), "said at {said}: {late:?}");

    resume(&fleet, "queue:new").await;
    fleet.client.until_done(&ids).await;
    fleet.settle(&[]).await;
}

#[tokio::test]
async fn a_pause_ends_by_itself_when_its_time_is_over() {
    let mut fleet = Fleet::start().await;
    let end = pause_for(&fleet, "queue:new", "5s").await;
    // On a machine that is so slow it may be over before it is obeyed.
    let left = Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default();
    let _ = timeout(left, fleet.broker().await.until_unconsumed("orders.new.0")).await;
    let id = fleet.client.accept("k1", &order()).await;
    fleet.client.until_ended(&id, "DONE").await;
    let taken = taken_at(&fleet).await;
    assert!(taken[0].1 >= end, "paused until {end}: {taken:?}");
    assert_eq!(cli(&fleet, &["pauses"]).await, (Some(4), json!([])));
    fleet.settle(&[]).await;
}

/// It hangs, as on a disk that does not answer.
#[tokio::test]
async fn a_pause_stays_obeyed_while_the_database_is_away_and_when_it_is_back() {
    let folder = TempFolder::new().unwrap();
    let mut mongo = Mongo::start(folder.path(), MongoOptions::default()).await.unwrap();
    let plan = Plan {
        mongodb_uri: Some(mongo.uri()),
        database: "timeout_ms = 1_500\nwrite_concern_timeout_ms = 1_000",
        ..Plan::default()
    };
    let mut fleet = Fleet::start_as(plan).await;
    fleet.sandbox.fault(json!({ "service": "fulfilment", "unavailable": true })).await;
    let begun = fleet.client.accept("begun", &order()).await;
    let failed = |order: &Value| order["history"].is_array() && !lines(order, "attempt_failed").is_empty();
    fleet.client.until_order(&begun, "has failed", failed).await;
    pause(&fleet, "queue:new").await;

    mongo.signal(Signal::Stop);
    let waits = fleet.client.accept("waits", &order()).await;
    let consuming = async || fleet.metric(0, "orderfleet_consuming", "consumer=\"consumer\"").await;
    until_equal("consuming", 0.0, consuming).await;
    assert!(fleet.metric(0, "orderfleet_pauses", "").await > 0.0, "it is not forgotten");
    mongo.signal(Signal::Continue);
    fleet.sandbox.heal().await;
    // What was begun is not paused, and goes on.
    fleet.client.until_ended(&begun, "DONE").await;
    fleet.broker().await.until_depth("orders.new.0", 1).await;
    assert_eq!(fleet.client.order(&waits).await.status, 404);

    resume(&fleet, "queue:new").await;
    fleet.client.until_ended(&waits, "DONE").await;
    fleet.settle(&[]).await;
}

#[tokio::test]
async fn a_worker_that_cannot_read_the_pauses_at_its_start_takes_nothing_until_it_can() {
    let folder = TempFolder::new().unwrap();
    let mongo = Mongo::start(folder.path(), MongoOptions::default()).await.unwrap();
    let mut fleet = Fleet::start_as(Plan { mongodb_uri: Some(mongo.uri()), ..Plan::default() }).await;
    pause(&fleet, "queue:new").await;
    fleet.stop_workers().await;
    let waits = fleet.client.accept("waits", &order()).await;
    let database = fleet.mongodb().await;
    let namespace = format!("{}.pauses", database.name());
    let data = doc! { "failCommands": ["find"], "namespace": namespace, "errorCode": 2 };
    let admin = database.client().database("admin");
    let fault = doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data };
    admin.run_command(fault).await.unwrap();

    let mut worker = fleet.start_worker_with("reader", &[]);
    until("it says so a second time", async || {
        let log = worker.log();
        if log.matches("nothing is taken before the pauses are known").count() > 1 {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    let broker = fleet.broker().await;
    broker.until_unconsumed("orders.retry").await;
    admin.run_command(doc! { "configureFailPoint": "failCommand", "mode": "off" }).await.unwrap();
    until("the other queues are consumed", async || {
        let log = worker.log();
        if log.contains("subscribed") { Ok(()) } else { Err(log) }
    })
    .await;
    broker.until_depth("orders.new.0", 1).await;
    assert_eq!(fleet.client.order(&waits).await.status, 404);
    resume(&fleet, "queue:new").await;
    fleet.client.until_ended(&waits, "DONE").await;
    assert_eq!(worker.terminate().await, Some(0));
    fleet.settle(&[]).await;
}

/// Two orders that a sweeper finds: one has waited behind a pause for two hours, the other owes an event.
#[tokio::test]
async fn an_order_behind_a_paused_lane_is_not_swept_around_it_and_what_is_owed_is_published() {
    let mut fleet = Fleet::start().await;
    let owing = fleet.client.accept("owing", &order()).await;
    fleet.client.until_ended(&owing, "DONE").await;
    fleet.sandbox.fault(json!({ "service": "accounting", "unavailable": true })).await;
    let late = fleet.client.accept("late", &order()).await;
    let failed = |order: &Value| order["history"].is_array() && !lines(order, "attempt_failed").is_empty();
    fleet.client.until_order(&late, "has failed", failed).await;
    fleet.stop_workers().await;
    let broker = fleet.broker().await;
    broker.until_depth("orders.retry", 1).await;
    assert_eq!(broker.take_all("orders.retry").await.len(), 1, "nothing but the sweeper brings it back");
    fleet.sandbox.heal().await;
    let orders = fleet.mongodb().await.collection::<Document>("orders");
    let due = DateTime::from_millis((Timestamp::now() - SignedDuration::from_hours(2)).as_millisecond());
    for (id, fields) in [(&late, doc! { "due_at": due }), (&owing, doc! { "evp": true })] {
        let updated = orders.update_one(doc! { "_id": id }, doc! { "$set": fields }).await.unwrap();
        assert_eq!(updated.modified_count, 1);
    }

    done(&fleet, &["pause", "queue:replay", "--reason", "a look"]).await;
    fleet.start_worker().await;
    let owed = async || orders.count_documents(doc! { "evp": true }).await.unwrap();
    until_equal("owed publishes", 0, owed).await;
    let untouched = doc! { "_id": &late, "due_at": due, "sweeps": 0 };
    assert_eq!(orders.count_documents(untouched).await.unwrap(), 1);

    resume(&fleet, "queue:replay").await;
    // This one has seen no pause.
    fleet.stop_workers().await;
    fleet.start_worker().await;
    fleet.client.until_ended(&late, "DONE").await;
    fleet.settle(&[]).await;
    fleet.sandbox.assert_done(&[owing, late]).await;
}

#[tokio::test]
async fn a_paused_downstream_is_not_called_and_costs_no_attempt() {
    let mut fleet = Fleet::start_as(Plan { steps: "attempts_max = 1", ..Plan::default() }).await;
    pause(&fleet, "downstream:accounting").await;
    let id = fleet.client.accept("k1", &order()).await;
    let order = until_paused(&fleet, &id).await;
    until_told(&fleet, &id, "downstream:accounting").await;
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
async fn no_call_for_a_stream_of_orders_begins_a_second_after_its_service_was_paused() {
    let mut fleet = Fleet::start().await;
    let begun = fleet.client.accept("begun", &order()).await;
    fleet.client.until_ended(&begun, "DONE").await;
    pause_for(&fleet, "downstream:inventory", "1h").await;
    let said = Timestamp::now();
    let ids = post_until_obeyed(&fleet, said).await;
    until_paused(&fleet, &ids[ids.len() - 1]).await;
    let calls = fleet.sandbox.ledger("inventory").await;
    let late: Vec<_> = calls.iter().filter(|call| time(&call["time"]) > said + OBEYED_WITHIN).collect();
    assert!(late.is_empty(), "said at {said}: {late:?}");

    resume(&fleet, "downstream:inventory").await;
    fleet.client.until_done(&ids).await;
    fleet.settle(&[]).await;
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
    until_told(&fleet, &id, &target).await;
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

    /// What the fleet says of its workers; null before it says anything.
    fn told(&self) -> Value {
        let text = fs::read(self.folder.path().join(".orderfleet/workers.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
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
        let so = json!({ "wanted": wanted, "ready": wanted, "starting": 0, "stopping": 0, "given_up": 0 });
        assert_eq!((code, &workers), (Some(0), &so));
        until_equal("workers heard of", wanted, async || up.heard_of().await).await;
    }
    let (code, log) = up.cli(&["log", "list"]).await;
    assert_eq!((code, log.as_array().unwrap().len()), (Some(0), 8), "{log:#}");
    assert_eq!((&log[0]["what"], &log[0]["result"]), (&json!("fleet.scale"), &json!("2 workers are ready")));
    up.stop().await;
}

/// Without a database the worker that is started in its place does not become ready.
#[tokio::test]
async fn a_worker_that_was_killed_counts_as_ready_only_when_it_is_so_again() {
    let up = Up::start().await;
    until_equal("workers that are ready", json!(1), async || up.told()["ready"].clone()).await;
    let pid = until("the worker is heard of", async || {
        let (_, status) = up.cli(&["fleet", "status"]).await;
        status["workers"][0]["pid"].as_u64().ok_or(status)
    })
    .await;
    let lock = fs::read_to_string(up.folder.path().join(".orderfleet/mongodb/data/mongod.lock")).unwrap();
    let signal = async |name: &str, pid: &str| {
        assert!(Command::new("kill").args([name, pid]).status().await.unwrap().success());
    };
    signal("-STOP", lock.trim()).await;
    signal("-KILL", &pid.to_string()).await;
    until_equal("workers that are starting", json!([0, 1]), async || {
        let told = up.told();
        json!([told["ready"], told["starting"]])
    })
    .await;
    signal("-CONT", lock.trim()).await;
    let (code, workers) = up.cli(&["fleet", "scale", "1", "--reason", "a test"]).await;
    let so = json!({ "wanted": 1, "ready": 1, "starting": 0, "stopping": 0, "given_up": 0 });
    assert_eq!((code, &workers), (Some(0), &so));
    up.stop().await;
}
