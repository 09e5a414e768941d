//! Steps that are called on one write: what is recorded of them, by which write, and where each step has a write of its own.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken expectation is a failed test")]

use orderfleet_domain::{
    Command, CommandKind, Fingerprint, Order, OrderId, StepName,
    saga::{
        CallOutcome, Delivered, Effect, Entry, Handling, Input, Lane, Millis, Moment, Nonce, Phase, Policy,
        Record, StepSettings, StoreReply, Verb, WorkerId, Write,
    },
};

const START: Millis = 1_800_000_000_000;
const LEASE_MS: Millis = 30_000;

fn policy() -> Policy {
    let mut steps = StepSettings::defaults();
    steps.iter_mut().for_each(|step| step.quick_retries = 0);
    Policy::new(steps, LEASE_MS).unwrap()
}

fn delivered(lane: Lane) -> Delivered {
    let order: Order = serde_json::from_value(serde_json::json!({
        "channel": "retail", "currency": "GBP", "payment_ref": "p", "ship_to": {},
        "lines": [{"sku": "A", "quantity": 1, "unit_price": "1"}]
    }))
    .unwrap();
    let (region, account) = ("eu1".parse().unwrap(), "demo".parse().unwrap());
    let command = Command {
        order_id: OrderId::derive(&region, &account, &"k".parse().unwrap()),
        account,
        generation: 1,
        fp: Some(Fingerprint::of(&order)),
        kind: CommandKind::Place { order: Box::new(order), accepted_at: jiff::Timestamp::UNIX_EPOCH },
    };
    Delivered { command, redelivered: false, lane }
}

/// A worker with an order in its hands.
struct Worker {
    handling: Handling,
    /// Every input is a moment of its own.
    inputs: u128,
    now: Millis,
    draining: bool,
}

impl Worker {
    fn with(lane: Lane) -> Self {
        let handling = Handling::new(delivered(lane), WorkerId("w".into()));
        Self { handling, inputs: 0, now: START, draining: false }
    }

    /// One that has just inserted the order.
    fn that_inserted() -> (Self, Record) {
        let mut worker = Self::with(Lane::New(0));
        let Effect::Insert(record) = worker.on(Input::Delivered) else { panic!("no insert") };
        assert_eq!(worker.on(Input::Store(StoreReply::Applied)), call(0));
        (worker, *record)
    }

    fn on(&mut self, input: Input) -> Effect {
        self.inputs += 1;
        let moment =
            Moment { now: self.now, nonce: Nonce(self.inputs), blocked: false, draining: self.draining };
        self.handling.on(&policy(), &moment, input)
    }

    fn answered(&mut self, result: &str) -> Effect {
        self.on(Input::Called(CallOutcome::Success { result: result.into() }))
    }

    fn writes(&mut self, input: Input) -> Write {
        match self.on(input) {
            Effect::Write(write) => *write,
            other => panic!("not a write: {other:?}"),
        }
    }
}

fn call(step: u32) -> Effect {
    Effect::Call { step, verb: Verb::Do, quick_retry: 0 }
}

fn success(result: &str) -> Input {
    Input::Called(CallOutcome::Success { result: result.into() })
}

fn results(record: &Record) -> Vec<(&str, &str)> {
    record.results.iter().map(|result| (result.step.as_str(), result.result.as_str())).collect()
}

fn happened(write: &Write) -> Vec<(&str, &str)> {
    fn told(entry: &Entry) -> (&str, &str) {
        (entry.what.as_str(), entry.step.as_ref().map_or("", StepName::as_str))
    }
    write.entries.iter().map(told).collect()
}

const BOTH: [(&str, &str); 2] = [("inventory", "reserved"), ("fulfilment", "packed")];
const BOTH_DONE: [(&str, &str); 2] = [("step_done", "inventory"), ("step_done", "fulfilment")];

