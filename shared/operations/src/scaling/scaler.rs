//! Decides how many workers there should be. No clock and no I/O: the same looks at the same times give the same decisions.
//!
//! Out at once and as far as the backlog asks for; in slowly, by the largest wish of the last while; to none only after nothing
//! was left to do for a while. While a part of the signal is unknown no worker is taken away, and what is known may add some.

use std::collections::VecDeque;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Serialize;

use super::limits::Limit;
use super::signal::{Latency, Signal};
use crate::fleet::Unseen;

/// How long a backlog may take: more workers are wanted for one that would take longer.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// Orders that a worker is taken to handle per second until it was seen. Any guess does: what is seen counts soon.
const PER_WORKER_ASSUMED: f64 = 50.0;
/// A worker seen to be slower or faster than this is taken for this.
const PER_WORKER: RangeInclusive<f64> = 0.1..=1_000.0;
/// Share of what a worker can handle that it is given: the rest takes what comes unevenly.
const BUSY: f64 = 0.85;
/// What was seen of workers with a backlog counts for so long without one. Then fewer are tried.
const LEARNED_FOR: Duration = Duration::from_secs(600);
/// How long something must last to count: two heartbeats of every worker.
const SETTLED: Duration = Duration::from_secs(5);
/// So long the largest wish counts before a worker is taken away, and from one that was taken away to the next.
const IN_AFTER: Duration = Duration::from_secs(15);
/// Of so many workers one goes at a time; of more of them more.
const IN_SHARE: u16 = 4;
/// Added workers have been of use if throughput has grown by half of the share that was added.
const GAIN_MIN: f64 = 0.5;
/// The gain of a smaller share cannot be told from chance.
const SHARE_MIN: f64 = 0.1;
/// Calls are slower that take a quarter longer, and so many milliseconds at least.
const SLOWER_MIN: f64 = 1.25;
const SLOWER_BY_CHANCE_MS: u64 = 20;
/// After added workers were of no use, so long none are added; then it is tried again.
const NO_GAIN_HOLDS: Duration = Duration::from_secs(60);

/// Fewest and most workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bounds {
    /// Fewest, also when there is nothing to do.
    pub min: u16,
    /// Most, whatever there is to do.
    pub max: u16,
}

/// What a scaler is told of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Fewest and most workers.
    pub bounds: Bounds,
    /// How long there must have been nothing to do before the fewest are left.
    pub idle_after: Duration,
}

/// How many workers there should be, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// So many.
    pub workers: u16,
    /// Why, for people.
    pub reason: String,
}

/// Decides, and remembers what it needs to be steady.
#[derive(Debug)]
pub struct Scaler {
    size: Size,
    /// What was wished for at each look of the last while.
    wishes: VecDeque<(Duration, u16)>,
    /// What was ready at each look of the last moments.
    ready: VecDeque<(Duration, u64)>,
    /// Since when there has been a backlog at every look.
    backlog_since: Option<Duration>,
    /// Since when there has been nothing to do at every look.
    idle_since: Option<Duration>,
    /// Orders per second that one worker handles at most, and when that was seen.
    per_worker: Option<(Duration, f64)>,
    /// How many workers take orders, and since when it has been as many.
    live: Option<(Duration, u64)>,
    last_in: Option<Duration>,
    added: Option<Added>,
    /// Why and until when none are added.
    no_gain: Option<(Duration, Limit)>,
}

/// What was so when workers were added to some that were at their limit.
#[derive(Debug)]
struct Added {
    /// So many took orders.
    from: u64,
    /// Once so many do, it is judged.
    to: u64,
    /// Since when they do. A start may take minutes.
    there_since: Option<Duration>,
    per_second: f64,
    latencies: Vec<Latency>,
}

/// How many workers the known work asks for.
struct Wish {
    workers: u16,
    why: String,
}

