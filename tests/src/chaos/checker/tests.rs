//! Each promise is broken by hand once, and the checker must say so.

mod asked;

use rust_decimal::Decimal;

use super::{Class, judge};
use crate::{
    SERVICES,
    chaos::{Attempt, Calls, Evidence, Identity, Instance, Parked, Published, Stored},
};

const DONE: &str = "done";
const FAILED: &str = "failed";
const HELD: &str = "held";
const HOLD: &str = "hold";

fn identity(order_id: &str, fp: &str) -> Identity {
    Identity { order_id: order_id.into(), fp: fp.into() }
}

fn instance(order_id: &str, step: &str) -> Instance {
    Instance { order_id: order_id.into(), generation: 1, step: step.into() }
}

/// Three orders as they should end: one done, one undone for a technical cause, one held after a refused undo; a second
/// body for the first is a conflict, and one poison body is parked.
fn clean() -> Evidence {
    let mut evidence = Evidence::default();
    for (order_id, fp) in [(DONE, "a"), (DONE, "b"), (FAILED, "a"), (HELD, "a")] {
        let attempt = Attempt {
            account: "acme".into(),
            currency: "GBP".into(),
            total: Decimal::new(1530, 2),
            units: [("A".to_owned(), 6)].into(),
            accepted: true,
        };
        evidence.clients.attempts.insert(identity(order_id, fp), attempt);
    }
    for (order_id, phase, held) in [(DONE, "DONE", false), (FAILED, "UNDONE", false), (HELD, "COMP", true)] {
        let stored = Stored {
            fp: "a".into(),
            phase: phase.into(),
            generation: 1,
            is_final: false,
            cur: 0,
            hi: 0,
            cause: (phase == "UNDONE").then(|| "attempts_exhausted".to_owned()),
            cancel_too_late: false,
            hold: held.then(|| HOLD.to_owned()),
            owes: false,
            conflicts: Default::default(),
        };
        evidence.stored.insert(order_id.into(), stored);
    }
    let once = Calls { done: 1, ..Calls::default() };
    for step in SERVICES {
        evidence.ledgers.insert(instance(DONE, step), once);
    }
    evidence.ledgers.insert(instance(FAILED, SERVICES[0]), Calls { undone: 1, ..once });
    evidence.ledgers.insert(instance(HELD, SERVICES[0]), Calls { undos_refused: 1, ..once });
    evidence.ledgers_later = evidence.ledgers.clone();
    evidence.holdings.reserved.insert("A".into(), 12);
    evidence.holdings.shipments.insert(DONE.into(), 1);
    evidence.holdings.receivable.insert(("acme".into(), "GBP".into()), Decimal::new(1530, 2));
    for (order_id, kind) in [(DONE, "order.completed"), (FAILED, "order.failed")] {
        evidence.events.push(event(order_id, kind, kind));
    }
    let parked = [("conflict", DONE, "b"), ("fulfilment", FAILED, "a"), ("held", HELD, "a")];
    evidence.parked.extend(parked.map(|(queue, order_id, fp)| dead_letter(queue, order_id, fp)));
    evidence.parked.push(poison("junk"));
    evidence.poison.insert("junk".into(), true);
    evidence
}

fn event(order_id: &str, kind: &str, id: &str) -> Published {
    Published { order_id: order_id.into(), generation: 1, kind: kind.into(), id: id.into() }
}

fn dead_letter(queue: &str, order_id: &str, fp: &str) -> Parked {
    Parked {
        id: format!("{order_id}.{queue}"),
        queue: format!("orders.dead.{queue}"),
        about: Some(identity(order_id, fp)),
        generation: 1,
        body: String::new(),
    }
}

fn poison(body: &str) -> Parked {
    let (id, queue) = (body.into(), "orders.dead.poison".into());
    Parked { id, queue, about: None, generation: 0, body: body.into() }
}

/// Breaks one thing and returns which classes the checker names.
fn broken(break_it: impl FnOnce(&mut Evidence)) -> Vec<Class> {
    let mut evidence = clean();
    break_it(&mut evidence);
    let verdict = judge(&evidence);
    assert_eq!(verdict.is_clean(), verdict.violations.is_empty());
    verdict.broken.iter().filter(|(_, count)| **count > 0).map(|(class, _)| *class).collect()
}

