//! The result of a load: one JSON line, or a short table; and the exit code that goes with it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::tally::{Stopped, Tally};
use crate::exit;

/// All counts are orders, except `retried`: repeated requests.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    posted: u64,
    accepted: u64,
    refused: u64,
    errors: u64,
    /// Orders that were to be posted and have no answer, because the load was stopped.
    unanswered: u64,
    refused_by_reason: BTreeMap<String, u64>,
    retried: u64,
    /// Open loop: orders sent noticeably after their scheduled time.
    late: u64,
    p50_ms: f64,
    p99_ms: f64,
    /// From the first order posted to the last one answered.
    seconds: f64,
    rate_per_s: f64,
    /// Whether the orders were followed to their end; if not, the counts below are 0.
    waited: bool,
    done: u64,
    undone: u64,
    held: u64,
    open: u64,
    conflict: u64,
}

impl Summary {
    pub(crate) fn new(tally: &Tally) -> Self {
        Self {
            posted: tally.posted,
            accepted: tally.accepted,
            refused: tally.refused_total(),
            errors: tally.errors,
            unanswered: tally.orders - tally.answers() - tally.given_up(),
            refused_by_reason: tally.refused.clone(),
            retried: tally.retried,
            late: tally.late,
            p50_ms: round(tally.latency_ms(0.5)),
            p99_ms: round(tally.latency_ms(0.99)),
            seconds: round(tally.posting_time().as_secs_f64()),
            rate_per_s: round(tally.rate_per_s()),
            waited: tally.waited,
            done: tally.done,
            undone: tally.undone,
            held: tally.held,
            open: tally.open(),
            conflict: tally.conflict,
        }
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let reasons: Vec<_> =
            self.refused_by_reason.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let mut rows = vec![
            ("posted", self.posted, format!("in {:.1} s, {:.0} answers/s", self.seconds, self.rate_per_s)),
            ("accepted", self.accepted, format!("p50 {:.1} ms, p99 {:.1} ms", self.p50_ms, self.p99_ms)),
            ("refused", self.refused, reasons.join(", ")),
            ("errors", self.errors, format!("{} requests repeated", self.retried)),
        ];
        if self.unanswered > 0 {
            rows.push(("unanswered", self.unanswered, "run the same command again".to_owned()));
        }
        if self.late > 0 {
            rows.push((
                "late",
                self.late,
                "sent after their scheduled time: bound reached or machine too slow".to_owned(),
            ));
        }
        if self.waited {
            rows.push(("done", self.done, format!("undone {}, held {}", self.undone, self.held)));
            rows.push(("open", self.open, format!("conflict {}", self.conflict)));
        }
        rows.iter()
            .map(|(name, count, more)| format!("{name:<10} {count:>8}  {more}").trim_end().to_owned() + "\n")
            .collect()
    }

    /// See [`exit::HELP`].
    pub(crate) fn exit_code(&self, stopped: Option<&Stopped>) -> u8 {
        match stopped {
            Some(Stopped::Interrupted) => exit::INTERRUPTED,
            Some(Stopped::Denied(_, code)) => *code,
            Some(Stopped::Silent(_)) if self.accepted + self.refused == 0 => exit::DEPENDENCY_DOWN,
            _ if self.errors + self.unanswered + self.open == 0 => exit::OK,
            _ if self.accepted + self.refused == 0 => exit::FAILED,
            _ => exit::PARTLY,
        }
    }
}

/// To microseconds, where the value is in milliseconds.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