impl Scaler {
    /// One that knows nothing of the fleet yet.
    #[must_use]
    pub fn new(size: Size) -> Self {
        Self {
            size,
            wishes: VecDeque::new(),
            ready: VecDeque::new(),
            backlog_since: None,
            idle_since: None,
            per_worker: None,
            live: None,
            last_in: None,
            added: None,
            no_gain: None,
        }
    }

    /// Decides by a look at a time, on any clock that does not go back, at a fleet that should have `current` workers by now.
    pub fn decide(&mut self, now: Duration, signal: &Signal, current: u16) -> Decision {
        self.remember(now, signal, current);
        let wish = self.wish(signal, current);
        keep(&mut self.wishes, now, IN_AFTER, wish.workers);
        let Bounds { min, max } = self.size.bounds;
        if current < min {
            return told(min, format!("never fewer than {min}"));
        }
        if current > max {
            return told(max, format!("never more than {max}"));
        }
        let wanted = wish.workers.clamp(min, max);
        // Without a word of the workers nobody knows what more of them would do, nor whether the database answers them.
        if wanted > current && signal.workers_live.is_some() {
            return self.out(now, signal, current, Wish { workers: wanted, ..wish });
        }
        if let Some(unknown) = signal.unknown.first() {
            self.idle_since = None;
            return told(current, format!("stays as it is: {} is unknown ({})", unknown.what, unknown.why));
        }
        self.stay_or_in(now, current, wish)
    }

    fn remember(&mut self, now: Duration, signal: &Signal, current: u16) {
        let parts = &signal.parts;
        let is_idle = signal.is_known() && signal.known_work() == 0;
        self.idle_since = is_idle.then(|| self.idle_since.unwrap_or(now));
        let has_backlog = signal.ready() > 0 && current > 0;
        self.backlog_since = has_backlog.then(|| self.backlog_since.unwrap_or(now));
        if let Some(ready) = parts.ready {
            keep(&mut self.ready, now, SETTLED, ready);
        }
        let since = |live| self.live.filter(|(_, before)| *before == live).map_or(now, |(since, _)| since);
        self.live = signal.workers_live.map(|live| (since(live), live));
        self.learn(now, signal);
        self.judge_added(now, signal);
    }

    /// What one worker handles when it has enough to do; the newest say nothing of that yet, nor do those that wait for a service.
    fn learn(&mut self, now: Duration, signal: &Signal) {
        self.per_worker = self.per_worker.filter(|(at, _)| now.saturating_sub(*at) < LEARNED_FOR);
        let are_all_at_work = self.is_settled(now, self.backlog_since)
            && self.is_settled(now, self.live.map(|(since, _)| since))
            && !signal.limits.iter().any(Limit::forbids_more);
        let live = signal.workers_live.filter(|live| *live > 0);
        let handled = signal.parts.per_second.filter(|per_second| *per_second > 0.0);
        let (Some(per_second), Some(live)) = (handled, live) else { return };
        let per_worker = (per_second / as_f64(live)).clamp(*PER_WORKER.start(), *PER_WORKER.end());
        if are_all_at_work || self.per_worker.is_some_and(|(_, before)| before < per_worker) {
            self.per_worker = Some((now, per_worker));
        }
    }

    fn is_settled(&self, now: Duration, since: Option<Duration>) -> bool {
        since.is_some_and(|since| now.saturating_sub(since) >= SETTLED)
    }

