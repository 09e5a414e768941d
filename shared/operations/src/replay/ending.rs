//! What became of an order that a replay has asked something for. No I/O.

use orderfleet_domain::saga::{CauseClass, Phase, Record};
use orderfleet_storage::{ItemState, ReplayItem};

use crate::replay::Course;

/// What became of the order, whose newest correction came with the run `corrected_in`; `None` while its run, or what was
/// released, has not ended.
///
/// Done is what came to the end that it was to come to: DONE; UNDONE, where the order was being undone when it was held; and
/// UNDONE because its customer has cancelled. Everything else has failed again.
pub(super) fn ending(
    record: &Record,
    corrected_in: Option<u32>,
    item: &ReplayItem,
) -> Option<(ItemState, String)> {
    if record.generation > item.generation {
        return Some((ItemState::Failed, format!("run {} has begun since", record.generation)));
    }
    if record.generation < item.generation {
        let never = record.is_final.then(|| format!("the run never began: {}", undone(record)));
        return never.map(|why| (ItemState::Failed, why));
    }
    if item.is_corrected && corrected_in != Some(item.generation) {
        return Some((ItemState::Failed, "the run began without the correction".into()));
    }
    match (&record.hold, record.phase) {
        (Some(hold), _) if item.hold.as_ref() == Some(&hold.id) => None,
        (Some(hold), _) => Some((ItemState::Failed, format!("held at {}: {}", hold.step, hold.reason))),
        (None, Phase::Done) => Some((ItemState::Done, String::new())),
        (None, Phase::Undone) if item.is_undoing || is_cancelled(record) => {
            Some((ItemState::Done, undone(record)))
        }
        (None, Phase::Undone) => Some((ItemState::Failed, undone(record))),
        (None, Phase::Run | Phase::Comp) => None,
    }
}

/// What became of a cancel whose order is there; `None` until the order shows that a worker has judged it.
pub(super) fn cancel_ending(record: &Record) -> Option<(ItemState, String)> {
    match record.phase {
        Phase::Done => Some((ItemState::Done, "too late: the order is done".into())),
        _ if record.cancel || record.is_final => Some((ItemState::Done, String::new())),
        _ => None,
    }
}

/// Whether what was published for an item before an interruption, if it was, has not come about.
pub(super) fn is_still_to_come(item: &ReplayItem, course: &Course) -> bool {
    item.planned.split(' ').next() == Some(course.as_str())
        && course.generation() == Some(item.generation)
        && course.hold() == item.hold.as_deref()
}

fn is_cancelled(record: &Record) -> bool {
    record.cause.as_ref().is_some_and(|cause| cause.class == CauseClass::Cancelled)
}

