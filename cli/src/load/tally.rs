//! What has been counted so far. Progress and the summary read it.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

/// Longer latencies are counted as this one.
const LATENCY_MAX: Duration = Duration::from_secs(3600);

/// Why a load ended before its last order.
pub(crate) enum Stopped {
    Interrupted,
    /// The key or the address is wrong: what to tell the person, and the exit code.
    Denied(String, u8),
    /// Nothing got an answer for as long as one order is tried.
    Silent(String),
}

pub(crate) struct Tally {
    started: Instant,
    ended: Option<Instant>,
    /// Orders to post, without those that could not be written as a request.
    pub(crate) orders: u64,
    pub(crate) posted: u64,
    pub(crate) accepted: u64,
    pub(crate) refused: BTreeMap<String, u64>,
    pub(crate) errors: u64,
    /// Of the errors, invoices that could not be written as a request.
    unusable: u64,
    pub(crate) retried: u64,
    pub(crate) late: u64,
    pub(crate) waited: bool,
    pub(crate) done: u64,
    pub(crate) undone: u64,
    pub(crate) held: u64,
    pub(crate) conflict: u64,
    pub(crate) stopped: Option<Stopped>,
    /// Whole microseconds, from the first attempt (or the scheduled time) to the final answer.
    latency: Histogram<u64>,
    last_answer: Option<Instant>,
}

impl Tally {
    pub(crate) fn new(orders: u64, unusable: u64, waited: bool) -> Self {
        let max = u64::try_from(LATENCY_MAX.as_micros()).unwrap_or(u64::MAX);
        Self {
            started: Instant::now(),
            ended: None,
            orders,
            posted: 0,
            accepted: 0,
            refused: BTreeMap::new(),
            errors: unusable,
            unusable,
            retried: 0,
            late: 0,
            waited,
            done: 0,
            undone: 0,
            held: 0,
            conflict: 0,
            stopped: None,
            latency: Histogram::new_with_bounds(1, max, 3)
                .expect("the bounds are in order and 3 digits allowed"),
            last_answer: None,
        }
    }

    pub(crate) fn accept(&mut self, since: Instant) {
        self.accepted += 1;
        self.answered(since);
    }

    pub(crate) fn refuse(&mut self, reason: String, since: Instant) {
        *self.refused.entry(reason).or_default() += 1;
        self.answered(since);
    }

    fn answered(&mut self, since: Instant) {
        let now = Instant::now();
        self.latency.saturating_record(u64::try_from((now - since).as_micros()).unwrap_or(u64::MAX));
        self.last_answer = Some(now);
    }

    /// Whether any order got its final answer after `since`.
    pub(crate) fn answered_since(&self, since: Instant) -> bool {
        self.last_answer.is_some_and(|last| last >= since)
    }

    /// The first reason stays.
    pub(crate) fn stop(&mut self, why: Stopped) {
        self.stopped.get_or_insert(why);
    }

    pub(crate) fn posting_ended(&mut self) {
        self.ended = Some(Instant::now());
    }

    pub(crate) fn is_posting(&self) -> bool {
        self.ended.is_none()
    }

    /// How long orders were, or are, being posted.
    pub(crate) fn posting_time(&self) -> Duration {
        self.ended.unwrap_or_else(Instant::now) - self.started
    }

    pub(crate) fn refused_total(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Orders with a final answer.
    pub(crate) fn answers(&self) -> u64 {
        self.accepted + self.refused_total()
    }

    /// Orders that were posted and got no final answer in their time.
    pub(crate) fn given_up(&self) -> u64 {
        self.errors - self.unusable
    }

    /// Final answers per second.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub(crate) fn rate_per_s(&self) -> f64 {
        self.answers() as f64 / self.posting_time().as_secs_f64().max(0.001)
    }

    /// Accepted orders that came to their end.
    pub(crate) fn terminal(&self) -> u64 {
        self.done + self.undone + self.held
    }

    /// Accepted orders not seen to come to their end; 0 where nobody looked.
    pub(crate) fn open(&self) -> u64 {
        if self.waited { self.accepted - self.terminal() } else { 0 }
    }

    /// A latency percentile in milliseconds.
    pub(crate) fn latency_ms(&self, quantile: f64) -> f64 {
        Duration::from_micros(self.latency.value_at_quantile(quantile)).as_secs_f64() * 1000.0
    }
}
