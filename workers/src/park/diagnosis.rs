//! What a dead letter tells of its failure: by its reason alone, or by the document of its order where that still is in the
//! same run. No I/O.

use orderfleet_domain::{
    StepName,
    failure::{Failure, FailureClass},
    saga::{DOCUMENT_VERSION, DeadLetterQueue, Entry, Phase, Record},
};
use orderfleet_storage::{Attempt, DeadLetter, OrderView};

use super::letter::{DELIVERY_LIMIT, WORKERS_ENDED};
use crate::panics::{HANDLING_PANICKED, PARKING_PANICKED};

/// Attempts kept with a letter, the newest.
const ATTEMPTS_MAX: usize = 32;
/// What of an order's history is an attempt.
const ATTEMPTS: [&str; 4] = ["attempt_failed", "not_sent", "compensating", "held"];
/// Begins the reason of a letter whose order is held.
const HELD_AT: &str = "held at ";

/// What the reason alone tells.
pub(super) fn by_reason(queue: &DeadLetterQueue, reason: &str) -> Failure {
    let (step, class) = match queue {
        DeadLetterQueue::Step(step) => (Some(step.clone()), class_of_run(reason)),
        DeadLetterQueue::Held => (step_held_at(reason), FailureClass::Held),
        DeadLetterQueue::Conflict => (None, FailureClass::Conflict),
        DeadLetterQueue::Poison if has_crashed(reason) => (None, FailureClass::Crashed),
        DeadLetterQueue::Poison => (None, FailureClass::Unreadable),
    };
    Failure::new(step, class, None, reason)
}

/// The id of a trace, of a W3C `traceparent`.
pub(super) fn trace_id(traceparent: &str) -> Option<String> {
    let id = traceparent.split('-').nth(1)?;
    let is_id = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    is_id.then(|| id.to_owned())
}

/// Adds what the order's document tells, unless it is about a later run by now.
pub(super) fn add_order(letter: &mut DeadLetter, order: &OrderView) {
    let record = &order.record;
    let generation = letter.subject.as_ref().map(|subject| subject.generation);
    if generation != Some(record.generation) || record.sv > DOCUMENT_VERSION || !record.is_consistent() {
        return;
    }
    if let Some(failure) = by_record(letter, record) {
        letter.failure = failure;
    }
    // What was tried for the order was not tried for another body under its key.
    if letter.queue != DeadLetterQueue::Conflict {
        letter.attempts = attempts(record, &order.history);
    }
}

fn by_record(letter: &DeadLetter, record: &Record) -> Option<Failure> {
    match &letter.queue {
        DeadLetterQueue::Step(_) => {
            let cause = record.cause.as_ref()?;
            let class = FailureClass::Run(cause.class);
            Some(Failure::new(Some(cause.step.clone()), class, cause.code.clone(), &cause.message))
        }
        DeadLetterQueue::Held => {
            // The hold's id is that of its letter.
            let hold = record.hold.as_ref().filter(|hold| letter.id == hold.id)?;
            Some(Failure::new(Some(hold.step.clone()), FailureClass::Held, None, &hold.reason))
        }
        DeadLetterQueue::Poison if letter.failure.class == FailureClass::Crashed => {
            let step = (!record.phase.is_terminal()).then(|| record.step(record.cur).clone());
            let mut failure = letter.failure.clone();
            failure.step = step;
            Some(failure)
        }
        DeadLetterQueue::Poison | DeadLetterQueue::Conflict => None,
    }
}

/// The attempts of the record's run. Every run before it ended with a line of its own in the history.
fn attempts(record: &Record, history: &[Entry]) -> Vec<Attempt> {
    let ends = |entry: &Entry| entry.what == Phase::Undone.as_str();
    let until = match record.phase {
        Phase::Undone => history.iter().rposition(ends).unwrap_or(history.len()),
        _ => history.len(),
    };
    let from = history[..until].iter().rposition(ends).map_or(0, |end| end + 1);
    let attempts = history[from..until].iter().filter(|entry| ATTEMPTS.contains(&entry.what.as_str()));
    let attempts: Vec<_> = attempts.map(Attempt::from).collect();
    attempts[attempts.len().saturating_sub(ATTEMPTS_MAX)..].to_vec()
}

/// The reason of a run that was given up is the class of its cause, and behind a colon the downstream's code.
fn class_of_run(reason: &str) -> FailureClass {
    let word = reason.split(':').next().unwrap_or_default();
    match FailureClass::of_word(word) {
        Some(class @ FailureClass::Run(_)) => class,
        _ => FailureClass::Unknown,
    }
}

fn step_held_at(reason: &str) -> Option<StepName> {
    reason.strip_prefix(HELD_AT)?.parse().ok()
}

fn has_crashed(reason: &str) -> bool {
    [DELIVERY_LIMIT, WORKERS_ENDED, HANDLING_PANICKED, PARKING_PANICKED]
        .iter()
        .any(|known| reason.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at: i64, what: &str) -> Entry {
        Entry { at, what: what.into(), step: None, detail: None }
    }

    fn record(phase: Phase) -> Record {
        use orderfleet_domain::saga::{Nonce, WorkerId};
        let fp = format!("01{}", "0".repeat(64)).parse().unwrap();
        let steps = vec!["inventory".parse().unwrap()];
        Record { phase, ..Record::first(fp, steps, WorkerId("w".into()), 0, Nonce(1)) }
    }

    #[test]
    fn a_reason_tells_step_and_class() {
        let step = || "fulfilment".parse().unwrap();
        let of_step = DeadLetterQueue::Step(step());
        let cases = [
            (&of_step, "deadline_passed", Some(step()), "deadline_passed"),
            (&of_step, "tombstone: gone", Some(step()), "tombstone"),
            (&of_step, "held", Some(step()), "unknown"),
            (&DeadLetterQueue::Held, "held at fulfilment", Some(step()), "held"),
            (&DeadLetterQueue::Conflict, "another body", None, "conflict"),
            (&DeadLetterQueue::Poison, "crashed workers until the delivery limit", None, "crashed"),
            (&DeadLetterQueue::Poison, "handling it panicked at a.rs:1", None, "crashed"),
            (&DeadLetterQueue::Poison, "no JSON at line 1 column 0", None, "unreadable"),
        ];
        for (queue, reason, step, class) in cases {
            let failure = by_reason(queue, reason);
            assert_eq!((failure.step.clone(), failure.class.as_str()), (step, class), "{reason}");
            assert_eq!(failure.answer(), reason);
        }
    }

    #[test]
    fn a_trace_is_known_by_its_id() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace_id(&format!("00-{id}-00f067aa0ba902b7-01")).as_deref(), Some(id));
        for bad in ["", "00-1", "no trace"] {
            assert_eq!(trace_id(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_attempts_are_those_of_the_run() {
        let words =
            ["attempt_failed", "compensating", "UNDONE", "step_done", "not_sent", "UNDONE", "cancelled"];
        let history: Vec<_> = (0..).zip(words).map(|(at, what)| entry(at, what)).collect();
        let at = |phase, history: &[Entry]| -> Vec<_> {
            attempts(&record(phase), history).iter().map(|attempt| attempt.at.as_millisecond()).collect()
        };
        assert_eq!(at(Phase::Undone, &history), [4]);
        assert_eq!(at(Phase::Run, &history[..5]), [4]);
        assert_eq!(at(Phase::Undone, &history[..3]), [0, 1]);
        let many: Vec<_> = (0..64).map(|at| entry(at, "attempt_failed")).collect();
        assert_eq!(at(Phase::Comp, &many), (32..64).collect::<Vec<_>>());
    }
}