fn stored<'a>(evidence: &'a mut Evidence, order_id: &str) -> &'a mut Stored {
    evidence.stored.get_mut(order_id).unwrap()
}

fn calls(evidence: &mut Evidence, order_id: &str, step: usize, change: impl Fn(&mut Calls)) {
    for ledgers in [&mut evidence.ledgers, &mut evidence.ledgers_later] {
        change(ledgers.entry(instance(order_id, SERVICES[step])).or_default());
    }
}

#[test]
fn a_run_without_fault_is_clean_and_every_order_is_counted_once() {
    let verdict = judge(&clean());
    assert_eq!(verdict.violations, []);
    let counts = verdict.counts;
    assert_eq!((counts.attempted, counts.accepted, counts.recovered), (4, 4, 0));
    assert_eq!((counts.done, counts.undone, counts.held, counts.conflict), (1, 1, 1, 1));
}

#[test]
fn an_order_executed_without_a_202_is_recovered() {
    let mut evidence = clean();
    evidence.clients.attempts.get_mut(&identity(DONE, "a")).unwrap().accepted = false;
    let verdict = judge(&evidence);
    assert!(verdict.is_clean(), "{:?}", verdict.violations);
    assert_eq!((verdict.counts.accepted, verdict.counts.recovered), (3, 1));
}

#[test]
fn an_accepted_order_without_a_trace_is_lost() {
    let lost = broken(|evidence| {
        let attempt = evidence.clients.attempts[&identity(DONE, "a")].clone();
        evidence.clients.attempts.insert(identity("gone", "a"), attempt);
    });
    assert_eq!(lost, [Class::Lost]);
}

#[test]
fn a_conflict_that_is_recorded_nowhere_is_lost() {
    assert_eq!(
        broken(|evidence| evidence.parked.retain(|it| !it.queue.ends_with("conflict"))),
        [Class::Lost]
    );
}

#[test]
fn a_missing_event_is_lost() {
    assert_eq!(broken(|evidence| evidence.events.retain(|event| event.order_id != DONE)), [Class::Lost]);
}

#[test]
fn a_dead_letter_that_is_missing_is_lost() {
    for queue in ["held", "fulfilment", "poison"] {
        assert_eq!(broken(|evidence| evidence.parked.retain(|it| !it.queue.ends_with(queue))), [Class::Lost]);
    }
}

#[test]
fn a_publish_that_stays_owed_is_lost() {
    assert_eq!(broken(|evidence| evidence.stored.get_mut(DONE).unwrap().owes = true), [Class::Lost]);
}

#[test]
fn a_second_effect_is_duplicated() {
    let twice = broken(|evidence| calls(evidence, DONE, 1, |calls| calls.done = 2));
    assert!(twice.contains(&Class::Duplicated), "{twice:?}");
}

#[test]
fn a_second_undo_is_duplicated() {
    let twice = broken(|evidence| calls(evidence, FAILED, 0, |calls| calls.undone = 2));
    assert!(twice.contains(&Class::Duplicated), "{twice:?}");
}

#[test]
fn a_repeat_of_an_event_under_another_id_is_duplicated() {
    let again = |id| move |evidence: &mut Evidence| evidence.events.push(event(DONE, "order.completed", id));
    assert_eq!(broken(again("order.completed")), []);
    assert_eq!(broken(again("another")), [Class::Duplicated]);
}

#[test]
fn a_done_order_without_one_of_its_effects_is_half_done() {
    assert_eq!(broken(|evidence| calls(evidence, DONE, 2, |calls| calls.done = 0)), [Class::HalfDone]);
}

#[test]
fn an_undone_order_with_an_effect_left_is_half_done() {
    assert_eq!(broken(|evidence| calls(evidence, FAILED, 0, |calls| calls.undone = 0)), [Class::HalfDone]);
}

#[test]
fn an_order_that_has_not_ended_is_half_done() {
    let open = broken(|evidence| evidence.stored.get_mut(HELD).unwrap().hold = None);
    assert!(open.contains(&Class::HalfDone) && !open.contains(&Class::Lost), "{open:?}");
}

#[test]
fn a_queue_that_is_not_empty_is_half_done() {
    let left = broken(|evidence| evidence.left_in_queues = [("orders.retry".into(), 1)].into());
    assert_eq!(left, [Class::HalfDone]);
}

