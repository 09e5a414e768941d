//! How long an order waits for a service, what its step's deadline leaves out, and what ends the waiting.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken expectation is a failed test")]

use orderfleet_domain::{
    Command, CommandKind, Fingerprint, Order, OrderId,
    saga::{
        CallOutcome, CauseClass, Delivered, Effect, Handling, Input, Lane, Millis, Moment, Nonce, Phase,
        Policy, Record, StepSettings, StoreReply, WorkerId, Write,
    },
};

const START: Millis = 1_800_000_000_000;
const SECOND: Millis = 1_000;
const HOUR: Millis = 3_600_000;
const DEADLINE_S: u32 = 60;

fn policy() -> Policy {
    let mut steps = StepSettings::defaults();
    for step in &mut steps {
        step.attempts_max = 1_000;
        step.quick_retries = 0;
        step.deadline_s = DEADLINE_S;
    }
    Policy::new(steps, 30 * SECOND).unwrap()
}

fn order() -> Order {
    serde_json::from_value(serde_json::json!({
        "channel": "retail", "currency": "GBP", "payment_ref": "p", "ship_to": {},
        "lines": [{"sku": "A", "quantity": 1, "unit_price": "1"}]
    }))
    .unwrap()
}

fn resume() -> Delivered {
    let (region, account) = ("eu1".parse().unwrap(), "demo".parse().unwrap());
    let command = Command {
        order_id: OrderId::derive(&region, &account, &"k".parse().unwrap()),
        account,
        generation: 1,
        fp: Some(Fingerprint::of(&order())),
        kind: CommandKind::Resume {},
    };
    Delivered { command, redelivered: false, lane: Lane::Retry }
}

fn moment(now: Millis) -> Moment {
    Moment { now, nonce: Nonce(7), blocked: false, draining: false }
}

fn first() -> Record {
    let names = policy().step_names();
    Record::first(Fingerprint::of(&order()), names, WorkerId("w0".into()), 0, Nonce(1))
}

fn unknown(retry_after: Option<Millis>) -> CallOutcome {
    CallOutcome::Unknown { what: "timeout".into(), retry_after }
}

fn not_sent() -> CallOutcome {
    CallOutcome::NotSent { what: "connection refused".into() }
}

/// A worker claims the order and calls: how far it gets before it writes.
fn claimed_and_called(handling: &mut Handling, stored: &Record, now: Millis) {
    let policy = policy();
    let effect = handling.on(&policy, &moment(now), Input::Delivered);
    assert!(matches!(effect, Effect::Claim(_)), "{effect:?}");
    let claimed = Record { epoch: stored.epoch + 1, rev: stored.rev + 1, ..stored.clone() };
    let reply = Input::Store(StoreReply::Claimed(Box::new(claimed)));
    let effect = handling.on(&policy, &moment(now), reply);
    assert!(matches!(effect, Effect::Call { .. }), "{effect:?}");
}

/// What a worker writes that claims the order now and is answered so at once.
fn written(stored: &Record, now: Millis, outcome: CallOutcome) -> Write {
    let mut handling = Handling::new(resume(), WorkerId("w1".into()));
    claimed_and_called(&mut handling, stored, now);
    match handling.on(&policy(), &moment(now), Input::Called(outcome)) {
        Effect::Write(write) => *write,
        other => panic!("not a write: {other:?}"),
    }
}

fn attempt(stored: &Record, now: Millis, outcome: CallOutcome) -> Record {
    written(stored, now, outcome).next
}

#[test]
fn a_deadline_passes_when_the_service_leaves_the_order_without_an_answer_for_that_long() {
    let mut order = first();
    for tries in 0..2 {
        order = attempt(&order, START + tries * 30 * SECOND, unknown(Some(30 * SECOND)));
        assert_eq!(order.phase, Phase::Run);
    }
    order = attempt(&order, START + 60 * SECOND, unknown(Some(30 * SECOND)));
    assert_eq!(order.cause.unwrap().class, CauseClass::DeadlinePassed);
}

#[test]
fn a_deadline_leaves_out_the_time_in_which_nobody_came_for_the_order() {
    let order = attempt(&first(), START, unknown(None));
    let back = order.due_at.unwrap() + 2 * HOUR;
    let order = attempt(&order, back, unknown(Some(30 * SECOND)));
    assert_eq!((order.phase, order.excused_ms), (Phase::Run, 2 * HOUR));
    let order = attempt(&order, back + 30 * SECOND, unknown(Some(30 * SECOND)));
    assert_eq!((order.phase, order.excused_ms), (Phase::Run, 2 * HOUR));
    let order = attempt(&order, back + 60 * SECOND, unknown(None));
    assert_eq!(order.cause.unwrap().class, CauseClass::DeadlinePassed, "its own time counts as before");
}

