//! Orders as lines of a table.

use jiff::Timestamp;
use orderfleet_domain::StepName;
use orderfleet_operations::orders::{ListedOrder, StuckOrder, Waiting};
use serde::Serialize;

use super::time::{age, shown};
use crate::output::Row;

/// An order on a line of 80 columns.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Narrow(pub(super) ListedOrder);

/// An order with all that fits on a line.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Wide(pub(super) ListedOrder);

/// An order that has not ended, and why it waits.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Stuck(pub(super) StuckOrder);

impl Row for Narrow {
    const HEADER: &'static [&'static str] = &["ORDER", "STATUS", "STEP", "ATT", "AGE"];

    fn cells(&self) -> Vec<String> {
        let order = &self.0;
        vec![
            order.order_id.to_string(),
            order.status.as_str().into(),
            step(order.step.as_ref()),
            order.attempts.to_string(),
            age(order.created_at, Timestamp::now()),
        ]
    }
}

impl Row for Wide {
    const HEADER: &'static [&'static str] =
        &["ORDER", "ACCOUNT", "STATUS", "STEP", "RUN", "ATT", "CAUSE", "FLAGS", "WRITTEN", "AGE"];

    fn cells(&self) -> Vec<String> {
        let (order, now) = (&self.0, Timestamp::now());
        vec![
            order.order_id.to_string(),
            order.account.to_string(),
            order.status.as_str().into(),
            step(order.step.as_ref()),
            order.generation.to_string(),
            order.attempts.to_string(),
            cause(order),
            flags(order),
            age(order.updated_at, now),
            age(order.created_at, now),
        ]
    }
}

impl Row for Stuck {
    const HEADER: &'static [&'static str] =
        &["ORDER", "STATUS", "STEP", "WAITS-FOR", "ATT", "DEADLINE", "AGE"];

    fn cells(&self) -> Vec<String> {
        let StuckOrder { order, waiting, attempts_max, deadline } = &self.0;
        let most = attempts_max.map(|most| format!("/{most}")).unwrap_or_default();
        vec![
            order.order_id.to_string(),
            order.status.as_str().into(),
            step(order.step.as_ref()),
            waiting.as_ref().map_or_else(nothing, waits_for),
            format!("{}{most}", order.attempts),
            deadline.map_or_else(nothing, shown),
            age(order.created_at, Timestamp::now()),
        ]
    }
}

fn step(step: Option<&StepName>) -> String {
    step.map_or_else(nothing, ToString::to_string)
}

fn cause(order: &ListedOrder) -> String {
    let Some(cause) = &order.cause else { return nothing() };
    match &cause.code {
        Some(code) => format!("{}:{code}", cause.class.as_str()),
        None => cause.class.as_str().into(),
    }
}

fn flags(order: &ListedOrder) -> String {
    let flags = [
        (order.is_final, "final"),
        (order.cancel_requested, "cancel"),
        (order.conflicts > 0, "conflict"),
        (order.owes, "owes"),
    ];
    let set: Vec<_> = flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).collect();
    if set.is_empty() { nothing() } else { set.join(",") }
}

/// One cell without blanks: a person, whom or until when.
fn waits_for(waiting: &Waiting) -> String {
    let now = Timestamp::now();
    match waiting {
        Waiting::Person { since } => format!("person:{}", age(*since, now)),
        Waiting::Worker { owner, until } => format!("worker:{owner}:{}", age(now, *until)),
        Waiting::Paused { target, until } => format!("paused:{target}:{}", age(now, *until)),
        Waiting::NextTry { at } => format!("next-try:{}", age(now, *at)),
        Waiting::Sweeper => "sweeper".into(),
        Waiting::Nobody { since } => format!("nobody-came:{}", age(*since, now)),
        Waiting::Message => "message".into(),
    }
}

pub(super) fn nothing() -> String {
    "-".into()
}
