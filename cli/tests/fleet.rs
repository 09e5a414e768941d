//! `orderfleet fleet`, as a process, against a real broker and database and no workers but those that are made up.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod scene;

use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use orderfleet_domain::saga::Lane;
use orderfleet_messaging::{
    Consumer, Control, Delivery, Destination, Headers, Observer, Outgoing, Publisher, Subscription,
};
use orderfleet_operations::log::{LogEntry, LogRange, OperatorLog};
use orderfleet_storage::{CircuitState, QueueLoad, Store, WorkerStatus};
use scene::{Scene, stderr, stdout};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

async fn run(scene: &Scene, arguments: &str) -> Output {
    scene.run(&format!("fleet {arguments}")).await
}

/// What a command prints as JSON, and its exit code.
async fn json(scene: &Scene, arguments: &str) -> (Value, i32) {
    let output = run(scene, &format!("{arguments} --output json")).await;
    (scene::json(&output), output.status.code().unwrap())
}

async fn logged(store: &Store) -> Vec<LogEntry> {
    let mut entries = OperatorLog::new(store.clone()).entries(LogRange::default());
    let mut found = Vec::new();
    while let Some(entry) = entries.next().await.unwrap() {
        found.push(entry);
    }
    found
}

/// A worker that says this of itself, and that nothing else is known of.
fn worker(instance: &str, in_hand: u64) -> WorkerStatus {
    let load =
        QueueLoad { queue: "retry".into(), in_hand, handled: 9, per_second: 4.5, taken_age_ms: Some(1_500) };
    let circuit = |step: &str, state: &str| CircuitState {
        step: step.into(),
        state: state.into(),
        ..CircuitState::default()
    };
    WorkerStatus {
        instance: instance.into(),
        host: "host".into(),
        pid: 7,
        build: "0.1.0+test".into(),
        roles: vec!["forward".into()],
        started_at: Timestamp::now(),
        at: Timestamp::now(),
        draining: false,
        queues: vec![load],
        circuits: vec![circuit("inventory", "closed"), circuit("fulfilment", "open")],
        pauses: Vec::new(),
    }
}

fn queue<'a>(status: &'a Value, name: &str) -> &'a Value {
    let queues = status["queues"].as_array().unwrap();
    queues.iter().find(|queue| queue["queue"] == name).unwrap_or_else(|| panic!("no {name}: {status:#}"))
}

/// A message in a queue of fresh orders and in that of retries. Of an empty queue that nobody consumes, although a worker says that it
/// does, nothing is known.
async fn publish_one_each(publisher: &Publisher) {
    for lane in [Lane::New(0), Lane::Retry] {
        let destination = Destination::Lane(lane);
        let outgoing = Outgoing { destination, headers: Headers::new("place"), body: "x".into() };
        publisher.publish(&outgoing).await.unwrap();
    }
}

/// Repeats a look until it has found something: a busy queue does not tell at once what it holds.
async fn eventually<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    timeout(Duration::from_secs(60), found).await.expect("found in time")
}

#[tokio::test]
async fn a_status_shows_queues_workers_downstreams_database_and_dead_letters_once_where_there_is_no_terminal()
{
    let scene = Scene::new().await;
    let (publisher, store) = (scene.declare().await, scene.prepare().await);
    for instance in ["a", "b"] {
        store.beat(&worker(instance, 2)).await.unwrap();
    }
    publish_one_each(&publisher).await;

    let (status, code) = eventually(async || {
        let seen = json(&scene, "status").await;
        ["new.0", "retry"].iter().all(|name| queue(&seen.0, name)["ready"] == 1).then_some(seen)
    })
    .await;
    assert_eq!(code, 0, "{status:#}");
    let (fresh, retry) = (queue(&status, "new.0"), queue(&status, "retry"));
    assert_eq!((&fresh["ready"], &fresh["consumers"]), (&json!(1), &json!(0)), "{fresh:#}");
    let load = (&retry["in_hand"], &retry["per_second"], &retry["taken_age_ms"]);
    assert_eq!(load, (&json!(4), &json!(9.0), &json!(1_500)), "{retry:#}");
    assert_eq!(queue(&status, "wait.1s")["in_hand"], Value::Null);
    assert_eq!(status["workers"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&status["workers"][0]["build"], &status["workers"][0]["stale"]),
        (&json!("0.1.0+test"), &json!(false))
    );
    assert_eq!(status["downstreams"][1]["circuits"], json!({ "closed": 0, "half_open": 0, "open": 2 }));
    assert_eq!(status["downstreams"][2]["circuits"], Value::Null, "nobody has told of accounting");
    let database = &status["database"];
    let counts = ["under_way", "held", "owing"].map(|name| database[name].as_u64());
    assert_eq!((counts, &database["oldest_due"]), ([Some(0); 3], &json!("none")), "{database:#}");
    assert_eq!((&status["dead_letters"], &status["unseen"]), (&json!(0), &json!([])), "{status:#}");

    let table = run(&scene, "status").await;
    let text = stdout(&table);
    assert!(text.starts_with("QUEUE") && text.contains("answers in"), "{text}");
    let accounting = text.lines().find(|line| line.starts_with("accounting")).unwrap();
    assert!(accounting.contains("unknown"), "{text}");
    assert!(text.lines().all(|line| line.len() <= 100), "{text}");
}