    /// How many workers all that is known of asks for: at least one, if there is anything.
    fn wish(&self, signal: &Signal, current: u16) -> Wish {
        let parts = &signal.parts;
        if signal.known_work() == 0 {
            let silent = signal.unknown.iter().find(|unknown| matches!(unknown.what, "ready" | "to park"));
            return match silent {
                // Whatever waits unseen is worked, if slowly.
                Some(Unseen { what, why }) if current == 0 => {
                    Wish { workers: 1, why: format!("{what} is unknown ({why}): one worker, to be safe") }
                }
                _ => Wish { workers: 0, why: "nothing is to be done".to_owned() },
            };
        }
        let ready = as_f64(signal.ready());
        let learned = self.per_worker.map(|(_, per_worker)| per_worker);
        let per_worker = learned.unwrap_or(PER_WORKER_ASSUMED);
        let backlog = ready / (per_worker * DRAIN_WITHIN.as_secs_f64());
        // What comes in meanwhile goes on coming. Where nobody was ever seen at the limit, those there are suffice.
        let mut steady = learned.zip(parts.per_second).map_or(0.0, |(most, now)| now / (most * BUSY));
        if self.is_backlog_shrinking() {
            // More is handled than comes in.
            steady = steady.min(as_f64(signal.workers_live.unwrap_or(0)));
        }
        Wish { workers: ceil(backlog.max(steady)).max(1), why: told_work(signal, per_worker) }
    }

    fn is_backlog_shrinking(&self) -> bool {
        let (first, last) = (self.ready.front(), self.ready.back());
        first.zip(last).is_some_and(|((_, then), (_, now))| now < then)
    }

    /// Adds workers, unless that is of no use.
    fn out(&mut self, now: Duration, signal: &Signal, current: u16, wish: Wish) -> Decision {
        let Wish { workers, why } = wish;
        // The first one is added whatever the downstreams say: nobody else can find out how they are.
        if current > 0
            && let Some(limit) = self.limit(now, signal)
        {
            return told(current, format!("{why}; no more than {current} workers: {limit}"));
        }
        if self.added.is_none() && self.is_settled(now, self.backlog_since) {
            self.added = Added::now(signal, workers);
        }
        self.last_in = None;
        told(workers, why)
    }

    fn limit<'a>(&'a self, now: Duration, signal: &'a Signal) -> Option<&'a Limit> {
        let no_gain = self.no_gain.as_ref().filter(|(until, _)| now < *until);
        signal.limits.iter().find(|limit| limit.forbids_more()).or(no_gain.map(|(_, limit)| limit))
    }

    /// Once those that were added have worked for two heartbeats: were they of use?
    fn judge_added(&mut self, now: Duration, signal: &Signal) {
        if self.backlog_since.is_none() {
            // They keep up with what comes, or all is done.
            self.added = None;
        }
        let Some(added) = self.added.take_if(|added| added.is_due(now, signal)) else { return };
        let Some(per_second) = signal.parts.per_second else { return };
        if per_second >= added.per_second * added.gain_min() {
            return;
        }
        let limit = Limit::NoGain {
            per_second: (rounded(added.per_second), rounded(per_second)),
            slower: slower(&added.latencies, &signal.latencies),
        };
        self.no_gain = Some((now + NO_GAIN_HOLDS, limit));
    }

    /// Keeps the workers there are, or takes some away.
    fn stay_or_in(&mut self, now: Duration, current: u16, wish: Wish) -> Decision {
        let Size { bounds: Bounds { min, .. }, idle_after, .. } = self.size;
        if current == min {
            return told(current, wish.why);
        }
        if let Some(since) = self.idle_since {
            let idle = now.saturating_sub(since);
            let text = format!("nothing was to be done for {:.0} s", idle.as_secs_f64());
            return if idle >= idle_after {
                told(min, text)
            } else {
                told(current, format!("{text}, and {:.0} s are waited for", idle_after.as_secs_f64()))
            };
        }
        let largest = self.wishes.iter().map(|(_, wish)| *wish).max().unwrap_or(0).max(min).max(1);
        let is_long = |since: Duration| now.saturating_sub(since) >= IN_AFTER;
        let began = self.wishes.front().map_or(now, |(at, _)| *at);
        // One look less than the whole while: what is older was forgotten.
        let is_watched = now.saturating_sub(began) >= IN_AFTER.mul_f64(0.9);
        if largest >= current || !is_watched || !self.last_in.is_none_or(is_long) {
            return told(current, wish.why);
        }
        self.last_in = Some(now);
        let workers = largest.max(current - (current / IN_SHARE).max(1));
        told(workers, format!("{}; {largest} were enough for {} s", wish.why, IN_AFTER.as_secs()))
    }
}

