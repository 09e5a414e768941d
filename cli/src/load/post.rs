//! Posts the orders, each until it has a final answer: accepted, refused, or given up.

use std::cell::RefCell;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::order::Draft;
use super::progress::Progress;
use super::tally::{Stopped, Tally};
use crate::client::{Answer, Client, Problem};
use crate::exit;

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// An order is late when it is sent this much after its scheduled time.
const LATE_MIN: Duration = Duration::from_millis(100);

/// How fast orders are sent.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// So many at a time, the next when one is answered.
    Closed { concurrency: usize },
    /// At the orders' own times, so many times faster; with a bound, which makes orders late.
    Open { speed: f64, outstanding_max: usize },
}

pub(crate) struct Poster<'a> {
    pub(crate) producer: Client,
    pub(crate) give_up: Duration,
    pub(crate) tally: &'a RefCell<Tally>,
    pub(crate) progress: &'a Progress,
    /// Takes the id of each accepted order; closed when the last one has been posted.
    pub(crate) accepted: UnboundedSender<String>,
    /// Once cancelled, no order is begun and none repeated.
    pub(crate) stop: CancellationToken,
}

impl Poster<'_> {
    /// Posts all of `drafts`, unless stopped; attempts on the way are waited for.
    pub(crate) async fn run(self, drafts: Vec<Draft>, pace: Pace) {
        let (speed, outstanding_max) = match pace {
            Pace::Closed { concurrency } => (None, concurrency),
            Pace::Open { speed, outstanding_max } => (Some(speed), outstanding_max),
        };
        stream::iter(schedule(drafts, speed))
            .then(|(due, draft)| async move {
                if let Some(due) = due {
                    tokio::time::sleep_until(due).await;
                }
                (due, draft)
            })
            .take_until(self.stop.cancelled())
            .for_each_concurrent(outstanding_max, |(due, draft)| self.settle(due, draft))
            .await;
        self.tally.borrow_mut().posting_ended();
    }

    /// Latency counts from the scheduled time: waiting for a place among the outstanding is part of it.
    async fn settle(&self, due: Option<Instant>, draft: Draft) {
        let started = Instant::now();
        let since = due.unwrap_or(started);
        {
            let mut tally = self.tally.borrow_mut();
            tally.posted += 1;
            tally.late += u64::from(started - since > LATE_MIN);
        }
        let body =
            serde_json::to_vec(&draft.order).expect("an order is text, whole numbers and maps of text");
        for attempt in 0.. {
            match self.producer.post(&draft.key, body.clone()).await {
                Answer::Accepted(order_id) => {
                    self.tally.borrow_mut().accept(since);
                    // Nobody listens without --wait.
                    _ = self.accepted.send(order_id);
                    return;
                }
                Answer::Refused(status, problem) => {
                    let reason = reason(draft.is_return, status.as_u16(), &problem);
                    return self.tally.borrow_mut().refuse(reason, since);
                }
                Answer::Denied(status, problem) => return self.denied(status.as_u16(), &problem),
                Answer::Repeat { after, why } => {
                    let left = self.give_up.saturating_sub(started.elapsed());
                    if left.is_zero() {
                        return self.given_up(&draft.key, started, &why);
                    }
                    if !self.before_repeat(&why, pause(attempt, after).min(left)).await {
                        return;
                    }
                }
            }
        }
    }

    /// Waits out the pause; false when the load is stopped meanwhile.
    async fn before_repeat(&self, why: &str, pause: Duration) -> bool {
        if self.stop.is_cancelled() {
            return false;
        }
        if self.tally.borrow().retried == 0 {
            let text =
                format!("no final answer ({why}): repeating such orders with the same key; Ctrl-C stops");
            self.progress.note(&text);
        }
        self.tally.borrow_mut().retried += 1;
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = self.stop.cancelled() => false,
        }
    }

    fn given_up(&self, key: &str, started: Instant, why: &str) {
        let mut tally = self.tally.borrow_mut();
        tally.errors += 1;
        self.progress.error(&format!("{key}: given up after {} s: {why}", started.elapsed().as_secs()));
        if !tally.answered_since(started) {
            tally.stop(Stopped::Silent(why.to_owned()));
            self.stop.cancel();
        }
    }

    fn denied(&self, status: u16, problem: &Problem) {
        let why = format!("the producer answered {status} {problem}");
        let code = if matches!(status, 401 | 403) { exit::NOT_AUTHORISED } else { exit::FAILED };
        let mut tally = self.tally.borrow_mut();
        tally.errors += 1;
        tally.stop(Stopped::Denied(why, code));
        self.stop.cancel();
    }
}

