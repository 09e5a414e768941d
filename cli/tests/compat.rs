//! `orderfleet compat` as a process: a fleet whose every part fits, and one in which something of each kind does not.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod scene;

use jiff::Timestamp;
use orderfleet_domain::failure::{Failure, FailureClass};
use orderfleet_domain::saga::{
    DOCUMENT_VERSION, DeadLetterQueue, Lane, Nonce, Phase, Record, StepSettings, StoreReply, WorkerId,
};
use orderfleet_domain::{
    AccountId, Command, CommandKind, Fingerprint, Order, OrderId, SCHEMA_VERSION, StepName,
};
use orderfleet_messaging::{Destination, Headers, Outgoing, Publisher, Topology};
use orderfleet_storage::{DeadLetter, Store, Subject};
use scene::{Scene, json, stderr, stdout};
use serde_json::{Value, json};

fn account() -> AccountId {
    "demo".parse().unwrap()
}

fn order_id(key: &str) -> OrderId {
    OrderId::derive(&"eu1".parse().unwrap(), &account(), &key.parse().unwrap())
}

fn order() -> Order {
    serde_json::from_value(json!({
        "channel": "retail", "currency": "GBP", "payment_ref": "p", "ship_to": { "name": "A. Person", "country": "GB" },
        "lines": [{ "sku": "85123A", "quantity": 1, "unit_price": "1.00" }],
    }))
    .unwrap()
}

fn steps() -> Vec<StepName> {
    StepSettings::defaults().into_iter().map(|step| step.name).collect()
}

async fn insert(store: &Store, key: &str, change: impl FnOnce(&mut Record)) {
    let mut record = Record::first(Fingerprint::of(&order()), steps(), WorkerId("w".into()), 0, Nonce(1));
    change(&mut record);
    let inserted = store.insert(&order_id(key), &account(), &order(), Timestamp::now(), &record).await;
    assert_eq!(inserted, StoreReply::Applied);
}

/// The message of a posted order.
fn place(key: &str) -> Vec<u8> {
    let kind = CommandKind::Place { order: Box::new(order()), accepted_at: Timestamp::now() };
    let fp = Some(Fingerprint::of(&order()));
    Command { order_id: order_id(key), account: account(), generation: 1, fp, kind }.encode()
}

/// As a later build may send it.
fn newer_message() -> Vec<u8> {
    json!({ "v": SCHEMA_VERSION + 1, "novel": "A. Person" }).to_string().into_bytes()
}

async fn publish(publisher: &Publisher, destination: Destination, key: &str, body: Vec<u8>) {
    let headers = Headers::new("place").order(&order_id(key), &account());
    publisher.publish(&Outgoing { destination, headers, body: body.into() }).await.unwrap();
}

async fn park(store: &Store, key: &str, class: FailureClass, body: Vec<u8>) {
    let letter = DeadLetter {
        id: "l".into(),
        queue: DeadLetterQueue::Poison,
        subject: Some(Subject { order_id: order_id(key), account: account(), generation: 1 }),
        kind: "place".into(),
        reason: "r".into(),
        failure: Failure::new(None, class, None, "r"),
        build: None,
        trace_id: None,
        attempts: Vec::new(),
        headers: Vec::new(),
        body,
    };
    assert!(store.park(&letter, 0).await.unwrap());
}

fn kind<'a>(report: &'a Value, name: &str) -> &'a Value {
    let kinds = report["kinds"].as_array().unwrap();
    let found = kinds.iter().find(|kind| kind["kind"].as_str().unwrap().ends_with(name));
    found.unwrap_or_else(|| panic!("no {name} in {kinds:#?}"))
}

/// Verdict, count and examples of each misfit of a kind.
fn misfits(report: &Value, name: &str) -> Vec<(String, u64, Vec<String>)> {
    let misfits = kind(report, name)["misfits"].as_array().unwrap().iter().map(|misfit| {
        assert!(!misfit["what"].as_str().unwrap().is_empty() && !misfit["fix"].as_str().unwrap().is_empty());
        let examples =
            misfit["examples"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned());
        (
            misfit["verdict"].as_str().unwrap().to_owned(),
            misfit["count"].as_u64().unwrap(),
            examples.collect(),
        )
    });
    misfits.collect()
}

#[tokio::test]
async fn a_build_fits_the_fleet_it_is_of_and_a_look_takes_nothing() {
    let scene = Scene::new().await;
    let (publisher, store) = (scene.declare().await, scene.prepare().await);
    insert(&store, "run", |_| {}).await;
    insert(&store, "owes", |record| (record.phase, record.evp) = (Phase::Done, true)).await;
    insert(&store, "again", |record| record.phase = Phase::Undone).await;
    park(&store, "crashed", FailureClass::Crashed, place("crashed")).await;
    park(&store, "bad", FailureClass::Unreadable, b"never read by anybody".to_vec()).await;
    publish(&publisher, Destination::Lane(Lane::New(0)), "new", place("new")).await;
    let poison = Destination::DeadLetter(DeadLetterQueue::Poison);
    publish(&publisher, poison, "poison", b"nor this".to_vec()).await;

    for _ in 0..2 {
        let output = scene.run("compat --against live --output json").await;
        let report = json(&output);
        assert_eq!((output.status.code(), &report["verdict"]), (Some(0), &json!("fits")), "{report:#}");
        for (name, seen) in [
            ("orders under way", 1),
            ("orders that owe a publish", 1),
            ("orders that may run again", 1),
            ("dead letters", 2),
            ("orders.new.0", 1),
            ("orders.dead.poison", 1),
        ] {
            assert_eq!(kind(&report, name)["seen"], seen, "{name}");
        }
    }
}