#[test]
fn an_effect_of_an_order_that_nobody_posted_is_unexpected() {
    let stranger = broken(|evidence| calls(evidence, "stranger", 0, |calls| calls.done = 1));
    assert_eq!(stranger, [Class::Unexpected]);
}

#[test]
fn a_body_that_nobody_posted_is_unexpected() {
    let stranger = broken(|evidence| evidence.stored.get_mut(FAILED).unwrap().fp = "x".into());
    assert!(stranger.contains(&Class::Unexpected), "{stranger:?}");
}

#[test]
fn an_effect_after_the_end_is_unexpected_even_if_it_is_taken_back() {
    let late = broken(|evidence| {
        let calls = evidence.ledgers_later.entry(instance(FAILED, SERVICES[1])).or_default();
        (calls.done, calls.undone) = (1, 1);
    });
    assert_eq!(late, [Class::Unexpected]);
}

#[test]
fn a_unit_or_a_penny_too_many_is_unexpected() {
    let breaks: [fn(&mut Evidence); 4] = [
        |evidence| *evidence.holdings.reserved.get_mut("A").unwrap() += 1,
        |evidence| evidence.holdings.shipments.extend([(FAILED.into(), 1)]),
        |evidence| evidence.holdings.receivable.values_mut().for_each(|sum| *sum += Decimal::new(1, 4)),
        |evidence| evidence.holdings.unbalanced = ["GBP".into()].into(),
    ];
    for break_it in breaks {
        assert_eq!(broken(break_it), [Class::Unexpected]);
    }
}

#[test]
fn an_order_held_for_no_reason_is_unexpected() {
    assert_eq!(
        broken(|evidence| calls(evidence, HELD, 0, |calls| calls.undos_refused = 0)),
        [Class::Unexpected]
    );
}

#[test]
fn a_cancellation_that_nobody_asked_for_is_unexpected() {
    let cancelled = broken(|evidence| stored(evidence, FAILED).cause = Some("cancelled".into()));
    assert_eq!(cancelled, [Class::Unexpected]);
}

#[test]
fn a_completion_after_a_cancellation_is_unexpected() {
    let both = broken(|evidence| evidence.events.insert(0, event(DONE, "order.cancelled", "c")));
    assert_eq!(both, [Class::Unexpected]);
}

#[test]
fn an_end_that_was_shown_and_did_not_stay_is_unexpected() {
    let other = broken(|evidence| evidence.clients.shown = [(DONE.into(), ["UNDONE".into()].into())].into());
    assert_eq!(other, [Class::Unexpected]);
}

#[test]
fn a_dead_letter_without_a_reason_is_unexpected() {
    assert_eq!(broken(|evidence| evidence.parked.push(dead_letter("held", DONE, "a"))), [Class::Unexpected]);
    assert_eq!(broken(|evidence| evidence.parked.push(poison("an order"))), [Class::Unexpected]);
}

#[test]
fn only_an_order_over_which_workers_abort_may_be_held_and_poison_for_that() {
    let hold = |evidence: &mut Evidence| {
        calls(evidence, HELD, 0, |calls| calls.undos_refused = 0);
        evidence.parked.retain(|parked| !parked.queue.ends_with("held"));
        evidence.parked.push(dead_letter("poison", HELD, "a"));
    };
    assert_eq!(broken(hold), [Class::Lost, Class::Unexpected]);
    let crashes = |evidence: &mut Evidence| {
        hold(evidence);
        let attempt = evidence.clients.attempts.get_mut(&identity(HELD, "a")).unwrap();
        attempt.units.insert("CRASHES".into(), 1);
        evidence.holdings.reserved.insert("CRASHES".into(), 1);
        evidence.crashing.insert("CRASHES".into());
    };
    assert_eq!(broken(crashes), []);
}

#[test]
fn an_order_undone_without_a_reason_is_unexpected() {
    assert_eq!(broken(|evidence| stored(evidence, FAILED).cause = None), [Class::Unexpected]);
    assert_eq!(
        broken(|evidence| stored(evidence, FAILED).cause = Some("refused".into())),
        [Class::Unexpected]
    );
    let refused = broken(|evidence| {
        stored(evidence, FAILED).cause = Some("refused".into());
        calls(evidence, FAILED, 1, |calls| calls.dos_refused = 1);
    });
    assert_eq!(refused, []);
}

