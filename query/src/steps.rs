//! What a customer reads of an order's steps: computed from where the run stands.

use orderfleet_domain::{
    StepName,
    saga::{Phase, Record, StepResult, StepState},
};
use serde::Serialize;
use serde_json::Value;

/// One step of the current run.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Step<'a> {
    name: &'a StepName,
    state: State,
    /// Attempts of unknown outcome so far; only for the step in hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    /// What the downstream answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// Not attempted in this run.
    Pending,
    /// May have been attempted; not known to have taken effect.
    Running,
    Done,
    /// Its undoing may have been attempted.
    Undoing,
    Undone,
    SettledByPerson,
}

/// The steps of a record, first to last.
pub(crate) fn steps(record: &Record) -> Vec<Step<'_>> {
    (0..).zip(&record.steps).map(|(index, name)| step(record, index, name)).collect()
}

fn step<'a>(record: &Record, index: u32, name: &'a StepName) -> Step<'a> {
    let known = record.results.iter().find(|result| result.step == *name);
    let in_hand = index == record.cur && !record.phase.is_terminal();
    Step {
        name,
        state: state(record, index, known.map(|result| result.state)),
        attempts: in_hand.then_some(record.att),
        result: known.and_then(result),
    }
}

fn state(record: &Record, index: u32, known: Option<StepState>) -> State {
    match (record.phase, known) {
        (Phase::Done, _) => State::Done,
        (Phase::Run, _) if index < record.cur => State::Done,
        (Phase::Run, _) if index <= record.cur.max(record.hi) => State::Running,
        (Phase::Comp, _) if index == record.cur => State::Undoing,
        (_, Some(StepState::Done)) => State::Done,
        (_, Some(StepState::Undone)) => State::Undone,
        (_, Some(StepState::SettledByPerson)) => State::SettledByPerson,
        (_, None) => State::Pending,
    }
}

/// A result that was shortened is no JSON any more and shown as the text it is.
fn result(known: &StepResult) -> Option<Value> {
    if known.result.is_empty() {
        return None;
    }
    Some(serde_json::from_str(&known.result).unwrap_or_else(|_| Value::from(known.result.as_str())))
}

#[cfg(test)]
mod tests {
    use orderfleet_domain::saga::{Nonce, WorkerId};
    use serde_json::json;

    use super::*;

    fn record(phase: Phase, cur: u32, hi: u32, results: &[(usize, StepState)]) -> Record {
        let names: Vec<StepName> = ["a", "b", "c"].map(|name| name.parse().unwrap()).to_vec();
        let result = |(step, state): &(usize, StepState)| StepResult {
            step: names[*step].clone(),
            state: *state,
            result: String::new(),
            at: 0,
        };
        let results = results.iter().map(result).collect();
        let fp = "0".repeat(66).parse().unwrap();
        let first = Record::first(fp, names.clone(), WorkerId("w".into()), 0, Nonce(1));
        Record { phase, cur, hi, results, ..first }
    }

    fn states(record: &Record) -> Vec<State> {
        steps(record).iter().map(|step| step.state).collect()
    }

    #[test]
    fn a_run_goes_from_first_to_last() {
        use State::*;
        let done = (0, StepState::Done);
        assert_eq!(states(&record(Phase::Run, 0, 0, &[])), [Running, Pending, Pending]);
        assert_eq!(states(&record(Phase::Run, 1, 1, &[done])), [Done, Running, Pending]);
        assert_eq!(states(&record(Phase::Run, 0, 1, &[])), [Running, Running, Pending]);
        assert_eq!(states(&record(Phase::Done, 2, 2, &[done])), [Done, Done, Done]);
    }

    #[test]
    fn compensation_goes_from_the_cursor_down() {
        use State::*;
        let (done, undone) = ((0, StepState::Done), (1, StepState::Undone));
        assert_eq!(states(&record(Phase::Comp, 1, 1, &[done])), [Done, Undoing, Pending]);
        assert_eq!(states(&record(Phase::Comp, 0, 1, &[done, undone])), [Undoing, Undone, Pending]);
        let all = [(0, StepState::Undone), (1, StepState::SettledByPerson)];
        assert_eq!(states(&record(Phase::Undone, 0, 1, &all)), [Undone, SettledByPerson, Pending]);
    }

    #[test]
    fn attempts_are_those_of_the_step_in_hand() {
        let waiting = Record { att: 3, ..record(Phase::Run, 1, 1, &[(0, StepState::Done)]) };
        let attempts: Vec<_> = steps(&waiting).iter().map(|step| step.attempts).collect();
        assert_eq!(attempts, [None, Some(3), None]);
        let ended = Record { att: 3, ..record(Phase::Done, 2, 2, &[]) };
        assert!(steps(&ended).iter().all(|step| step.attempts.is_none()));
    }

    #[test]
    fn a_result_is_json_where_it_is_and_text_where_it_was_cut() {
        let mut done = record(Phase::Done, 2, 2, &[(0, StepState::Done), (1, StepState::Done)]);
        done.results[0].result = r#"{"reservation":"r1"}"#.into();
        done.results[1].result = r#"{"shipment":"s"#.into();
        let results: Vec<_> = steps(&done).into_iter().map(|step| step.result).collect();
        assert_eq!(results, [Some(json!({"reservation": "r1"})), Some(json!("{\"shipment\":\"s")), None]);
    }
}
