//! The sweeper: brings orders back that owe a publish, or whose wait is long over, as messages in `orders.retry`.
//!
//! It never claims an order and never changes a phase; the worker that gets the message does. Any number of workers may
//! sweep: a second message about an order costs a claim and has no effect.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use orderfleet_domain::{
    Command, CommandKind,
    saga::{Lane, Millis, Tier},
};
use orderfleet_messaging::{Destination, Headers, Outgoing, Publisher};
use orderfleet_runtime::crash;
use orderfleet_storage::{Overdue, Store, WorkedQueue};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::pauses::Pauses;

/// Orders brought back by one sweep.
const SWEEP_MAX: u32 = 500;
/// Of those, at once.
const AT_ONCE: usize = 32;
/// With more messages than this waiting in `orders.retry`, a sweep would only add to them.
const RETRY_DEPTH_MAX: u32 = 10_000;
/// Where orders come back after a wait.
const LANES: [WorkedQueue; 4] =
    [WorkedQueue::Retry, WorkedQueue::Replay, WorkedQueue::Compensate, WorkedQueue::Quarantine];

pub(crate) struct Sweeper {
    store: Store,
    publisher: Publisher,
    pauses: Arc<Pauses>,
    every: Duration,
    /// When one of the lanes was last seen paused.
    paused_at: Option<Instant>,
    /// Whether it was said that not all who are late are brought back.
    is_narrowed: bool,
}

impl Sweeper {
    pub(crate) fn new(store: Store, publisher: Publisher, pauses: Arc<Pauses>, every: Duration) -> Self {
        Self { store, publisher, pauses, every, paused_at: None, is_narrowed: false }
    }

    /// Sweeps until the token is cancelled. Trouble ends a sweep, not the sweeper.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut every = tokio::time::interval(self.every);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = every.tick() => {}
                () = shutdown.cancelled() => return,
            }
            match self.sweep().await {
                // There may be more: after an alarm, every order that ended meanwhile owes its event.
                Ok(found) if found == SWEEP_MAX => every.reset_immediately(),
                Ok(_) => {}
                Err(error) => tracing::warn!(error = format!("{error:#}"), "a sweep ended early"),
            }
        }
    }

    /// How many orders it brought back.
    async fn sweep(&mut self) -> anyhow::Result<u32> {
        if LANES.iter().any(|queue| self.pauses.stops(queue)) {
            self.paused_at = Some(Instant::now());
        }
        self.tell_of_narrowing();
        // While nobody takes from `orders.retry` a sweep would only add to it.
        if self.pauses.stops(&WorkedQueue::Retry)
            || self.publisher.depth(&Lane::Retry).await? > RETRY_DEPTH_MAX
        {
            return Ok(0);
        }
        // By no worker's clock: one that is fast would put orders aside for longer than anybody else waits.
        let now = self.store.time().await?;
        let overdue = if self.knows_who_is_late() {
            self.store.overdue(now, SWEEP_MAX).await?
        } else {
            self.store.owing(now, SWEEP_MAX).await?
        };
        let found = u32::try_from(overdue.len())?;
        let this = &*self;
        let bringing_back = stream::iter(overdue).map(|overdue| this.bring_back(overdue, now));
        bringing_back.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        metrics::counter!("orderfleet_orders_swept_total").increment(u64::from(found));
        if found > 0 {
            tracing::info!(swept = found, "orders brought back");
        }
        Ok(found)
    }

    /// An order whose wait is long over may only be waiting behind a pause of its lane, or in the queue that is being worked off
    /// since. To bring it back by `orders.retry` would lead it around the pause.
    fn knows_who_is_late(&self) -> bool {
        let longest = Duration::from_millis(Tier::H1.millis().unsigned_abs());
        self.paused_at.is_none_or(|at| at.elapsed() > longest)
    }

    /// Once for each change.
    fn tell_of_narrowing(&mut self) {
        let is_narrowed = !self.knows_who_is_late();
        match (self.is_narrowed, is_narrowed) {
            (false, true) => tracing::info!(
                "orders that are long overdue are not brought back while a lane is paused and for an hour more"
            ),
            (true, false) => tracing::info!("orders that are long overdue are brought back again"),
            _ => {}
        }
        self.is_narrowed = is_narrowed;
    }

    /// One order. A worker that is killed before it is put aside leaves it for the next sweep, and a message too many.
    async fn bring_back(&self, overdue: Overdue, now: Millis) -> anyhow::Result<()> {
        crash::around("sweep.publish", self.publisher.publish(&resume(&overdue))).await?;
        self.store.postpone(&overdue, now).await?;
        crash::point("sweep.postpone.after");
        Ok(())
    }
}

fn resume(overdue: &Overdue) -> Outgoing {
    let command = Command {
        order_id: overdue.order_id.clone(),
        account: overdue.account.clone(),
        generation: overdue.generation,
        fp: Some(overdue.fp.clone()),
        kind: CommandKind::Resume {},
    };
    Outgoing {
        destination: Destination::Lane(Lane::Retry),
        headers: Headers::new(command.kind.as_str())
            .message_id(overdue.order_id.as_str())
            .order(&overdue.order_id, &overdue.account)
            .traceparent(overdue.traceparent.as_deref())
            .new_trace(),
        body: command.encode().into(),
    }
}
