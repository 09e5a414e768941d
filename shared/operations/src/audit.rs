//! The audit: every acceptance in the producers' logs against what became of its order.
//!
//! The database is asked first. What it knows nothing of may be in a queue, so the queues are looked at next, and the database
//! is asked once more after that. A message leaves its queue for good only after its order's document, or a dead letter that
//! holds it, is committed by a majority: whoever finds the queues empty first and the database without a trace second has
//! missed nothing that was in a queue. The other way round, an order taken between the two looks would be in neither.
//!
//! What remains: a broker tells how many messages are ready, not which ones are in the hands of a worker. An order that is in
//! hand during all of it, and without a document, is found by neither look; the age that is asked of a lost one keeps this
//! apart from what is merely slow.

mod acceptances;
mod events;
mod finding;
mod look;
mod reading;
mod report;
mod window;

use std::{io, time::Duration};

use jiff::Timestamp;
use orderfleet_domain::{Fingerprint, OrderId};
use orderfleet_messaging::{BrokerSettings, InspectionError, PublishError, Topology};
use orderfleet_storage::{Standing, Store, StoreError};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::log::LogError;

pub use acceptances::{Acceptance, LogSeen, Logs, LogsError, Malformed, Progress};
pub use events::{EventCounts, Events, Republishing};
pub use finding::{Class, Finding};
pub use look::QueueDepth;
pub use report::Report;

use acceptances::Part;
use events::Republisher;
use window::Window;

/// Orders asked for together.
const BATCH: usize = 1_000;
/// Orders without a trace that are kept for the second look together.
const SUSPECTS_MAX: usize = 50_000;
/// Pauses, in seconds, before a question that had no answer is asked again.
const PAUSES_S: [u64; 4] = [1, 2, 4, 8];

/// What is audited, and against what.
#[derive(Debug)]
pub struct Audit {
    /// The orders.
    pub store: Store,
    /// Where the queues are.
    pub broker: BrokerSettings,
    /// Which queues.
    pub topology: Topology,
    /// Which acceptances.
    pub range: Range,
    /// An order without a trace that was accepted longer ago than this is not merely slow. By the producers' clocks and ours.
    pub grace: Duration,
    /// How long to wait for each queue to be seen empty.
    pub patience: Duration,
    /// Whether terminal events are published again.
    pub events: Events,
}

/// A range of acceptance times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Range {
    /// Accepted then or later.
    pub since: Option<Timestamp>,
    /// Accepted earlier than this.
    pub until: Option<Timestamp>,
}

/// Whoever shows an audit to people.
pub trait Watcher {
    /// An acceptance was judged: each one of the range once, repeats apart, in no particular order.
    ///
    /// # Errors
    /// It cannot be shown any more: ends the audit.
    fn found(&mut self, finding: &Finding) -> io::Result<()>;

    /// The audit waits for these queues to be empty.
    fn waiting(&mut self, queues: &[QueueDepth]);
}