impl Added {
    /// As it is before so many workers are there; nothing while nothing is handled.
    fn now(signal: &Signal, workers: u16) -> Option<Self> {
        let per_second = signal.parts.per_second.filter(|per_second| *per_second > 0.0)?;
        let from = signal.workers_live.filter(|live| *live > 0)?;
        let to = u64::from(workers.max(ceil(as_f64(from) * (1.0 + SHARE_MIN))));
        let latencies = signal.latencies.clone();
        Some(Self { from, to, there_since: None, per_second, latencies })
    }

    /// Whether they have been there for long enough to be judged.
    fn is_due(&mut self, now: Duration, signal: &Signal) -> bool {
        let are_there = signal.workers_live.is_some_and(|live| live >= self.to);
        self.there_since = are_there.then(|| self.there_since.unwrap_or(now));
        self.there_since.is_some_and(|since| now.saturating_sub(since) >= SETTLED)
    }

    /// What they must at least have brought, as a factor.
    fn gain_min(&self) -> f64 {
        1.0 + GAIN_MIN * as_f64(self.to.saturating_sub(self.from)) / as_f64(self.from)
    }
}

/// A step whose calls take longer than before, by more than chance.
fn slower(before: &[Latency], now: &[Latency]) -> Option<(String, u64, u64)> {
    now.iter().find_map(|now| {
        let before = before.iter().find(|before| before.step == now.step)?.millis;
        let is_slower = as_f64(now.millis) >= as_f64(before) * SLOWER_MIN;
        (is_slower && now.millis >= before + SLOWER_BY_CHANCE_MS)
            .then(|| (now.step.clone(), before, now.millis))
    })
}

/// Notes a figure, and forgets those of more than a while ago.
fn keep<T>(figures: &mut VecDeque<(Duration, T)>, now: Duration, while_: Duration, figure: T) {
    figures.push_back((now, figure));
    while figures.front().is_some_and(|(at, _)| now.saturating_sub(*at) > while_) {
        figures.pop_front();
    }
}

fn told(workers: u16, reason: String) -> Decision {
    Decision { workers, reason }
}

/// The work in words: what there is of each kind.
fn told_work(signal: &Signal, per_worker: f64) -> String {
    let parts = &signal.parts;
    let at_least = &signal.at_least;
    let kinds = [
        (parts.ready, "ready"),
        (at_least_of(parts.ready, at_least.ready), "ready at least"),
        (parts.in_flight, "in flight"),
        (at_least_of(parts.in_flight, at_least.in_flight), "in flight at least"),
        (parts.to_park, "to park"),
        (at_least_of(parts.to_park, at_least.to_park), "to park at least"),
        (parts.due, "due"),
        (parts.owed, "owed"),
    ];
    let some = kinds.into_iter().filter_map(|(count, what)| Some((count.filter(|count| *count > 0)?, what)));
    let mut text = some.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ");
    if let Some(seconds) = parts.drain_predicted_s.filter(|seconds| *seconds >= 1.0) {
        text.push_str(&format!(", {seconds:.0} s at the rate of now"));
    } else if as_f64(signal.ready()) > per_worker {
        text.push_str(&format!(", {per_worker:.0}/s expected of a worker"));
    }
    text
}

/// What queues do tell of a part that is unknown.
fn at_least_of(part: Option<u64>, told: u64) -> Option<u64> {
    part.is_none().then_some(told)
}

#[expect(clippy::cast_precision_loss, reason = "counts of messages and milliseconds")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float is saturating"
)]
fn rounded(figure: f64) -> u64 {
    figure.round() as u64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float is saturating"
)]
fn ceil(workers: f64) -> u16 {
    workers.ceil() as u16
}

impl fmt::Display for Bounds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}..{}", self.min, self.max)
    }
}
