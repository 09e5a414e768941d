//! Everything that is known to have happened to an order, oldest first. No I/O.

use jiff::Timestamp;
use orderfleet_domain::{
    StepName,
    saga::{Entry, Millis, Phase, Record, StepResult, StepState},
};
use orderfleet_storage::{LetterOfOrder, OrderView};
use serde::Serialize;

/// Something that happened to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelineEntry {
    /// When, by the clock of whoever wrote it down.
    pub at: Timestamp,
    /// Milliseconds since the entry before: how old the state before it became. Clocks that differ make it wrong, never below 0.
    pub after_ms: i64,
    /// What, one stable word.
    pub what: String,
    /// At which step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepName>,
    /// The rest, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The timeline of an order: accepted and stored first, then its history, the services' answers and its dead letters by their
/// times. The history holds the newest 64 entries alone; of steps that are no longer in it, the answers still are.
pub(super) fn timeline(view: &OrderView, letters: &[LetterOfOrder]) -> Vec<TimelineEntry> {
    let mut happened = history(view);
    happened.extend(forgotten(view));
    happened.extend(letters.iter().map(|letter| {
        let detail = Some(format!("{}: {}", letter.queue, letter.reason));
        entry(letter.first_seen, "dead_letter", None, detail)
    }));
    happened.sort_by_key(|entry| entry.at);
    let stored = view.created_at;
    let mut all = vec![entry(view.accepted_at, "accepted", None, None), entry(stored, "stored", None, None)];
    all.append(&mut happened);
    for index in 1..all.len() {
        let age = all[index].at.duration_since(all[index - 1].at).as_millis();
        all[index].after_ms = i64::try_from(age).unwrap_or(i64::MAX).max(0);
    }
    all
}

/// The history, with the answers that its entries record, and with the runs that began in between.
fn history(view: &OrderView) -> Vec<TimelineEntry> {
    let OrderView { record, history, .. } = view;
    let began = |index: usize| begins_run(history, index);
    let runs = u32::try_from((1..history.len()).filter(|index| began(*index)).count()).unwrap_or(u32::MAX);
    let running = is_running_unseen(record, history);
    let mut generation = record.generation.saturating_sub(runs + u32::from(running));
    let mut happened = Vec::with_capacity(history.len());
    for (index, told) in history.iter().enumerate() {
        if began(index) {
            generation += 1;
            happened.push(run(told.at, generation));
        }
        let detail = told.detail.clone().or_else(|| answer(record, told));
        happened.push(entry(time(told.at), &told.what, told.step.clone(), detail));
    }
    if running {
        happened.push(run(view.updated_at.as_millisecond(), record.generation));
    }
    happened
}

/// The claim that begins a run writes no entry of its own: the run has begun before the first entry behind an UNDONE.
fn begins_run(history: &[Entry], index: usize) -> bool {
    let is_undone = |entry: &Entry| entry.what == Phase::Undone.as_str();
    index > 0 && is_undone(&history[index - 1]) && history[index].what != "cancelled"
}

fn is_running_unseen(record: &Record, history: &[Entry]) -> bool {
    let last = history.last().map(|entry| entry.what.as_str());
    last == Some(Phase::Undone.as_str()) && record.phase != Phase::Undone
}

fn run(before: Millis, generation: u32) -> TimelineEntry {
    entry(time(before), "run", None, Some(format!("run {generation} has begun by now")))
}

/// What the service answered to the step that an entry records.
fn answer(record: &Record, told: &Entry) -> Option<String> {
    let found = record.results.iter().find(|result| is_of(result, told))?;
    (!found.result.is_empty()).then(|| found.result.clone())
}

fn is_of(result: &StepResult, told: &Entry) -> bool {
    told.step.as_ref() == Some(&result.step) && told.at == result.at && told.what == word(result.state)
}

/// Results whose entries have fallen out of the history, or were never in it.
fn forgotten(view: &OrderView) -> impl Iterator<Item = TimelineEntry> {
    let is_untold = move |result: &&StepResult| !view.history.iter().any(|told| is_of(result, told));
    view.record.results.iter().filter(is_untold).map(|result| {
        let detail = (!result.result.is_empty()).then(|| result.result.clone());
        entry(time(result.at), word(result.state), Some(result.step.clone()), detail)
    })
}

fn word(state: StepState) -> &'static str {
    match state {
        StepState::Done => "step_done",
        StepState::Undone => "step_undone",
        StepState::SettledByPerson => "step_settled",
    }
}

fn entry(at: Timestamp, what: &str, step: Option<StepName>, detail: Option<String>) -> TimelineEntry {
    TimelineEntry { at, after_ms: 0, what: what.to_owned(), step, detail }
}

