//! Terminal events, published once more: for a subscriber that has lost some.

use std::{
    future::ready,
    mem,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use orderfleet_domain::{
    OrderId,
    saga::{Event, EventType, event_id},
};
use orderfleet_messaging::{Outgoing, Publisher};
use orderfleet_storage::{RunEnd, Store};
use serde::Serialize;
use tokio::{
    sync::Mutex,
    time::{Interval, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{AuditError, Progress, Range, patiently};
use crate::{
    Operator,
    log::{Act, ActId, OperatorLog},
};

/// Events without a confirm at once.
const UNCONFIRMED_MAX: usize = 16;

/// What is done about the terminal events of the orders that have ended.
#[derive(Debug)]
pub enum Events {
    /// Nothing.
    Leave,
    /// They are counted.
    Count,
    /// They are published, with the ids they had the first time; each order's event is that of its last run.
    Publish(Republishing),
}

/// How they are published.
#[derive(Debug)]
pub struct Republishing {
    /// By whom.
    pub publisher: Publisher,
    /// How many a second; at least 1.
    pub rate: u32,
    /// Who asks for it.
    pub who: Operator,
    /// Why; recorded in the operator log.
    pub why: String,
}

/// Terminal events of the audited orders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct EventCounts {
    /// `order.completed`
    pub completed: u64,
    /// `order.cancelled`
    pub cancelled: u64,
    /// `order.failed`
    pub failed: u64,
    /// Those of all that were published and confirmed.
    pub published: u64,
}

/// Collects and publishes events.
pub(super) struct Republisher<'a> {
    events: &'a Events,
    work: Option<Work<'a>>,
    due: Vec<(OrderId, RunEnd)>,
    counts: EventCounts,
    progress: Arc<Progress>,
}

struct Work<'a> {
    publisher: &'a Publisher,
    pace: Mutex<Interval>,
    log: OperatorLog,
    act: ActId,
}

impl<'a> Republisher<'a> {
    /// Records that events are going to be published, where they are.
    pub(super) async fn begin(
        events: &'a Events,
        store: &Store,
        range: Range,
        progress: Arc<Progress>,
    ) -> Result<Self, AuditError> {
        let work = match events {
            Events::Leave | Events::Count => None,
            Events::Publish(republishing) => Some(Work::begin(republishing, store, range).await?),
        };
        Ok(Self { events, work, due: Vec::new(), counts: EventCounts::default(), progress })
    }

    pub(super) fn add(&mut self, order_id: &OrderId, end: &RunEnd) {
        let counts = &mut self.counts;
        match EventType::of_end(end.phase, end.is_final) {
            EventType::Completed => counts.completed += 1,
            EventType::Cancelled => counts.cancelled += 1,
            EventType::Failed => counts.failed += 1,
        }
        if self.work.is_some() {
            self.due.push((order_id.clone(), end.clone()));
        }
    }

    /// Publishes what was added, until it is stopped.
    pub(super) async fn publish(&mut self, stop: &CancellationToken) -> Result<(), AuditError> {
        let due = mem::take(&mut self.due);
        let Some(work) = &self.work else { return Ok(()) };
        let due = stream::iter(due).take_while(|_| ready(!stop.is_cancelled()));
        let mut published =
            due.map(|(order_id, end)| work.publish(order_id, end)).buffer_unordered(UNCONFIRMED_MAX);
        while let Some(outcome) = published.next().await {
            outcome?;
            self.counts.published += 1;
            self.progress.published.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Records what came of it.
    pub(super) async fn end(self, is_whole: bool) -> Result<Option<EventCounts>, AuditError> {
        if let Some(Work { log, act, .. }) = &self.work {
            let EventCounts { completed, cancelled, failed, published } = self.counts;
            let failure = if is_whole { "" } else { "; ended by an error" };
            let result = format!(
                "published {published} of {} events: {completed} completed, {cancelled} cancelled, {failed} failed{failure}",
                completed + cancelled + failed
            );
            log.end(act, &result).await?;
        }
        Ok((!matches!(self.events, Events::Leave)).then_some(self.counts))
    }
}

impl<'a> Work<'a> {
    async fn begin(republishing: &'a Republishing, store: &Store, range: Range) -> Result<Self, AuditError> {
        let Republishing { publisher, rate, who, why } = republishing;
        let log = OperatorLog::new(store.clone());
        let act = Act {
            who: who.clone(),
            what: "audit.events".into(),
            why: why.clone(),
            target: range.to_string(),
        };
        let act = log.begin(&act).await?;
        let mut pace = interval(Duration::from_secs(1) / (*rate).max(1));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { publisher, pace: Mutex::new(pace), log, act })
    }

    async fn publish(&self, order_id: OrderId, end: RunEnd) -> Result<(), AuditError> {
        let event = event(&order_id, &end);
        let outgoing = Outgoing::event(&order_id, &end.account, &event, None);
        self.pace.lock().await.tick().await;
        let confirmed = patiently(async || self.publisher.publish(&outgoing).await).await;
        confirmed.map_err(|source| AuditError::Event { order_id, source })
    }
}

/// The event that a worker would publish, were the order delivered once more.
fn event(order_id: &OrderId, end: &RunEnd) -> Event {
    let event = EventType::of_end(end.phase, end.is_final);
    let RunEnd { generation, rev, .. } = *end;
    Event { id: event_id(order_id, generation, event), event, generation, seq: rev }
}
