//! What the tests of replays are about: an order, its record, and a dead letter of it.

use orderfleet_domain::{
    AccountId, Command, CommandKind, Fingerprint, Order, OrderId, StepName,
    saga::{Cause, CauseClass, Hold, Nonce, Phase, Record, WorkerId},
};
use orderfleet_storage::{Content, ItemState, Letter, ReplayItem};
use serde_json::json;

pub(super) fn order() -> Order {
    serde_json::from_value(json!({
        "channel": "retail", "currency": "GBP", "payment_ref": "p", "ship_to": { "country": "IE" },
        "lines": [{ "sku": "85123A", "quantity": 1, "unit_price": "1.00" }],
    }))
    .unwrap()
}

fn account() -> AccountId {
    "demo".parse().unwrap()
}

pub(super) fn order_id() -> OrderId {
    OrderId::derive(&"eu1".parse().unwrap(), &account(), &"k".parse().unwrap())
}

pub(super) fn command(generation: u32, kind: CommandKind) -> Command {
    Command { order_id: order_id(), account: account(), generation, fp: None, kind }
}

/// The message that was posted.
pub(super) fn place() -> Command {
    let kind = CommandKind::Place { order: Box::new(order()), accepted_at: jiff::Timestamp::UNIX_EPOCH };
    Command { fp: Some(Fingerprint::of(&order())), ..command(1, kind) }
}

pub(super) fn content(body: Vec<u8>) -> Content {
    let headers = vec![("traceparent".to_owned(), "00-1".to_owned())];
    Content { headers, body, correction: None }
}

/// A letter of the order's first run.
pub(super) fn letter(queue: &str) -> Letter {
    let id = format!("{}.letter", order_id());
    serde_json::from_value(json!({
        "id": id, "queue": queue, "order_id": order_id(), "account": "demo", "gen": 1, "kind": "place",
        "reason": "a reason", "step": "fulfilment", "class": "attempts_exhausted", "answer": "500",
        "fingerprint": "aaaaaaaaaaaaaaaa", "size": 1, "seen": 1,
        "attempts": [{ "at": "2026-01-01T00:00:00Z", "what": "attempt_failed" }],
        "first_seen": "2026-01-01T00:00:00Z", "last_seen": "2026-01-01T00:00:00Z",
    }))
    .unwrap()
}

/// The order in a phase of its first run.
pub(super) fn record(phase: Phase) -> Record {
    let steps: Vec<StepName> =
        ["inventory", "fulfilment", "accounting"].map(|name| name.parse().unwrap()).into();
    let first = Record::first(Fingerprint::of(&order()), steps, WorkerId("w".into()), 0, Nonce(1));
    Record { phase, ..first }
}

pub(super) fn undone(class: CauseClass, code: Option<&str>) -> Record {
    let record = record(Phase::Undone);
    let (step, code) = (record.steps[1].clone(), code.map(str::to_owned));
    let cause = Cause { class, step, code, message: "an answer".into(), rev: 4 };
    Record { cause: Some(cause), is_final: class.is_final(), ..record }
}

pub(super) fn held(phase: Phase, hold: &str) -> Record {
    let record = record(phase);
    let step = record.steps[0].clone();
    Record { hold: Some(Hold { id: hold.into(), step, reason: "in use".into(), at: 0 }), ..record }
}

pub(super) fn item(seq: u32, state: ItemState) -> ReplayItem {
    ReplayItem {
        seq,
        letter: format!("{}.{seq}", order_id()),
        order_id: Some(order_id()),
        planned: String::new(),
        state,
        generation: 0,
        hold: None,
        is_undoing: false,
        is_corrected: false,
        is_cancel: false,
        arrivals: 0,
        is_letter_left: false,
        note: String::new(),
    }
}
