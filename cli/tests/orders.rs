//! `orderfleet orders` and `orderfleet log` as processes, against a real database.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod scene;

use jiff::Timestamp;
use orderfleet_domain::failure::{Failure, FailureClass};
use orderfleet_domain::saga::{
    Cause, CauseClass, DeadLetterQueue, Nonce, Phase, Record, StepSettings, StoreReply, WorkerId,
};
use orderfleet_domain::{AccountId, Fingerprint, Order, OrderId};
use orderfleet_storage::{DeadLetter, Ended, How, Store, Subject};
use scene::{Scene, json, stderr, stdout};
use serde_json::json;

fn account() -> AccountId {
    "demo".parse().unwrap()
}

fn order_id(key: &str) -> OrderId {
    OrderId::derive(&"eu1".parse().unwrap(), &account(), &key.parse().unwrap())
}

/// Inserts an order that has ended, with a dead letter of its step.
async fn ended(store: &Store, key: &str, phase: Phase, is_final: bool) -> String {
    let order: Order = serde_json::from_value(json!({
        "channel": "retail", "currency": "GBP", "payment_ref": "p", "ship_to": { "country": "IE" },
        "lines": [{ "sku": "85123A", "quantity": 1, "unit_price": "1.00" }],
    }))
    .unwrap();
    let steps: Vec<_> = StepSettings::defaults().into_iter().map(|step| step.name).collect();
    let step = steps[1].clone();
    let class = CauseClass::AttemptsExhausted;
    let cause = Cause { class, step: step.clone(), code: None, message: "500".into(), rev: 4 };
    let first = Record::first(Fingerprint::of(&order), steps, WorkerId("w".into()), 0, Nonce(1));
    let record = Record { phase, is_final, cause: Some(cause), owner: None, rev: 6, ..first };
    let inserted = store.insert(&order_id(key), &account(), &order, Timestamp::UNIX_EPOCH, &record).await;
    assert_eq!(inserted, StoreReply::Applied);
    let letter = DeadLetter {
        id: "l".into(),
        queue: DeadLetterQueue::Step(step.clone()),
        subject: Some(Subject { order_id: order_id(key), account: account(), generation: 1 }),
        kind: "place".into(),
        reason: "attempts_exhausted".into(),
        failure: Failure::new(Some(step), FailureClass::Run(class), None, "500"),
        build: None,
        trace_id: None,
        attempts: Vec::new(),
        headers: Vec::new(),
        body: b"{}".to_vec(),
    };
    assert!(store.park(&letter, 0).await.unwrap());
    format!("{}.l", order_id(key))
}

#[tokio::test]
async fn an_order_names_its_dead_letter_as_the_next_step_only_while_that_can_bring_it_back() {
    let scene = Scene::new().await;
    let store = scene.prepare().await;
    let open = ended(&store, "open", Phase::Undone, false).await;
    ended(&store, "final", Phase::Undone, true).await;
    ended(&store, "done", Phase::Done, false).await;
    let replayed = ended(&store, "replayed", Phase::Undone, false).await;
    let by_jo =
        Ended { how: How::Replayed, by: "jo".into(), why: "x".into(), at: Timestamp::now(), job: None };
    store.lease_letter(&replayed, "job", 0, i64::from(i32::MAX)).await.unwrap();
    assert!(store.end_letter(&replayed, "job", &by_jo).await.unwrap());

    for (key, next) in [("open", Some(&open)), ("final", None), ("done", None), ("replayed", None)] {
        let shown = scene.run(&format!("orders get {}", order_id(key))).await;
        assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
        let text = stdout(&shown);
        let told = text.lines().find_map(|line| line.strip_prefix("next        orderfleet dlq show "));
        assert_eq!(told, next.map(String::as_str), "{key}: {text}");
    }
    let report = json(&scene.run(&format!("orders get {} --output json", order_id("replayed"))).await);
    let letter = &report["dead_letters"][0];
    assert_eq!((&letter["queue"], &letter["is_open"]), (&json!("fulfilment"), &json!(false)), "{report:#}");
}

#[tokio::test]
async fn nothing_found_is_said_and_leaves_no_file() {
    let scene = Scene::new().await;
    scene.prepare().await;
    for arguments in ["orders list --older-than 1d", "orders stuck --older-than 2d", "log export none.jsonl"]
    {
        let output = scene.run(arguments).await;
        assert_eq!(output.status.code(), Some(4), "{arguments}: {}", stderr(&output));
    }
    assert!(!scene.folder.path().join("none.jsonl").exists());
    let nobody = scene.run("orders watch -").await;
    assert_eq!(nobody.status.code(), Some(4));
    assert!(stderr(&nobody).contains("no order was named"), "{}", stderr(&nobody));
    let wrong = scene.run("orders watch eu1").await;
    assert_eq!(wrong.status.code(), Some(2), "{}", stderr(&wrong));
}