/// A time that nobody writes, beyond the year 9999, is shown as the last one before.
pub(super) fn time(at: Millis) -> Timestamp {
    Timestamp::from_millisecond(at).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use orderfleet_domain::saga::{Nonce, WorkerId};
    use serde_json::json;

    use super::*;

    fn told(at: Millis, what: &str, step: Option<&str>, detail: Option<&str>) -> Entry {
        let step = step.and_then(|step| step.parse().ok());
        Entry { at, what: what.into(), step, detail: detail.map(str::to_owned) }
    }

    pub(in crate::orders) fn view() -> OrderView {
        let steps = ["inventory", "fulfilment", "accounting"].map(|name| name.parse().unwrap()).to_vec();
        let record = Record::first("0".repeat(66).parse().unwrap(), steps, WorkerId("w".into()), 0, Nonce(1));
        let order = json!({
            "channel": "retail", "currency": "GBP", "payment_ref": "p", "ship_to": {"name": "A. Person"},
            "lines": [{ "sku": "A", "quantity": 2, "unit_price": "1.50" }]
        });
        OrderView {
            order_id: "eu1-vqhnbfvs-dw3nwqzm4jeqqutrep4bxjfyvskigkny".parse().unwrap(),
            account: "demo".parse().unwrap(),
            order: serde_json::from_value(order).unwrap(),
            correction: None,
            record,
            history: Vec::new(),
            conflicts: 0,
            accepted_at: time(1_000),
            created_at: time(3_000),
            updated_at: time(20_000),
        }
    }

    fn shown(view: &OrderView, letters: &[LetterOfOrder]) -> Vec<(i64, String)> {
        let line = |entry: TimelineEntry| {
            let detail = entry.detail.unwrap_or_default();
            (entry.after_ms, format!("{} {detail}", entry.what).trim_end().to_owned())
        };
        timeline(view, letters).into_iter().map(line).collect()
    }

    #[test]
    fn a_timeline_tells_answers_failures_and_dead_letters_with_the_age_of_each_state() {
        let mut view = view();
        let step = view.record.steps[0].clone();
        let result = r#"{"reservation":"r1"}"#.to_owned();
        view.record.results = vec![
            StepResult { step: step.clone(), state: StepState::Done, result, at: 4_000 },
            StepResult {
                step: view.record.steps[1].clone(),
                state: StepState::Done,
                result: String::new(),
                at: 3_500,
            },
        ];
        view.history = vec![
            told(4_000, "step_done", Some("inventory"), None),
            told(6_000, "attempt_failed", Some("fulfilment"), Some("timeout; waits 1s")),
        ];
        let letter = LetterOfOrder {
            id: "l".into(),
            queue: "held".into(),
            reason: "held at inventory".into(),
            first_seen: time(5_000),
            is_open: true,
        };
        let expected = [
            (0, "accepted"),
            (2_000, "stored"),
            (500, "step_done"),
            (500, r#"step_done {"reservation":"r1"}"#),
            (1_000, "dead_letter held: held at inventory"),
            (1_000, "attempt_failed timeout; waits 1s"),
        ];
        assert_eq!(shown(&view, &[letter]), expected.map(|(age, what)| (age, what.to_owned())));
    }

    #[test]
    fn a_producers_clock_that_is_ahead_makes_no_negative_age() {
        let view = OrderView { accepted_at: time(9_000), ..view() };
        assert_eq!(shown(&view, &[]), [(0, "accepted".to_owned()), (0, "stored".to_owned())]);
    }

    #[test]
    fn runs_that_began_between_two_entries_are_told() {
        let mut view = view();
        view.record.generation = 3;
        view.history = vec![
            told(4_000, "UNDONE", None, None),
            told(5_000, "step_done", None, None),
            told(6_000, "UNDONE", None, None),
        ];
        let whats = |view: &OrderView| -> Vec<_> {
            shown(view, &[]).into_iter().map(|(_, what)| what).skip(2).collect()
        };
        let (second, third) = ("run run 2 has begun by now", "run run 3 has begun by now");
        assert_eq!(whats(&view), ["UNDONE", second, "step_done", "UNDONE", third]);

        view.record.phase = Phase::Undone;
        view.record.generation = 2;
        assert_eq!(whats(&view), ["UNDONE", second, "step_done", "UNDONE"]);
        view.history.push(told(7_000, "cancelled", None, None));
        assert_eq!(whats(&view), ["UNDONE", second, "step_done", "UNDONE", "cancelled"]);
    }
}
