//! What a person asked for while orders were under way: further runs, and the release of holds.

use super::*;

#[test]
fn a_run_that_nobody_asked_for_is_unexpected_and_one_that_does_not_come_is_lost() {
    let again = |evidence: &mut Evidence| {
        stored(evidence, FAILED).generation = 2;
        evidence.events.push(Published { generation: 2, ..event(FAILED, "order.failed", "second") });
        let id = "second".into();
        evidence.parked.push(Parked { id, generation: 2, ..dead_letter("fulfilment", FAILED, "a") });
    };
    assert_eq!(broken(again), [Class::Unexpected]);
    let asked = |evidence: &mut Evidence| {
        evidence.asked.runs.insert(FAILED.into(), 2);
        evidence.asked.runs_confirmed.insert(FAILED.into(), 2);
    };
    assert_eq!(broken(asked), [Class::Lost]);
    let both = broken(|evidence| {
        again(evidence);
        asked(evidence);
    });
    assert_eq!(both, []);
}

#[test]
fn a_hold_that_lasts_although_its_release_was_confirmed_is_lost() {
    let asked = |evidence: &mut Evidence| {
        evidence.asked.releases.insert(HELD.into(), [HOLD.into()].into());
    };
    assert_eq!(broken(asked), [], "a release that was not confirmed may never have come");
    let confirmed = broken(|evidence| {
        asked(evidence);
        evidence.asked.releases_confirmed.insert(HELD.into(), [HOLD.into()].into());
    });
    assert_eq!(confirmed, [Class::Lost]);
}

#[test]
fn a_done_order_may_have_failed_in_an_earlier_run_and_in_no_other() {
    let done_in_run_2 = |failed_in: u64| {
        broken(|evidence| {
            evidence.asked.runs.insert(DONE.into(), 2);
            stored(evidence, DONE).generation = 2;
            for ledgers in [&mut evidence.ledgers, &mut evidence.ledgers_later] {
                for step in SERVICES {
                    let calls = ledgers.remove(&instance(DONE, step)).unwrap();
                    ledgers.insert(Instance { generation: 2, ..instance(DONE, step) }, calls);
                }
            }
            evidence.events[0].generation = 2;
            let letter = dead_letter("fulfilment", DONE, "a");
            evidence.parked.push(Parked { generation: failed_in, ..letter });
        })
    };
    assert_eq!(done_in_run_2(1), []);
    for not_before in [2, 3] {
        assert_eq!(done_in_run_2(not_before), [Class::Unexpected]);
    }
}

#[test]
fn a_call_of_a_run_that_the_order_never_had_is_half_done() {
    let beyond = broken(|evidence| {
        let instance = Instance { generation: 2, ..instance(FAILED, SERVICES[0]) };
        evidence.ledgers.insert(instance.clone(), Calls { done: 1, undone: 1, ..Calls::default() });
        evidence.ledgers_later.insert(instance, Calls { done: 1, undone: 1, ..Calls::default() });
    });
    assert_eq!(beyond, [Class::HalfDone]);
}