#[tokio::test]
async fn whatever_this_build_cannot_go_on_with_is_named_by_its_order_and_with_what_to_do() {
    let scene = Scene::new().await;
    let (publisher, store) = (scene.declare().await, scene.prepare().await);
    insert(&store, "newer", |record| record.sv = DOCUMENT_VERSION + 1).await;
    let customs: StepName = "customs".parse().unwrap();
    insert(&store, "customs", |record| record.steps[1] = customs.clone()).await;
    insert(&store, "broken", |record| record.cur = 7).await;
    insert(&store, "fine", |_| {}).await;
    park(&store, "newer", FailureClass::Crashed, newer_message()).await;
    park(&store, "lost", FailureClass::Crashed, b"it was read once".to_vec()).await;
    publish(&publisher, Destination::Lane(Lane::Retry), "newer", newer_message()).await;
    publish(&publisher, Destination::Lane(Lane::New(0)), "bad", b"A. Person".to_vec()).await;
    publish(&publisher, Destination::Lane(Lane::Quarantine), "q", place("q")).await;
    let of_settings_with_customs =
        Topology::new(&scene.broker.prefix, 1, 1_000_000, std::slice::from_ref(&customs));
    let with_customs = Publisher::connect(&scene.broker, of_settings_with_customs, "test").await.unwrap();
    let dead = Destination::DeadLetter(DeadLetterQueue::Step(customs));
    publish(&with_customs, dead, "customs", place("customs")).await;

    let output = scene.run("compat --against live --output json").await;
    let report = json(&output);
    assert_eq!((output.status.code(), &report["verdict"]), (Some(10), &json!("does_not_fit")), "{report:#}");
    let misfit = |verdict: &str, examples: &[String]| {
        (verdict.to_owned(), u64::try_from(examples.len()).unwrap(), examples.to_vec())
    };
    let order = |key: &str| order_id(key).to_string();
    let mut found = misfits(&report, "orders under way");
    found.sort();
    let mut expected = [
        misfit("does_not_fit", &[order("newer")]),
        misfit("does_not_fit", &[order("broken")]),
        misfit("fits_with_settings", &[order("customs")]),
    ];
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(kind(&report, "orders under way")["seen"], 4);
    let mut found = misfits(&report, "dead letters");
    found.sort();
    let mut expected = ["newer", "lost"].map(|key| misfit("does_not_fit", &[format!("{}.l", order(key))]));
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(misfits(&report, "orders.retry"), [misfit("does_not_fit", &[order("newer")])]);
    assert_eq!(misfits(&report, "orders.new.0"), [misfit("does_not_fit", &[order("bad")])]);
    assert_eq!(kind(&report, "orders.quarantine")["verdict"], "left_out", "it is not looked at");
    let undeclared = misfits(&report, "undeclared queues");
    assert_eq!(undeclared, [("fits_with_settings".to_owned(), 1, Vec::new())]);

    let table = scene.run("compat --against live").await;
    assert!(stdout(&table).contains("entry named customs"), "{}", stdout(&table));
    for output in [&output, &table] {
        assert!(!stdout(output).contains("Person") && !stderr(output).contains("Person"));
    }
}

#[tokio::test]
async fn what_was_not_looked_at_is_not_called_fitting() {
    let mut scene = Scene::new().await;
    let (publisher, store) = (scene.declare().await, scene.prepare().await);
    publish(&publisher, Destination::Lane(Lane::Retry), "a", place("a")).await;
    for key in ["a", "b"] {
        insert(&store, key, |_| {}).await;
    }
    let output = scene.run("compat --against live --messages 0 --limit 1 --output json").await;
    let report = json(&output);
    assert_eq!((output.status.code(), &report["verdict"]), (Some(3), &json!("unknown")), "{report:#}");
    assert_eq!(kind(&report, "orders under way")["verdict"], "unknown");
    publish(&publisher, Destination::Lane(Lane::Quarantine), "q", place("q")).await;
    let output = scene.run("compat --against live --messages 0 --output json").await;
    let report = json(&output);
    assert_eq!((output.status.code(), &report["verdict"]), (Some(0), &json!("fits")), "{report:#}");
    for name in ["orders.retry", "orders.quarantine"] {
        assert_eq!(kind(&report, name)["verdict"], "left_out", "{name}: it was not to be looked at");
    }
    scene.broker.new_bytes_max = 2_000_000;
    let drifted = scene.run("compat --against live --output json").await;
    assert_eq!(drifted.status.code(), Some(10));
    let verdicts: Vec<_> = misfits(&json(&drifted), "topology").into_iter().map(|misfit| misfit.0).collect();
    assert_eq!(verdicts, ["does_not_fit"], "a start with these settings is refused");
    scene.broker.url = "amqp://guest:guest@127.0.0.1:1/%2f".to_owned();
    assert_eq!(scene.run("compat --against live").await.status.code(), Some(6));
}
