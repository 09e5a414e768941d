use orderfleet_domain::{CommandKind, saga::CauseClass};
use orderfleet_storage::Letter;

use super::*;
use crate::replay::fixtures::{command, content, held, letter, order, place, record, undone};

const EXHAUSTED: CauseClass = CauseClass::AttemptsExhausted;

#[test]
fn an_order_runs_again_or_goes_on_or_is_left_by_how_it_stands_now() {
    let release = |is_undoing| Course::Release { hold: "h".into(), generation: 1, is_undoing };
    let later = |record| Record { generation: 2, ..record };
    for (record, expected) in [
        (undone(EXHAUSTED, None), Course::Run { generation: 2, correction: None }),
        (held(Phase::Run, "h"), release(false)),
        (held(Phase::Comp, "h"), release(true)),
        (record(Phase::Done), Course::Settled(Settled::Done)),
        (undone(CauseClass::Refused, None), Course::Settled(Settled::Final)),
        (record(Phase::Run), Course::Settled(Settled::UnderWay)),
        (record(Phase::Comp), Course::Settled(Settled::UnderWay)),
        (later(undone(EXHAUSTED, None)), Course::Settled(Settled::LaterRun)),
        (later(held(Phase::Run, "h")), Course::Settled(Settled::LaterRun)),
    ] {
        let found = course(&letter("fulfilment"), None, Some(&record));
        assert_eq!(found, expected, "{record:?}");
    }
}

#[test]
fn the_letter_of_a_message_that_crashed_workers_stays_until_its_order_is_held_or_has_ended() {
    for phase in [Phase::Run, Phase::Comp] {
        let found = course(&letter("poison"), None, Some(&record(phase)));
        assert_eq!(found, Course::Nothing(Nothing::UnderWay), "{phase:?}");
    }
    let held = course(&letter("poison"), None, Some(&held(Phase::Run, "h")));
    assert_eq!(held.hold(), Some("h"));
    assert_eq!(course(&letter("poison"), None, Some(&record(Phase::Done))), Course::Settled(Settled::Done));
}

#[test]
fn another_message_is_planned_with_another_text() {
    let release = |hold: &str| Course::Release { hold: hold.into(), generation: 1, is_undoing: false };
    let corrected = |letter: &str, order: &orderfleet_domain::Order| Course::Run {
        generation: 2,
        correction: Some(Correction { letter: letter.into(), fp: Fingerprint::of(order) }),
    };
    let other = orderfleet_domain::Order { metadata: [("a".into(), "b".into())].into(), ..order() };
    let planned = [
        Course::Run { generation: 2, correction: None },
        Course::Run { generation: 3, correction: None },
        corrected("a", &order()),
        corrected("b", &order()),
        corrected("a", &other),
        release("h1"),
        release("h2"),
        Course::Again { generation: 1 },
    ]
    .map(|course| course.planned());
    assert_eq!(planned.iter().collect::<std::collections::BTreeSet<_>>().len(), planned.len(), "{planned:?}");
}

#[test]
fn without_an_account_no_message_can_be_made_and_the_letter_stays() {
    let letter = Letter { account: None, ..letter("poison") };
    for record in [undone(EXHAUSTED, None), held(Phase::Run, "h")] {
        assert_eq!(course(&letter, None, Some(&record)), Course::Nothing(Nothing::NoAccount));
    }
    let done = course(&letter, None, Some(&record(Phase::Done)));
    assert_eq!(done, Course::Settled(Settled::Done));
}

#[test]
fn a_letter_that_does_not_tell_its_run_is_about_the_last_one() {
    let letter = Letter { generation: None, ..letter("poison") };
    let record = Record { generation: 5, ..undone(EXHAUSTED, None) };
    assert_eq!(course(&letter, None, Some(&record)), Course::Run { generation: 6, correction: None });
}

#[test]
fn a_message_without_an_order_is_published_again_if_it_can_bring_the_order_about() {
    let again = Course::Again { generation: 1 };
    let newer = br#"{"v":99}"#.to_vec();
    for (body, expected) in [
        (place().encode(), again.clone()),
        (command(1, CommandKind::Cancel { requested_at: jiff::Timestamp::UNIX_EPOCH }).encode(), again),
        (command(2, CommandKind::Run { order: None }).encode(), Course::Nothing(Nothing::NoOrder)),
        (b"garbage".to_vec(), Course::Nothing(Nothing::Unreadable)),
        (newer, Course::Nothing(Nothing::Newer)),
    ] {
        let found = course(&letter("poison"), Some(&content(body.clone())), None);
        assert_eq!(found, expected, "{}", String::from_utf8_lossy(&body));
    }
    assert_eq!(course(&letter("poison"), None, None), Course::Nothing(Nothing::NoOrder));
}

fn unread(kind: &str) -> Letter {
    let letter = letter("poison");
    let id = letter.id.replace(".letter", ".unread.letter");
    Letter { id, kind: kind.into(), generation: None, ..letter }
}

#[test]
fn a_message_that_workers_ended_over_is_published_again_unread_while_its_order_may_wait_for_it() {
    for phase in [Phase::Run, Phase::Comp] {
        let waiting = Record { generation: 2, ..record(phase) };
        assert_eq!(course(&unread("compensate"), None, Some(&waiting)), Course::Again { generation: 2 });
    }
    let body = content(b"whatever ends workers".to_vec());
    assert_eq!(course(&unread("place"), Some(&body), None), Course::Again { generation: 1 });
    assert_eq!(course(&unread("compensate"), Some(&body), None), Course::Nothing(Nothing::NoOrder));
    assert_eq!(course(&unread("place"), None, Some(&record(Phase::Done))), Course::Settled(Settled::Done));
}

#[test]
fn a_cancel_is_always_for_a_worker_to_judge() {
    let letter = Letter { kind: "cancel".into(), ..letter("poison") };
    for record in [record(Phase::Done), undone(EXHAUSTED, None), held(Phase::Run, "h")] {
        assert_eq!(course(&letter, None, Some(&record)), Course::Again { generation: 1 });
    }
}

#[test]
fn a_conflict_is_never_executed() {
    let body = content(place().encode());
    for record in [None, Some(undone(EXHAUSTED, None))] {
        let found = course(&letter("conflict"), Some(&body), record.as_ref());
        assert_eq!(found, Course::Nothing(Nothing::Conflict));
    }
}

#[test]
fn only_what_is_published_has_a_run_to_wait_for() {
    let release = Course::Release { hold: "h".into(), generation: 3, is_undoing: true };
    assert_eq!((release.generation(), release.hold(), release.is_undoing()), (Some(3), Some("h"), true));
    let run = Course::Run { generation: 2, correction: None };
    assert_eq!((run.generation(), run.hold(), run.is_undoing()), (Some(2), None, false));
    for nothing in [Course::Settled(Settled::Done), Course::Nothing(Nothing::Newer)] {
        assert_eq!((nothing.generation(), nothing.hold()), (None, None));
    }
}
