//! What an account sees of its order: everything but the address.

use jiff::Timestamp;
use orderfleet_domain::{
    Currency, Fingerprint, Money, OrderId, StepName,
    saga::{Cause, CauseClass, Entry, Hold, Millis, Phase, Record},
};
use orderfleet_storage::{OrderView, ParkedOrder};
use serde::Serialize;

use crate::steps::{Step, steps};

/// The status of an order that waits for a person.
const HELD: &str = "HELD";

/// The body of a 200.
#[derive(Debug, Serialize)]
pub(crate) struct Answer<'a> {
    order_id: &'a OrderId,
    /// `HELD` while the order waits for a person, else the phase.
    status: &'static str,
    #[serde(rename = "gen")]
    generation: u32,
    #[serde(rename = "final")]
    is_final: bool,
    fingerprint: &'a Fingerprint,
    currency: &'a Currency,
    total: Money,
    lines: usize,
    steps: Vec<Step<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a Cause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<ShownHold<'a>>,
    conflicts: usize,
    cancel_requested: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel: Option<Cancel>,
    history: Vec<ShownEntry<'a>>,
    accepted_at: Timestamp,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// The body of a 200 for an accepted order that waits for a person before it was stored.
#[derive(Debug, Serialize)]
pub(crate) struct ParkedAnswer<'a> {
    order_id: &'a OrderId,
    status: &'static str,
    hold: ShownHold<'a>,
}

#[derive(Debug, Serialize)]
struct ShownHold<'a> {
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<&'a StepName>,
    at: Timestamp,
}

/// What has become of a request to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Cancel {
    /// It is not decided yet.
    Requested,
    /// The order is undone, or being undone, for good.
    Cancelled,
    /// The last step had been attempted.
    TooLate,
}

#[derive(Debug, Serialize)]
struct ShownEntry<'a> {
    at: Timestamp,
    what: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<&'a StepName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

impl<'a> From<&'a OrderView> for Answer<'a> {
    fn from(view: &'a OrderView) -> Self {
        let OrderView { order, record, .. } = view;
        let cancel = cancel(view);
        Self {
            order_id: &view.order_id,
            status: status(record),
            generation: record.generation,
            is_final: record.is_final,
            fingerprint: &record.fp,
            currency: &order.currency,
            total: order.total(),
            lines: order.lines.len(),
            steps: steps(record),
            cause: record.cause.as_ref(),
            hold: record.hold.as_ref().map(ShownHold::from),
            conflicts: view.conflicts,
            cancel_requested: cancel.is_some(),
            cancel,
            history: view.history.iter().map(ShownEntry::from).collect(),
            accepted_at: view.accepted_at,
            created_at: view.created_at,
            updated_at: view.updated_at,
        }
    }
}

impl<'a> From<&'a Hold> for ShownHold<'a> {
    fn from(hold: &'a Hold) -> Self {
        Self { reason: &hold.reason, step: Some(&hold.step), at: time(hold.at) }
    }
}

impl<'a> ParkedAnswer<'a> {
    pub(crate) fn new(order_id: &'a OrderId, parked: &'a ParkedOrder) -> Self {
        let hold = ShownHold { reason: &parked.reason, step: None, at: parked.parked_at };
        Self { order_id, status: HELD, hold }
    }
}

impl<'a> From<&'a Entry> for ShownEntry<'a> {
    fn from(entry: &'a Entry) -> Self {
        let Entry { at, what, step, detail } = entry;
        Self { at: time(*at), what, step: step.as_ref(), detail: detail.as_deref() }
    }
}

fn status(record: &Record) -> &'static str {
    if record.hold.is_some() { HELD } else { record.phase.as_str() }
}

/// A cancel that met an order at its end is in its history alone.
fn cancel(view: &OrderView) -> Option<Cancel> {
    let record = &view.record;
    let noted = |what: &str| view.history.iter().any(|entry| entry.what == what);
    let by_cancel = record.cause.as_ref().is_some_and(|cause| cause.class == CauseClass::Cancelled);
    match record.phase {
        Phase::Done => (record.cancel || noted("cancel_too_late")).then_some(Cancel::TooLate),
        Phase::Undone if record.is_final => {
            (record.cancel || by_cancel || noted("cancelled")).then_some(Cancel::Cancelled)
        }
        _ if by_cancel => Some(Cancel::Cancelled),
        _ => record.cancel.then_some(Cancel::Requested),
    }
}

/// A time that nobody writes, beyond the year 9999, is shown as the last one before.
fn time(at: Millis) -> Timestamp {
    Timestamp::from_millisecond(at).unwrap_or(Timestamp::MAX)
}