/// When each order is due: never in a closed loop; in an open one as long after the start as the order
/// came after the first, divided by `speed`. An order without a time is due with the one before it.
fn schedule(drafts: Vec<Draft>, speed: Option<f64>) -> Vec<(Option<Instant>, Draft)> {
    let Some(speed) = speed else { return drafts.into_iter().map(|draft| (None, draft)).collect() };
    let start = Instant::now();
    let first = drafts.iter().filter_map(|draft| draft.placed_at).min();
    let mut offset = Duration::ZERO;
    let mut scheduled: Vec<_> = drafts
        .into_iter()
        .map(|draft| {
            if let (Some(first), Some(placed_at)) = (first, draft.placed_at) {
                let after = Duration::try_from(placed_at.duration_since(first)).unwrap_or_default();
                offset = after.div_f64(speed);
            }
            (Some(start + offset), draft)
        })
        .collect();
    scheduled.sort_by_key(|(due, _)| *due);
    scheduled
}

/// The server's wish, within bounds, or doubling; with jitter, so that repeats do not come as one wave.
fn pause(attempt: u32, after: Option<Duration>) -> Duration {
    let doubled = BACKOFF_MIN.saturating_mul(2_u32.saturating_pow(attempt)).min(BACKOFF_MAX);
    let base = after.map_or(doubled, |wish| wish.clamp(BACKOFF_MIN, RETRY_AFTER_MAX));
    base.mul_f64(0.75 + fastrand::f64() / 2.0)
}

/// Why an order was refused, in one word: a return whatever else is wrong with it, else the most telling rule.
fn reason(is_return: bool, status: u16, problem: &Problem) -> String {
    if is_return {
        return "return".to_owned();
    }
    let rules =
        || problem.violations.iter().map(|violation| violation.rule.as_str()).filter(|rule| !rule.is_empty());
    let telling = ["quantity", "total"].into_iter().find(|telling| rules().any(|rule| rule == *telling));
    let kind = problem.kind.rsplit('/').next().filter(|kind| !kind.is_empty());
    let reason = telling.or_else(|| rules().next()).or(kind);
    reason.map_or_else(|| format!("http-{status}"), crate::output::visible)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(rules: &[&str]) -> Problem {
        let violations: Vec<_> = rules.iter().map(|rule| serde_json::json!({ "rule": rule })).collect();
        let problem =
            serde_json::json!({"type": "https://x/problems/invalid-order", "violations": violations});
        serde_json::from_value(problem).unwrap()
    }

    #[test]
    fn a_refusal_is_counted_once_under_its_most_telling_reason() {
        assert_eq!(reason(true, 422, &problem(&["quantity"])), "return");
        assert_eq!(reason(false, 422, &problem(&["sku", "total", "quantity"])), "quantity");
        assert_eq!(reason(false, 422, &problem(&["sku", "total"])), "total");
        assert_eq!(reason(false, 422, &problem(&["unit_price", "sku"])), "unit_price");
        assert_eq!(reason(false, 422, &problem(&[])), "invalid-order");
        assert_eq!(reason(false, 413, &Problem::default()), "http-413");
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_honour_retry_after() {
        let around = |pause: Duration, ms: u64| {
            let pause = pause.as_millis();
            (u128::from(ms) * 3 / 4..=u128::from(ms) * 5 / 4).contains(&pause)
        };
        assert!(around(pause(0, None), 100));
        assert!(around(pause(3, None), 800));
        assert!(around(pause(u32::MAX, None), 5_000));
        assert!(around(pause(9, Some(Duration::from_secs(2))), 2_000));
        assert!(around(pause(0, Some(Duration::from_secs(3600))), 30_000));
    }

    #[test]
    fn an_open_loop_keeps_the_arrival_pattern_compressed() {
        let mut drafts = super::super::generate::orders(3, 1, "GBP", None);
        for (draft, seconds) in drafts.iter_mut().zip([1200, 600, 0]) {
            draft.placed_at = Some(jiff::Timestamp::constant(seconds, 0));
        }
        let scheduled = schedule(drafts, Some(600.0));
        let offsets: Vec<_> =
            scheduled.iter().map(|(due, _)| due.unwrap() - scheduled[0].0.unwrap()).collect();
        assert_eq!(offsets, [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(2)]);
        assert_eq!(scheduled[0].1.key, "generated-1-3");
    }
}