#[tokio::test]
async fn what_cannot_be_seen_is_said_to_be_unknown_and_never_shown_as_none() {
    let nowhere = "127.0.0.1:1";
    let scene = Scene::at(
        &format!("amqp://guest:s3cret@{nowhere}/%2f"),
        &format!("mongodb://{nowhere}/?replicaSet=rs0"),
    )
    .await;
    let (status, code) = json(&scene, "status").await;
    assert_eq!(code, 6, "{status:#}");
    for queue in status["queues"].as_array().unwrap() {
        assert_eq!((&queue["ready"], &queue["in_hand"]), (&Value::Null, &Value::Null), "{queue:#}");
    }
    assert_eq!((&status["workers"], &status["dead_letters"]), (&Value::Null, &Value::Null));
    assert_eq!(status["database"]["reachable"], false);
    assert!(
        status["unseen"].as_array().unwrap().len() >= 2 && !status.to_string().contains("s3cret"),
        "{status:#}"
    );
    let text = stdout(&run(&scene, "status --once").await);
    assert!(text.contains("workers: unknown") && text.contains("does not answer"), "{text}");
    let retry = text.lines().find(|line| line.starts_with("retry")).unwrap();
    assert!(!retry.contains('0') && retry.contains("unknown"), "{text}");
}