#[test]
fn a_worker_that_drains_passes_on_what_is_left_out() {
    let order = attempt(&first(), START, unknown(None));
    let back = order.due_at.unwrap() + 2 * HOUR;
    let mut handling = Handling::new(resume(), WorkerId("w1".into()));
    handling.on(&policy(), &moment(back), Input::Delivered);
    let draining = Moment { draining: true, ..moment(back) };
    let reply = Input::Store(StoreReply::Claimed(Box::new(order)));
    let Effect::Write(handed_back) = handling.on(&policy(), &draining, reply) else { panic!("no write") };
    let order = attempt(&handed_back.next, back + SECOND, unknown(None));
    assert_eq!((order.phase, order.excused_ms), (Phase::Run, 2 * HOUR + SECOND));
}

#[test]
fn a_worker_that_is_killed_after_its_claim_leaves_nothing_out_twice() {
    let order = attempt(&first(), START, unknown(None));
    let back = order.due_at.unwrap() + HOUR;
    claimed_and_called(&mut Handling::new(resume(), WorkerId("killed".into())), &order, back);
    let order = attempt(&order, back + SECOND, unknown(None));
    assert_eq!(order.excused_ms, HOUR + SECOND);
}

#[test]
fn an_order_that_is_taken_before_it_is_due_is_excused_nothing() {
    let order = attempt(&first(), START, unknown(Some(30 * SECOND)));
    let order = attempt(&order, START + SECOND, unknown(None));
    assert_eq!(order.excused_ms, 0);
}

#[test]
fn a_wrong_clock_makes_no_deadline_pass_and_excuses_no_more_than_has_passed_by_it() {
    let order = attempt(&first(), START, unknown(None));
    let by_fast_clock = attempt(&order, START + SECOND + HOUR, unknown(None));
    assert_eq!(by_fast_clock.phase, Phase::Run);
    assert!(by_fast_clock.excused_ms <= HOUR + SECOND);

    let written_by_a_slow_clock = Record { due_at: Some(START - HOUR), ..order.clone() };
    let next = attempt(&written_by_a_slow_clock, START + SECOND, unknown(None));
    assert_eq!(next.excused_ms, SECOND, "no more than since the first attempt");

    for odd in [Millis::MIN, -1, Millis::MAX] {
        let odd = Record { due_at: Some(odd), charged_at: Some(odd), ..order.clone() };
        assert!(attempt(&odd, START, unknown(None)).excused_ms >= 0);
    }
}

/// To give the order up would not end it sooner: the first thing to undo is the very step that cannot be reached.
#[test]
fn a_service_that_cannot_be_reached_is_waited_for_without_charge_and_decides_nothing() {
    let (mut order, mut now) = (first(), START);
    for waits in 1..=10_000 {
        order = attempt(&order, now, not_sent());
        assert_eq!((order.phase, order.att, order.waits), (Phase::Run, 0, waits));
        now = order.due_at.unwrap();
    }
    let order = attempt(&order, now, unknown(None));
    assert_eq!((order.phase, order.att), (Phase::Run, 1), "its deadline runs from here");
}

#[test]
fn a_customer_ends_the_waiting_for_a_service_that_cannot_be_reached() {
    let order = Record { cancel: true, ..attempt(&first(), START, not_sent()) };
    let mut handling = Handling::new(resume(), WorkerId("w1".into()));
    handling.on(&policy(), &moment(START + SECOND), Input::Delivered);
    let reply = Input::Store(StoreReply::Claimed(Box::new(order)));
    let Effect::Write(write) = handling.on(&policy(), &moment(START + SECOND), reply) else {
        panic!("no write")
    };
    assert_eq!(write.next.cause.unwrap().class, CauseClass::Cancelled);
}

#[test]
fn only_a_write_that_moves_the_order_on_or_acks_unpublished_owes_something_new() {
    let waiting = attempt(&first(), START, unknown(None));
    let due = waiting.due_at.unwrap();
    assert!(!written(&waiting, due, unknown(None)).owes_anew(), "it waits as before");
    assert!(!written(&waiting, due, not_sent()).owes_anew(), "it waits as before");
    let done = CallOutcome::Success { result: "{}".into() };
    assert!(written(&waiting, due, done).owes_anew());
    let refused = CallOutcome::Refused { code: "no".into(), message: String::new() };
    assert!(written(&waiting, due, refused.clone()).owes_anew());

    let mut blocked = Handling::new(resume(), WorkerId("w1".into()));
    claimed_and_called(&mut blocked, &waiting, due);
    let alarm = Moment { blocked: true, ..moment(due) };
    let Effect::Write(write) = blocked.on(&policy(), &alarm, Input::Called(unknown(None))) else {
        panic!("no write")
    };
    assert!(write.owes_anew());

    let compensating = Record { phase: Phase::Comp, ..waiting };
    let mut undoing = Delivered { lane: Lane::Quarantine, ..resume() };
    undoing.redelivered = true;
    let mut handling = Handling::new(undoing, WorkerId("w1".into()));
    claimed_and_called(&mut handling, &compensating, due);
    let Effect::Write(held) = handling.on(&policy(), &moment(due), Input::Called(refused)) else {
        panic!("no write")
    };
    assert!(held.next.hold.is_some() && held.owes_anew());
}
