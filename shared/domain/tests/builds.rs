//! What a worker does with a document that a newer build has written: it leaves everything to workers of that build.

#![expect(clippy::unwrap_used, reason = "a broken expectation is a failed test")]

use orderfleet_domain::{
    Command, CommandKind, Fingerprint, Order, OrderId,
    saga::{
        CallOutcome, DOCUMENT_VERSION, Delivered, Effect, Ending, Handling, Input, Lane, Moment, Nonce,
        Phase, Policy, Publication, Record, StepSettings, StoreReply, Tier, WorkerId,
    },
};

fn policy() -> Policy {
    Policy::new(StepSettings::defaults(), 30_000).unwrap()
}

fn moment() -> Moment {
    Moment { now: 1_800_000_000_000, nonce: Nonce(7), blocked: false, draining: false }
}

fn fp() -> Fingerprint {
    let order: Order = serde_json::from_value(serde_json::json!({
        "channel": "retail", "currency": "GBP", "payment_ref": "p", "ship_to": {},
        "lines": [{"sku": "A", "quantity": 1, "unit_price": "1"}]
    }))
    .unwrap();
    Fingerprint::of(&order)
}

fn delivered(lane: Lane) -> Handling {
    let (region, account) = ("eu1".parse().unwrap(), "demo".parse().unwrap());
    let command = Command {
        order_id: OrderId::derive(&region, &account, &"k".parse().unwrap()),
        account,
        generation: 1,
        fp: Some(fp()),
        kind: CommandKind::Resume {},
    };
    Handling::new(Delivered { command, redelivered: false, lane }, WorkerId("w".into()))
}

/// Under way, claimed by this worker.
fn claimed() -> Record {
    let first = Record::first(fp(), policy().step_names(), WorkerId("w".into()), 0, Nonce(7));
    Record { epoch: 2, rev: 2, ..first }
}

/// As a newer build may have left it: under way, ended, being undone, or in another run.
fn left_by_a_newer_build() -> [Record; 5] {
    let newer = Record { sv: DOCUMENT_VERSION + 1, epoch: 3, rev: 3, nonce: Nonce(9), ..claimed() };
    [
        newer.clone(),
        Record { phase: Phase::Comp, ..newer.clone() },
        Record { phase: Phase::Done, evp: true, ..newer.clone() },
        Record { phase: Phase::Undone, is_final: true, ..newer.clone() },
        Record { generation: 2, ..newer },
    ]
}

/// A copy waits, and nothing else is done: no event is published, no flag touched, no dead letter parked.
fn assert_left_alone(handling: &mut Handling, found: &Record) {
    let reply = Input::Store(StoreReply::Found(Some(Box::new(found.clone()))));
    let effect = handling.on(&policy(), &moment(), reply);
    let copy = Publication::Copy { lane: Lane::Retry, wait: Some(Tier::M2) };
    assert_eq!(effect, Effect::Publish(vec![copy]), "{found:?}");
    assert_eq!(handling.on(&policy(), &moment(), Input::NotConfirmed), effect, "until it is confirmed");
    assert_eq!(handling.on(&policy(), &moment(), Input::Confirmed), Effect::Ack(Ending::Deferred));
}

#[test]
fn a_delivery_that_finds_a_newer_document_waits_for_a_newer_build() {
    for found in left_by_a_newer_build() {
        let mut handling = delivered(Lane::Retry);
        assert!(matches!(handling.on(&policy(), &moment(), Input::Delivered), Effect::Claim(_)));
        let effect = handling.on(&policy(), &moment(), Input::Store(StoreReply::NoMatch));
        assert_eq!(effect, Effect::Read);
        assert_left_alone(&mut handling, &found);
    }
}

#[test]
fn a_worker_that_is_overtaken_by_a_newer_build_leaves_the_order_to_it() {
    for found in left_by_a_newer_build() {
        let mut handling = delivered(Lane::Retry);
        handling.on(&policy(), &moment(), Input::Delivered);
        let called =
            handling.on(&policy(), &moment(), Input::Store(StoreReply::Claimed(Box::new(claimed()))));
        assert!(matches!(called, Effect::Call { .. }), "{called:?}");
        let success = CallOutcome::Success { result: "{}".into() };
        let wrote = handling.on(&policy(), &moment(), Input::Called(success));
        assert!(matches!(wrote, Effect::Write(_)), "{wrote:?}");
        let missed = handling.on(&policy(), &moment(), Input::Store(StoreReply::NoMatch));
        assert_eq!(missed, Effect::Read);
        assert_left_alone(&mut handling, &found);
    }
}
