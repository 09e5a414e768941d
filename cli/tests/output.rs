//! What commands print about a fleet that has seen a bit of everything, table by table: what a user reads changes only on
//! purpose.
//!
//! After a change: `UPDATE_OUTPUT=1 cargo test -p orderfleet --test output`, and read the difference.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod kept;
mod scene;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use kept::Kept;
use orderfleet_domain::failure::{Failure, FailureClass};
use orderfleet_domain::saga::{
    Cause, CauseClass, DeadLetterQueue, Hold, Nonce, Phase, Record, StepSettings, StoreReply, WorkerId,
};
use orderfleet_domain::{AccountId, Command, CommandKind, Fingerprint, Order, OrderId, StepName};
use orderfleet_storage::{Attempt, DeadLetter, Store, Subject};
use scene::{Scene, stderr, stdout};
use serde_json::json;

/// The commands, each with the name of its file. `discard` is there for what it leaves in the operator log.
fn commands() -> Vec<(&'static str, String)> {
    let letter = format!("{}.l", order_id("undone"));
    vec![
        ("dlq-stats", "dlq stats".into()),
        ("dlq-list", "dlq list".into()),
        ("dlq-show", format!("dlq show {letter}")),
        ("dlq-peek", "dlq peek fulfilment".into()),
        ("dlq-discard-plan", "dlq discard --where class=conflict".into()),
        ("dlq-discard", "dlq discard --where class=conflict --yes --reason answered".into()),
        ("log-list", "log list".into()),
        ("orders-get", format!("orders get {}", order_id("undone"))),
        ("orders-get-held", format!("orders get {}", order_id("held"))),
        ("orders-list", "orders list --oldest-first".into()),
        ("orders-list-wide", "orders list --oldest-first --wide".into()),
        ("orders-stuck", "orders stuck --older-than 0s".into()),
    ]
}

#[tokio::test]
async fn what_is_printed_is_as_it_was() {
    let scene = Scene::new().await;
    scene.declare().await;
    plant(&scene.prepare().await).await;
    let mut printed = BTreeMap::new();
    for (name, command) in commands() {
        let output = scene.run(&command).await;
        assert!(output.status.success(), "{command}: {}", stderr(&output));
        printed.insert(name.to_owned(), normalised(&stdout(&output)));
    }
    Kept::new("output").compare(&printed);
}

/// A text without what differs from run to run: times, ages, and how wide these make a column.
fn normalised(text: &str) -> String {
    let mut normal = String::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let cells = line[indent..].split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        let cells = cells.map(|cell| cell.split(' ').map(timeless).collect::<Vec<_>>().join(" "));
        normal += &" ".repeat(indent);
        normal += &cells.collect::<Vec<_>>().join("  ");
        normal.push('\n');
    }
    normal
}

fn timeless(word: &str) -> String {
    let core = word.trim_end_matches([',', '.', ';']);
    let rest = &word[core.len()..];
    if core.parse::<Timestamp>().is_ok() {
        return format!("<time>{rest}");
    }
    let parts = core.split(':').map(|part| if is_age(part) { "<age>" } else { part });
    parts.collect::<Vec<_>>().join(":") + rest
}