/// Why an audit has no end.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The database.
    #[error("the database cannot be asked where orders stand")]
    Store(#[source] StoreError),
    /// The broker.
    #[error("the queues cannot be looked at")]
    Queues(#[source] InspectionError),
    /// An event was not confirmed; it may have been published.
    #[error("the event of order {order_id} was not confirmed")]
    Event {
        /// The order.
        order_id: OrderId,
        /// Why.
        source: PublishError,
    },
    /// The operator log.
    #[error(transparent)]
    Record(#[from] LogError),
    /// The watcher.
    #[error("a finding cannot be shown")]
    Show(#[source] io::Error),
}

impl Audit {
    /// Balances what the logs tell. Nothing is changed, unless events are to be published. Memory is bounded however long the
    /// logs are: some 60 MB.
    ///
    /// Once `stop` is cancelled it ends soon and says so in its report; a second run starts from the beginning, and events
    /// that were published before are published again, under the same ids.
    ///
    /// # Errors
    /// A part of the fleet that does not answer within a minute, or a finding that cannot be shown.
    pub async fn run(
        &self,
        logs: Logs,
        watcher: &mut dyn Watcher,
        stop: &CancellationToken,
    ) -> Result<Report, AuditError> {
        let progress = logs.progress();
        let republisher = Republisher::begin(&self.events, &self.store, self.range, progress).await?;
        let mut balance = Balance {
            audit: self,
            report: Report::new(self.range),
            window: Window::default(),
            suspects: Vec::new(),
            republisher,
            watcher,
            stop,
        };
        let outcome = balance.all_of(logs).await;
        let Balance { report, republisher, .. } = balance;
        let events = republisher.end(outcome.is_ok()).await;
        outcome?;
        Ok(report.ended(events?, stop.is_cancelled()))
    }
}

impl Range {
    fn contains(&self, at: Timestamp) -> bool {
        self.since.is_none_or(|since| since <= at) && self.until.is_none_or(|until| at < until)
    }
}

/// An audit under way.
struct Balance<'a> {
    audit: &'a Audit,
    report: Report,
    window: Window,
    /// What the first look found no trace of.
    suspects: Vec<Acceptance>,
    republisher: Republisher<'a>,
    watcher: &'a mut dyn Watcher,
    stop: &'a CancellationToken,
}

impl Balance<'_> {
    async fn all_of(&mut self, logs: Logs) -> Result<(), AuditError> {
        let mut parts = logs.read();
        loop {
            let part = tokio::select! {
                biased;
                () = self.stop.cancelled() => None,
                part = parts.recv() => part,
            };
            let Some(part) = part else { break };
            self.take(part).await?;
        }
        self.judge_suspects().await
    }

    async fn take(&mut self, part: Part) -> Result<(), AuditError> {
        let Part { mut acceptances, malformed, ended } = part;
        self.report.took(malformed, ended);
        acceptances.retain(|acceptance| self.admits(acceptance));
        let standings = self.ask(&acceptances).await?;
        for (acceptance, standing) in acceptances.into_iter().zip(standings) {
            match standing {
                Standing::Unknown | Standing::OtherBody => self.suspects.push(acceptance),
                seen => self.count(&acceptance, &seen)?,
            }
        }
        self.republisher.publish(self.stop).await?;
        if self.suspects.len() >= SUSPECTS_MAX { self.judge_suspects().await } else { Ok(()) }
    }

    fn admits(&mut self, acceptance: &Acceptance) -> bool {
        if !self.audit.range.contains(acceptance.accepted_at) {
            self.report.outside += 1;
            return false;
        }
        let fresh = self.window.admits(acceptance);
        if !fresh {
            self.report.repeated += 1;
        }
        fresh
    }

    /// The queues first, then the database once more.
    async fn judge_suspects(&mut self) -> Result<(), AuditError> {
        let suspects = std::mem::take(&mut self.suspects);
        let oldest_excused = Timestamp::now().saturating_sub(self.audit.grace).unwrap_or(Timestamp::MIN);
        let is_old = |suspect: &Acceptance| suspect.accepted_at < oldest_excused;
        let are_empty = suspects.iter().any(is_old) && !self.stop.is_cancelled() && self.look().await?;
        for batch in suspects.chunks(BATCH) {
            let standings = self.ask(batch).await?;
            for (suspect, standing) in batch.iter().zip(standings) {
                let class = match standing {
                    Standing::Unknown if are_empty && is_old(suspect) => Class::Unaccounted,
                    Standing::OtherBody if are_empty && is_old(suspect) => Class::Wrong,
                    Standing::Unknown | Standing::OtherBody => Class::NotSeenYet,
                    seen => {
                        self.count(suspect, &seen)?;
                        continue;
                    }
                };
                self.found(&Finding::new(suspect, class))?;
            }
        }
        self.republisher.publish(self.stop).await
    }

    /// Whether every queue was seen empty.
    async fn look(&mut self) -> Result<bool, AuditError> {
        let Audit { broker, topology, patience, .. } = self.audit;
        let watcher = &mut *self.watcher;
        let seen = look::look(broker, topology, *patience, self.stop, |queues| watcher.waiting(queues)).await;
        let seen = seen.map_err(AuditError::Queues)?;
        let are_empty = seen.waiting.is_empty();
        self.report.looked(seen);
        Ok(are_empty)
    }

    fn count(&mut self, acceptance: &Acceptance, standing: &Standing) -> Result<(), AuditError> {
        if let Standing::Ended(end) = standing {
            self.republisher.add(&acceptance.order_id, end);
        }
        self.found(&Finding::of(acceptance, standing))
    }

    fn found(&mut self, finding: &Finding) -> Result<(), AuditError> {
        self.report.count(finding);
        self.watcher.found(finding).map_err(AuditError::Show)
    }

    async fn ask(&self, acceptances: &[Acceptance]) -> Result<Vec<Standing>, AuditError> {
        let asked: Vec<(&OrderId, &Fingerprint)> =
            acceptances.iter().map(|acceptance| (&acceptance.order_id, &acceptance.fp)).collect();
        let answer = patiently(async || self.audit.store.standings(&asked).await).await;
        answer.map_err(AuditError::Store)
    }
}

/// Asks again where there is no answer: an audit of many lines should outlive an election.
async fn patiently<T, E: std::fmt::Display>(ask: impl AsyncFn() -> Result<T, E>) -> Result<T, E> {
    for pause_s in PAUSES_S {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) => tracing::warn!(%error, "asking again"),
        }
        sleep(Duration::from_secs(pause_s)).await;
    }
    ask().await
}