#[test]
fn an_order_undone_for_good_for_a_technical_cause_is_unexpected() {
    let for_good = broken(|evidence| {
        stored(evidence, FAILED).is_final = true;
        evidence.events[1].kind = "order.cancelled".into();
        evidence.parked.retain(|parked| !parked.queue.ends_with("fulfilment"));
    });
    assert_eq!(for_good, [Class::Unexpected]);
}

#[test]
fn a_fleet_that_undoes_too_many_orders_is_unexpected() {
    assert_eq!(broken(|evidence| evidence.done_percent_min = 50), []);
    assert_eq!(broken(|evidence| evidence.done_percent_min = 51), [Class::Unexpected]);
}

#[test]
fn an_accepted_cancel_that_is_neither_honoured_nor_too_late_is_lost() {
    let cancel = |evidence: &mut Evidence, order_id: &str| {
        evidence.clients.cancels.insert(order_id.into());
        evidence.clients.cancels_accepted.insert(order_id.into());
    };
    assert_eq!(broken(|evidence| cancel(evidence, DONE)), [Class::Lost]);
    assert_eq!(broken(|evidence| cancel(evidence, FAILED)), [Class::Lost]);
    let too_late = broken(|evidence| {
        cancel(evidence, DONE);
        stored(evidence, DONE).cancel_too_late = true;
    });
    assert_eq!(too_late, []);
}

#[test]
fn a_held_order_whose_effects_are_not_what_its_document_says_is_half_done() {
    let is_half_done = |classes: Vec<Class>| classes.contains(&Class::HalfDone);
    assert!(is_half_done(broken(|evidence| calls(evidence, HELD, 2, |calls| calls.done = 1))));
    let below = |evidence: &mut Evidence| {
        stored(evidence, HELD).cur = 1;
        calls(evidence, HELD, 1, |calls| calls.done = 1);
        evidence.holdings.shipments.insert(HELD.into(), 1);
    };
    assert_eq!(broken(below), []);
    assert!(is_half_done(broken(|evidence| {
        below(evidence);
        calls(evidence, HELD, 0, |calls| calls.done = 0);
    })));
}

#[test]
fn a_dead_letter_under_a_second_id_is_duplicated() {
    for (queue, order_id, fp) in [("conflict", DONE, "b"), ("fulfilment", FAILED, "a"), ("held", HELD, "a")] {
        let again = |id: &'static str| {
            move |evidence: &mut Evidence| {
                evidence.parked.push(Parked { id: id.into(), ..dead_letter(queue, order_id, fp) });
            }
        };
        assert_eq!(broken(again("another")), [Class::Duplicated], "{queue}");
    }
    assert_eq!(broken(|evidence| evidence.parked.push(dead_letter("held", HELD, "a"))), []);
    let released = broken(|evidence| {
        stored(evidence, HELD).hold = Some("another".into());
        evidence.asked.releases.insert(HELD.into(), [HOLD.into()].into());
        evidence.asked.releases_confirmed.insert(HELD.into(), [HOLD.into()].into());
        evidence.parked.push(Parked { id: "another".into(), ..dead_letter("held", HELD, "a") });
    });
    assert_eq!(released, [], "held again after its release");
}

#[test]
fn a_dead_letter_that_was_left_unread_is_unexpected() {
    let unread = broken(|evidence| evidence.parked[0].id = format!("{HELD}.unread.id"));
    assert_eq!(unread, [Class::Unexpected]);
}

#[test]
fn poison_that_was_not_confirmed_may_be_parked_or_not() {
    let unconfirmed = |evidence: &mut Evidence| {
        evidence.poison.insert("more".into(), false);
    };
    assert_eq!(broken(unconfirmed), []);
    let parked = broken(|evidence| {
        unconfirmed(evidence);
        evidence.parked.push(poison("more"));
    });
    assert_eq!(parked, []);
}

#[test]
fn a_process_that_ended_by_itself_is_unexpected() {
    assert_eq!(broken(|evidence| evidence.exits.push("worker-0 ended".into())), [Class::Unexpected]);
}