fn is_age(word: &str) -> bool {
    let number = ["ms", "s", "m", "h", "d"].iter().find_map(|unit| word.strip_suffix(unit));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

#[test]
fn what_is_normal_has_no_times_in_it() {
    let text = "ID    AGE\na-5m  12ms\n  parked  9s ago, 2026-01-02T03:04:05.678Z  next-try:29s  x";
    assert_eq!(normalised(text), "ID  AGE\na-5m  <age>\n  parked  <age> ago, <time>  next-try:<age>  x\n");
}

/// Orders in every state, and dead letters of several kinds.
async fn plant(store: &Store) {
    let first = |steps| Record::first(fp(), steps, WorkerId("w1".into()), 0, Nonce(1));
    let due_at = Some((Timestamp::now() + SignedDuration::from_hours(3)).as_millisecond());
    let hold = Hold { id: "h".into(), step: steps().remove(1), reason: "out_of_stock: no".into(), at: 1_000 };
    let records = [
        ("run", Record { att: 2, due_at, owner: None, ..first(steps()) }),
        (
            "held",
            Record { phase: Phase::Comp, cur: 1, hi: 1, hold: Some(hold), owner: None, ..first(steps()) },
        ),
        ("done", Record { phase: Phase::Done, cur: 2, hi: 2, owner: None, ..first(steps()) }),
        (
            "undone",
            Record { phase: Phase::Undone, cause: Some(cause()), owner: None, rev: 6, ..first(steps()) },
        ),
    ];
    for (key, record) in records {
        let accepted_at = Timestamp::UNIX_EPOCH;
        let inserted = store.insert(&order_id(key), &account(), &order(), accepted_at, &record).await;
        assert_eq!(inserted, StoreReply::Applied, "{key}");
        next_millisecond().await;
    }
    let class = FailureClass::Run(CauseClass::AttemptsExhausted);
    for (key, minutes, answer) in
        [("undone", 300, "503 Busy 1"), ("u2", 90, "503 Busy 2"), ("u3", 5, "503 Busy 3")]
    {
        let failure = Failure::new(Some(steps().remove(1)), class, None, answer);
        park(store, key, DeadLetterQueue::Step(steps().remove(1)), failure, minutes).await;
    }
    let conflict =
        Failure::new(None, FailureClass::Conflict, None, "another body was accepted under this key");
    park(store, "conflict", DeadLetterQueue::Conflict, conflict, 30).await;
}

async fn park(store: &Store, key: &str, queue: DeadLetterQueue, failure: Failure, minutes: i64) {
    let at = Timestamp::now() - SignedDuration::from_mins(minutes);
    let letter = DeadLetter {
        id: "l".into(),
        queue,
        subject: Some(Subject { order_id: order_id(key), account: account(), generation: 1 }),
        kind: "place".into(),
        reason: failure.class.as_str().into(),
        build: Some("0.1.0+test".into()),
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
        attempts: vec![Attempt {
            at,
            what: "attempt_failed".into(),
            step: failure.step.clone(),
            detail: Some(failure.answer().to_owned()),
        }],
        headers: vec![("traceparent".into(), "00-1".into())],
        body: message(key).encode(),
        failure,
    };
    assert!(store.park(&letter, at.as_millisecond()).await.unwrap());
}

/// Lists are ordered by the millisecond.
async fn next_millisecond() {
    let now = Timestamp::now().as_millisecond();
    while Timestamp::now().as_millisecond() == now {
        tokio::task::yield_now().await;
    }
}

fn message(key: &str) -> Command {
    let kind = CommandKind::Place { order: Box::new(order()), accepted_at: Timestamp::UNIX_EPOCH };
    Command { order_id: order_id(key), account: account(), generation: 1, fp: Some(fp()), kind }
}

fn cause() -> Cause {
    let (class, step) = (CauseClass::AttemptsExhausted, steps().remove(1));
    Cause { class, step, code: None, message: "503 Busy 1".into(), rev: 4 }
}

fn steps() -> Vec<StepName> {
    StepSettings::defaults().into_iter().map(|step| step.name).collect()
}

fn account() -> AccountId {
    "demo".parse().unwrap()
}

fn order_id(key: &str) -> OrderId {
    OrderId::derive(&"eu1".parse().unwrap(), &account(), &key.parse().unwrap())
}

fn fp() -> Fingerprint {
    Fingerprint::of(&order())
}

fn order() -> Order {
    serde_json::from_value(json!({
        "channel": "retail", "currency": "GBP", "payment_ref": "p", "ship_to": { "country": "IE" },
        "lines": [{ "sku": "85123A", "quantity": 6, "unit_price": "2.55" }],
    }))
    .unwrap()
}
