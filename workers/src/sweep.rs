//! The sweeper: brings orders back that owe a publish, or whose wait is long over, as messages in `orders.retry`.
//!
//! It never claims an order and never changes a phase; the worker that gets the message does. Any number of workers may
//! sweep: a second message about an order costs a claim and has no effect.

use std::time::Duration;

use orderfleet_domain::{Command, CommandKind, saga::Lane};
use orderfleet_messaging::{Destination, Headers, Outgoing, Publisher};
use orderfleet_runtime::crash;
use orderfleet_storage::{Overdue, Store};
use tokio_util::sync::CancellationToken;

use crate::driver::now;

/// Orders brought back by one sweep.
const SWEEP_MAX: u32 = 500;
/// With more messages than this waiting in `orders.retry`, a sweep would only add to them.
const RETRY_DEPTH_MAX: u32 = 10_000;

pub(crate) struct Sweeper {
    store: Store,
    publisher: Publisher,
    every: Duration,
}

impl Sweeper {
    pub(crate) fn new(store: Store, publisher: Publisher, every: Duration) -> Self {
        Self { store, publisher, every }
    }

    /// Sweeps until the token is cancelled. Trouble ends a sweep, not the sweeper.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut every = tokio::time::interval(self.every);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = every.tick() => {}
                () = shutdown.cancelled() => return,
            }
            match self.sweep().await {
                Ok(0) => {}
                Ok(swept) => {
                    tracing::info!(swept, "orders brought back");
                    // There may be more: after an alarm, every order that ended meanwhile owes its event.
                    if swept == SWEEP_MAX {
                        every.reset_immediately();
                    }
                }
                Err(error) => tracing::warn!(error = format!("{error:#}"), "a sweep ended early"),
            }
        }
    }

    async fn sweep(&self) -> anyhow::Result<u32> {
        if self.publisher.depth(&Lane::Retry).await? > RETRY_DEPTH_MAX {
            return Ok(0);
        }
        let now = now();
        let mut swept = 0;
        for overdue in self.store.overdue(now, SWEEP_MAX).await? {
            crash::around("sweep.publish", self.publisher.publish(&resume(&overdue))).await?;
            self.store.postpone(&overdue, now).await?;
            crash::point("sweep.postpone.after");
            swept += 1;
        }
        metrics::counter!("orderfleet_orders_swept_total").increment(u64::from(swept));
        Ok(swept)
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
        headers: Headers::new(command.kind.as_str()).message_id(overdue.order_id.as_str()),
        body: command.encode().into(),
    }
}