#[test]
fn steps_before_the_pivot_are_called_on_one_write_and_recorded_by_the_pivots() {
    let (mut worker, inserted) = Worker::that_inserted();
    assert_eq!((inserted.cur, inserted.hi), (0, 1));
    assert_eq!(worker.answered("reserved"), call(1), "no write between them");
    let write = worker.writes(success("packed"));
    assert_eq!((write.expect.rev, write.expect.uncancelled), (inserted.rev, true));
    assert_eq!((write.next.cur, write.next.hi, write.next.rev), (2, 2, inserted.rev + 1));
    assert_eq!(results(&write.next), BOTH);
    assert_eq!(happened(&write), BOTH_DONE);
    assert_eq!(
        worker.on(Input::Store(StoreReply::Applied)),
        call(2),
        "the pivot has a write of its own before it"
    );
    let write = worker.writes(success("booked"));
    assert_eq!(write.next.phase, Phase::Done);
    assert_eq!(happened(&write), [("step_done", "accounting"), ("DONE", "accounting")], "nothing twice");
}

#[test]
fn a_cancel_that_the_pivots_write_meets_undoes_all_that_was_called_and_forgets_no_result() {
    let (mut worker, inserted) = Worker::that_inserted();
    worker.answered("reserved");
    let write = worker.writes(success("packed"));
    assert_eq!(worker.on(Input::Store(StoreReply::NoMatch)), Effect::Read);
    let cancelled = Record { cancel: true, evp: true, ..inserted.clone() };
    let found = StoreReply::Found(Some(Box::new(cancelled)));
    let instead = worker.writes(Input::Store(found));
    assert_eq!((instead.next.phase, instead.next.cur, instead.next.evp), (Phase::Comp, 1, true));
    assert_eq!((instead.expect.rev, results(&instead.next)), (inserted.rev, results(&write.next)));
    assert_eq!(happened(&instead)[..2], BOTH_DONE);
}

#[test]
fn a_refusal_on_the_way_is_compensated_from_the_step_that_was_called_last() {
    let (mut worker, _) = Worker::that_inserted();
    worker.answered("reserved");
    let refused = CallOutcome::Refused { code: "too_heavy".into(), message: String::new() };
    let write = worker.writes(Input::Called(refused));
    assert_eq!((write.next.phase, write.next.cur), (Phase::Comp, 1));
    assert_eq!(results(&write.next), BOTH[..1]);
}

#[test]
fn an_order_that_waits_declares_no_step_that_nobody_has_called() {
    let unknown = || Input::Called(CallOutcome::Unknown { what: "timeout".into(), retry_after: None });
    let (mut worker, _) = Worker::that_inserted();
    let write = worker.writes(unknown());
    assert_eq!((write.next.cur, write.next.hi, write.next.att), (0, 0, 1));

    let (mut worker, _) = Worker::that_inserted();
    worker.answered("reserved");
    let write = worker.writes(unknown());
    assert_eq!((write.next.cur, write.next.hi, write.next.att), (1, 1, 1));
    assert_eq!(happened(&write)[0], BOTH_DONE[0]);

    let (mut worker, _) = Worker::that_inserted();
    worker.draining = true;
    let write = worker.writes(success("reserved"));
    assert_eq!((write.next.cur, write.next.hi, results(&write.next)), (1, 1, BOTH[..1].to_vec()));
}

/// A worker that claims the order as it is stored, and what it does when the first step is done.
fn after_the_first_step(lane: Lane, stored: Record, later: Millis) -> Effect {
    let mut worker = Worker::with(lane);
    worker.handling = Handling::new(
        Delivered { redelivered: true, ..worker.handling.delivered().clone() },
        WorkerId("w2".into()),
    );
    assert!(matches!(worker.on(Input::Delivered), Effect::Claim(_)));
    let claimed =
        Record { epoch: stored.epoch + 1, rev: stored.rev + 1, lease_until: START + LEASE_MS, ..stored };
    assert_eq!(worker.on(Input::Store(StoreReply::Claimed(Box::new(claimed)))), call(0));
    worker.now += later;
    worker.answered("reserved")
}

#[test]
fn each_step_is_written_in_quarantine_after_a_wait_and_late_in_a_lease() {
    let (_, stored) = Worker::that_inserted();
    assert_eq!(after_the_first_step(Lane::New(0), stored.clone(), 0), call(1), "else they go on one write");
    let waited = Record { due_at: Some(START - 1), ..stored.clone() };
    for (lane, stored, later) in [
        (Lane::Quarantine, stored.clone(), 0),
        (Lane::Retry, waited, 0),
        (Lane::New(0), stored, LEASE_MS / 2 + 1),
    ] {
        let effect = after_the_first_step(lane.clone(), stored, later);
        assert!(matches!(&effect, Effect::Write(write) if write.next.cur == 1), "{lane:?}: {effect:?}");
    }
}
