//! Everything about one order, for a person who looks into it.

use jiff::Timestamp;
use orderfleet_domain::{
    Channel, Currency, Fingerprint, Money, OrderId, StepName,
    saga::{Policy, StepResult, StepState},
};
use orderfleet_storage::{LetterOfOrder, ListedOrder, OrderView, Store};
use serde::Serialize;
use serde_json::Value;

use crate::orders::{
    OrdersError, StuckOrder, TimelineEntry, masked,
    timeline::{time, timeline},
    waiting::Judge,
};

/// Dead letters of one order that a report tells of.
const LETTERS_MAX: u32 = 200;

/// An order: where it stands, what it waits for, and everything that has happened to it. Personal data is masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OrderReport {
    /// Where it stands, what it waits for, and how long it may go on.
    #[serde(flatten)]
    pub standing: StuckOrder,
    /// The fingerprint that its client was answered with.
    pub fingerprint: Fingerprint,
    /// How it reached the shop.
    pub channel: Channel,
    /// Currency of its prices.
    pub currency: Currency,
    /// Its total.
    pub total: Money,
    /// How many lines it has.
    pub lines: usize,
    /// The steps, first to last, as pinned when it was inserted.
    pub steps: Vec<StepName>,
    /// What the services answered in this run.
    pub results: Vec<ShownResult>,
    /// When the producer accepted it, by the producer's clock.
    pub accepted_at: Timestamp,
    /// What happened to it, oldest first.
    pub timeline: Vec<TimelineEntry>,
    /// Its dead letters, at most 200.
    pub dead_letters: Vec<LetterOfOrder>,
    /// What was posted, masked.
    pub order: Value,
    /// What a person made of it, masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrected: Option<Value>,
    /// The first run that works on that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrected_from_gen: Option<u32>,
}

/// A service's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownResult {
    /// The step.
    pub step: StepName,
    /// Done, undone, or settled by a person.
    pub state: StepState,
    /// The answer; a text where it was shortened and so is no JSON any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// When it was recorded.
    pub at: Timestamp,
}

/// Reports on an order; `None` for one that no worker has stored.
///
/// # Errors
/// The database did not answer, or the document cannot be read by this build.
pub async fn report(
    store: &Store,
    policy: &Policy,
    order_id: &OrderId,
) -> Result<Option<OrderReport>, OrdersError> {
    let Some(view) = store.order_for_operator(order_id).await? else { return Ok(None) };
    let letters = store.letters_of_order(order_id, LETTERS_MAX).await?;
    let standing = Judge::new(store, policy).await?.judge(ListedOrder::from(&view)).await?;
    Ok(Some(OrderReport::new(&view, letters, standing)))
}

impl OrderReport {
    fn new(view: &OrderView, letters: Vec<LetterOfOrder>, standing: StuckOrder) -> Self {
        let OrderView { order, correction, record, .. } = view;
        let worked = correction.as_ref().map_or(order, |(_, corrected)| corrected);
        Self {
            standing,
            fingerprint: record.fp.clone(),
            channel: worked.channel,
            currency: worked.currency.clone(),
            total: worked.total(),
            lines: worked.lines.len(),
            steps: record.steps.clone(),
            results: record.results.iter().map(ShownResult::from).collect(),
            accepted_at: view.accepted_at,
            timeline: timeline(view, &letters),
            dead_letters: letters,
            order: masked(order),
            corrected: correction.as_ref().map(|(_, corrected)| masked(corrected)),
            corrected_from_gen: correction.as_ref().map(|(generation, _)| *generation),
        }
    }

    /// When it came to where it stands now: its last entry, or, held, the hold.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        let held = self.standing.order.hold.as_ref().map(|hold| hold.at);
        held.or_else(|| self.timeline.last().map(|entry| entry.at)).unwrap_or(self.accepted_at)
    }
}

impl From<&StepResult> for ShownResult {
    fn from(known: &StepResult) -> Self {
        let StepResult { step, state, result, at } = known;
        let text = || Value::from(result.as_str());
        let result = (!result.is_empty()).then(|| serde_json::from_str(result).unwrap_or_else(|_| text()));
        Self { step: step.clone(), state: *state, result, at: time(*at) }
    }
}

#[cfg(test)]
mod tests {
    use orderfleet_domain::saga::StepSettings;

    use super::*;
    use crate::orders::timeline::tests::view;

    #[test]
    fn a_report_names_the_order_by_the_words_of_the_query_api_and_nobody_in_person() {
        let mut view = view();
        let corrected = view.order.clone();
        view.correction = Some((2, corrected));
        let policy = Policy::new(StepSettings::defaults(), 0).unwrap();
        let standing = StuckOrder::new(ListedOrder::from(&view), &policy, &[], None, time(30_000));
        let report = OrderReport::new(&view, Vec::new(), standing);
        let shown = serde_json::to_value(&report).unwrap();
        let text = shown.to_string();
        assert!(!text.contains("A. Person") && text.contains("***"), "{text}");
        for field in
            ["order_id", "status", "gen", "final", "fingerprint", "currency", "total", "hold", "cause"]
        {
            assert!(shown.get(field).is_some(), "{field}: {text}");
        }
        assert_eq!((&shown["status"], &shown["total"]), (&"RUN".into(), &"3.00".into()));
        assert_eq!((&shown["corrected_from_gen"], &shown["waiting"]["for"]), (&2.into(), &"message".into()));
        assert_eq!(report.since(), time(3_000));
    }
}