fn undone(record: &Record) -> String {
    let Some(cause) = &record.cause else { return "undone".into() };
    let code = cause.code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default();
    format!("undone: {} at {}{code}", cause.class.as_str(), cause.step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::fixtures::{held, item, record, undone};

    const EXHAUSTED: CauseClass = CauseClass::AttemptsExhausted;

    /// An item that was begun: a run, or the release of a hold.
    fn begun(generation: u32, hold: Option<&str>) -> ReplayItem {
        ReplayItem { generation, hold: hold.map(str::to_owned), ..item(0, ItemState::Begun) }
    }

    fn in_run(generation: u32, record: Record) -> Record {
        Record { generation, ..record }
    }

    fn told(record: &Record, item: &ReplayItem) -> (Option<ItemState>, String) {
        ending(record, None, item).map_or((None, String::new()), |(state, note)| (Some(state), note))
    }

    #[test]
    fn a_run_has_failed_unless_it_ends_done() {
        for (record, state, note) in [
            (undone(EXHAUSTED, None), None, ""),
            (in_run(2, record(Phase::Run)), None, ""),
            (in_run(2, record(Phase::Comp)), None, ""),
            (in_run(2, record(Phase::Done)), Some(ItemState::Done), ""),
            (
                in_run(2, undone(CauseClass::Refused, Some("sold_out"))),
                Some(ItemState::Failed),
                "undone: refused at fulfilment (sold_out)",
            ),
            (in_run(2, held(Phase::Comp, "h")), Some(ItemState::Failed), "held at inventory: in use"),
            (in_run(3, record(Phase::Done)), Some(ItemState::Failed), "run 3 has begun since"),
            (
                in_run(2, undone(CauseClass::Cancelled, None)),
                Some(ItemState::Done),
                "undone: cancelled at fulfilment",
            ),
        ] {
            assert_eq!(told(&record, &begun(2, None)), (state, note.to_owned()), "{record:?}");
        }
    }

    #[test]
    fn a_run_that_began_without_the_correction_it_was_asked_for_with_has_failed() {
        let item = ReplayItem { is_corrected: true, ..begun(2, None) };
        for (corrected_in, state) in [
            (None, Some(ItemState::Failed)),
            (Some(1), Some(ItemState::Failed)),
            (Some(2), Some(ItemState::Done)),
        ] {
            let found = ending(&in_run(2, record(Phase::Done)), corrected_in, &item);
            assert_eq!(found.map(|(state, _)| state), state, "{corrected_in:?}");
        }
        assert_eq!(ending(&undone(EXHAUSTED, None), None, &item), None, "it has not begun");
    }

    #[test]
    fn a_run_that_can_never_begin_is_not_waited_for() {
        let cancelled = undone(CauseClass::Cancelled, None);
        let (state, note) = told(&cancelled, &begun(2, None));
        assert_eq!(state, Some(ItemState::Failed));
        assert!(note.starts_with("the run never began"), "{note}");
    }

    #[test]
    fn a_hold_is_over_when_it_is_gone_and_failed_when_another_has_come() {
        let item = begun(1, Some("h1"));
        assert_eq!(told(&held(Phase::Run, "h1"), &item).0, None);
        assert_eq!(told(&held(Phase::Run, "h2"), &item).0, Some(ItemState::Failed));
        assert_eq!(told(&record(Phase::Comp), &item).0, None);
        assert_eq!(told(&undone(EXHAUSTED, None), &item).0, Some(ItemState::Failed));
    }

    #[test]
    fn undone_is_where_an_order_was_to_come_to_that_was_held_while_it_was_undone() {
        let item = ReplayItem { is_undoing: true, ..begun(1, Some("h1")) };
        let (state, note) = told(&undone(CauseClass::Refused, None), &item);
        assert_eq!((state, note.as_str()), (Some(ItemState::Done), "undone: refused at fulfilment"));
        assert_eq!(told(&held(Phase::Comp, "h2"), &item).0, Some(ItemState::Failed));
    }

    #[test]
    fn a_cancel_is_over_when_its_order_shows_that_a_worker_has_judged_it() {
        for (record, is_over) in [
            (record(Phase::Run), false),
            (Record { cancel: true, ..record(Phase::Run) }, true),
            (Record { cancel: true, ..held(Phase::Comp, "h") }, true),
            (undone(EXHAUSTED, None), false),
            (undone(CauseClass::Cancelled, None), true),
            (record(Phase::Done), true),
        ] {
            let found = cancel_ending(&record).map(|(state, _)| state);
            assert_eq!(found, is_over.then_some(ItemState::Done), "{record:?}");
        }
    }

    #[test]
    fn what_was_begun_is_published_again_only_while_it_has_not_come_about() {
        let begun = |generation, hold: Option<&str>| ReplayItem {
            planned: if hold.is_some() { "release h1".into() } else { "run 2".into() },
            ..begun(generation, hold)
        };
        let run = Course::Run { generation: 2, correction: None };
        let release = |hold: &str| Course::Release { hold: hold.into(), generation: 1, is_undoing: false };
        assert!(is_still_to_come(&begun(2, None), &run));
        assert!(is_still_to_come(&begun(1, Some("h1")), &release("h1")));
        assert!(!is_still_to_come(&begun(1, Some("h1")), &release("h2")), "another hold is another decision");
        assert!(!is_still_to_come(&begun(2, None), &Course::Run { generation: 3, correction: None }));
        assert!(!is_still_to_come(&begun(2, None), &Course::Settled(crate::replay::Settled::UnderWay)));
        assert!(!is_still_to_come(&begun(2, None), &Course::Again { generation: 2 }), "it has begun");
    }
}