#[tokio::test]
async fn the_signal_counts_what_is_to_be_done_and_is_served_to_whatever_scales() {
    let scene = Scene::new().await;
    let (publisher, store) = (scene.declare().await, scene.prepare().await);
    publish_one_each(&publisher).await;
    let (signal, code) = eventually(async || {
        store.beat(&worker("a", 2)).await.unwrap();
        let seen = json(&scene, "signal --workers 0..8").await;
        (seen.0["parts"]["ready"] == 2).then_some(seen)
    })
    .await;
    assert_eq!((code, &signal["valid"], &signal["workers_live"]), (0, &json!(true), &json!(1)), "{signal:#}");
    let parts = ["in_flight", "to_park", "due", "owed"].map(|part| signal["parts"][part].as_u64());
    assert_eq!(
        (parts, &signal["workers_wanted"]),
        ([Some(2), Some(0), Some(0), Some(0)], &json!(1)),
        "{signal:#}"
    );

    let served = Served::start(&scene).await;
    let (status, told) = served.get("/signal").await;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((status, &told["workers_wanted"]), (200, &json!(1)), "{told:#}");
    assert_eq!(served.get("/readyz").await.0, 200);
    // Orders and dead letters are counted beside the looks.
    let metrics = eventually(async || {
        store.beat(&worker("a", 2)).await.unwrap();
        let (_, metrics) = served.get("/metrics").await;
        let is_all = ["orderfleet_dead_letters_open{", r#"queue="retry",state="in_flight"} 2"#];
        is_all.iter().all(|part| metrics.contains(part)).then_some(metrics)
    })
    .await;
    for line in [
        r#"orderfleet_queue_messages{queue="new.0",state="ready"} 1"#,
        r#"orderfleet_queue_messages{queue="retry",state="in_flight"} 2"#,
        r#"orderfleet_signal_known{part="in_flight"} 1"#,
        r#"orderfleet_signal_known{part="orders_held"} 1"#,
        r#"orderfleet_dead_letters_open{queue="poison"} 0"#,
        "orderfleet_orders_under_way 0",
        "orderfleet_workers_wanted 1",
    ] {
        assert!(metrics.lines().any(|told| told == line), "{line} is not in {metrics}");
    }
}

#[tokio::test]
async fn a_signal_that_is_unknown_is_no_zero() {
    let nowhere = "127.0.0.1:1";
    let scene = Scene::at(
        &format!("amqp://guest:s3cret@{nowhere}/%2f"),
        &format!("mongodb://{nowhere}/?replicaSet=rs0"),
    )
    .await;
    let (signal, code) = json(&scene, "signal").await;
    assert_eq!(
        (code, &signal["valid"], &signal["parts"]["ready"]),
        (6, &json!(false), &Value::Null),
        "{signal:#}"
    );
    assert!(
        signal["unknown"].as_array().unwrap().len() == 5 && !signal.to_string().contains("s3cret"),
        "{signal:#}"
    );
    let served = Served::start(&scene).await;
    let (status, told) = served.get("/signal").await;
    assert!(status == 503 && told.contains(r#""valid":false"#), "{status}: {told}");
    assert_eq!((served.get("/healthz").await.0, served.get("/readyz").await.0), (200, 503));
    let (status, metrics) = served.get("/metrics").await;
    assert!(status == 200 && metrics.contains(r#"orderfleet_signal_known{part="ready"} 0"#), "{metrics}");
    let told: Vec<_> = metrics.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert!(
        told.len() == 9 && told.iter().all(|line| line.starts_with("orderfleet_signal_known")),
        "{metrics}"
    );
}

/// `fleet signal --listen`, after its first look.
struct Served {
    url: String,
    _process: tokio::process::Child,
}

impl Served {
    async fn start(scene: &Scene) -> Self {
        let mut command = scene.command("fleet signal --workers 0..8 --listen 127.0.0.1:0");
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let line = timeout(Duration::from_secs(60), lines.next_line()).await.unwrap().unwrap().unwrap();
        let url = line.split(' ').find(|word| word.starts_with("http://")).unwrap();
        let served = Self { url: url.replace("/signal,", ""), _process: process };
        let seen = async || {
            let (_, told) = served.get("/signal").await;
            told.contains("workers_wanted").then_some(())
        };
        eventually(seen).await;
        served
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        let answer = http.get(format!("{}{path}", self.url)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

#[tokio::test]
async fn a_pause_is_listed_replaced_resumed_and_recorded() {
    let scene = Scene::new().await;
    let store = scene.prepare().await;
    let (none, code) = json(&scene, "pauses").await;
    assert_eq!((none, code), (json!([]), 4));

    let pause = |reason: &str| format!("pause queue:orders.new.0 --for 30m --reason {reason}");
    let (first, code) = json(&scene, &pause("a-look")).await;
    assert_eq!((&first["target"], &first["replaced"], code), (&json!("queue:new.0"), &Value::Null, 0));
    let (second, _) = json(&scene, &pause("a-longer-look")).await;
    assert_eq!(second["replaced"]["reason"], "a-look", "{second:#}");
    let listed = run(&scene, "pauses").await;
    let lines: Vec<_> = stdout(&listed).lines().map(str::to_owned).collect();
    assert!(lines.len() == 2 && lines[1].starts_with("queue:new.0  tester "), "{lines:?}");
    let (status, _) = json(&scene, "status").await;
    assert_eq!(queue(&status, "new.0")["paused"]["reason"], "a-longer-look");

    let resume = "resume queue:new.0 --reason seen";
    let (resumed, code) = json(&scene, resume).await;
    assert_eq!((&resumed["resumed"]["reason"], code), (&json!("a-longer-look"), 0));
    let (again, code) = json(&scene, resume).await;
    assert_eq!((&again["resumed"], code), (&Value::Null, 4));
    let entries = logged(&store).await;
    let told: Vec<_> =
        entries.iter().map(|entry| (entry.record.what.as_str(), entry.record.result.as_deref())).collect();
    assert_eq!(told.len(), 6, "{told:?}");
    assert_eq!((told[0], told[1]), (("fleet.pause", None), ("fleet.pause", Some("paused"))));
    assert!(told[3].1.unwrap().starts_with("paused in place of tester's until"), "{told:?}");
    assert!(told[5].0 == "fleet.resume" && told[5].1.unwrap().starts_with("resumed"), "{told:?}");
}

#[tokio::test]
async fn what_cannot_be_paused_is_refused_with_what_could_be() {
    let scene = Scene::new().await;
    let store = scene.prepare().await;
    for (target, length, code, told) in [
        ("queue:wait.1s", "1h", 2, "queue:NAME"),
        ("queue:new", "169h", 2, "7 days"),
        ("queue:new", "0s", 2, "7 days"),
        ("queue:new.1", "1h", 4, "queue:new.0"),
        ("downstream:fulfillment", "1h", 4, "downstream:fulfilment"),
    ] {
        let refused = run(&scene, &format!("pause {target} --for {length} --reason x")).await;
        assert_eq!(refused.status.code(), Some(code), "{target}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(told), "{target}: {}", stderr(&refused));
    }
    assert_eq!(run(&scene, "pause queue:new").await.status.code(), Some(2), "without a reason");
    let long = "x".repeat(201);
    let refused = run(&scene, &format!("pause queue:new --reason {long}")).await;
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert_eq!(logged(&store).await.len(), 0);
}

struct Deaf;

impl Observer for Deaf {
    fn subscribed(&self) {}

    fn lost(&self, _why: &str) {}

    fn alive(&self) {}
}

#[tokio::test]
async fn a_pause_warns_of_a_consumer_that_says_nothing_of_itself() {
    let scene = Scene::new().await;
    let (_publisher, _store) = (scene.declare().await, scene.prepare().await);
    let lane = Lane::Retry;
    let (permits, control) = (Arc::new(Semaphore::new(1)), Control::default());
    let consumer = Consumer {
        settings: scene.broker.clone(),
        topology: scene.topology(),
        name: "older".into(),
        subscriptions: vec![Subscription { lane, prefetch: 1, permits, control }],
        paused: watch::channel(false).1,
    };
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    let consuming = tokio::spawn(async move {
        consumer.run(&Deaf, token, |delivery: Delivery| async move { delivery.ack() }).await
    });
    eventually(async || {
        let paused = run(&scene, "pause queue:new --reason x").await;
        stderr(&paused).contains("warning: a consumer of retry says").then_some(())
    })
    .await;
    shutdown.cancel();
    consuming.await.unwrap().unwrap();
}

#[tokio::test]
async fn nothing_is_scaled_where_no_fleet_runs() {
    let scene = Scene::new().await;
    let store = scene.prepare().await;
    let refused = run(&scene, "scale 3 --reason x").await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("orderfleet up"), "{}", stderr(&refused));
    assert_eq!(run(&scene, "scale 65 --reason x").await.status.code(), Some(2));
    assert_eq!(logged(&store).await.len(), 0);
}

/// No worker runs: what lies in a lane stays there.
#[tokio::test]
async fn a_drain_that_does_not_come_to_an_end_says_what_is_left_and_leaves_fresh_orders_paused() {
    let scene = Scene::new().await;
    let (publisher, _store) = (scene.declare().await, scene.prepare().await);
    let lane = Destination::Lane(Lane::Retry);
    let outgoing = Outgoing { destination: lane, headers: Headers::new("place"), body: "x".into() };
    publisher.publish(&outgoing).await.unwrap();
    let (left, code) = json(&scene, "drain --timeout 1s --for 10m --reason update").await;
    assert_eq!(
        (code, &left["drained"], &left["target"]),
        (9, &json!(false), &json!("queue:new")),
        "{left:#}"
    );
    assert_eq!(left["in_flight"], json!([{ "what": "messages in retry", "count": 1 }]));
    let (pauses, _) = json(&scene, "pauses").await;
    assert_eq!(pauses[0]["target"], "queue:new");
}

#[tokio::test]
async fn a_drain_ends_nobodys_longer_pause_sooner_and_names_it() {
    let scene = Scene::new().await;
    let (_publisher, _store) = (scene.declare().await, scene.prepare().await);
    json(&scene, "pause queue:new --for 9h --reason migration").await;
    let (longer, _) = json(&scene, "pauses").await;
    let drain = "drain --timeout 9m --for 10m --reason update";
    let (drained, code) = json(&scene, drain).await;
    assert_eq!((code, &drained["until"]), (0, &longer[0]["until"]), "{drained:#}");
    assert_eq!(drained["replaced"]["reason"], "migration", "{drained:#}");
    let told = stderr(&run(&scene, drain).await);
    assert!(told.contains("in place of tester's pause, which had 8h"), "{told}");

    let (shorter, _) = json(&scene, "pause queue:new --for 1m --reason soon").await;
    let (drained, _) = json(&scene, drain).await;
    assert!(drained["until"].as_str() > shorter["until"].as_str(), "{drained:#}");
}

#[tokio::test]
async fn a_drain_that_would_wait_for_longer_than_fresh_orders_are_paused_is_refused() {
    let scene = Scene::new().await;
    let store = scene.prepare().await;
    let refused = run(&scene, "drain --timeout 10m --for 10m --reason update").await;
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("--for 4h --timeout 30m"), "{}", stderr(&refused));
    assert_eq!(logged(&store).await.len(), 0);
}
