//! The role `park`: takes dead letters from their queues into the database, where people find and replay them.
//!
//! A dead letter is acked once it is stored and its order, if it has one to hold, is held. A worker that is killed leaves
//! it in its queue or in the database or in both; it comes again, and its document counts that.

mod holding;
mod letter;

use std::{sync::Arc, time::Duration};

use orderfleet_domain::{
    Command,
    saga::{DeadLetterQueue, Policy},
};
use orderfleet_messaging::{Delays, Delivery, Subscription};
use orderfleet_runtime::crash;
use orderfleet_storage::{DeadLetter, Store, StoreError};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{driver::now, hold::Crashed, panics::caught};
use letter::Arrival;

/// Unacked dead letters per queue: few, and yet enough that those that wait for a lease leave room for others.
const PREFETCH: u16 = 32;
const FIRST_REPEAT: Duration = Duration::from_millis(100);
const LONGEST_REPEAT: Duration = Duration::from_secs(10);
/// How often a dead letter that was delivered before is read: after so many workers that were gone over it, it is not.
const READINGS_MAX: u64 = 3;
/// The reason of a dead letter that is not read any more, or not yet.
const WORKERS_ENDED: &str = "workers ended while they read it";

/// Parks dead letters.
#[derive(Debug)]
pub(crate) struct Parker {
    store: Store,
    policy: Policy,
    draining: CancellationToken,
    /// Dead letters that were delivered before are read in turn, so that one that ends the process is not counted against
    /// others.
    turn: Mutex<()>,
}

/// The process shuts down and the dead letter would have to wait.
#[derive(Debug)]
struct ShuttingDown;

impl Parker {
    pub(crate) fn new(store: Store, policy: Policy, draining: CancellationToken) -> Self {
        Self { store, policy, draining, turn: Mutex::new(()) }
    }

    /// Parks one dead letter and acks it. Trouble with the database never gives it back: the step in question is repeated.
    /// A process that shuts down finishes the step in hand; what would have to wait it gives back, for others to park.
    pub(crate) async fn handle(&self, delivery: Delivery<DeadLetterQueue>) {
        let arrival = Arrival::from(&delivery);
        match self.or_unread(&arrival, self.park(&arrival)).await {
            Ok(()) => crash::around("park.ack", delivery.ack()).await,
            Err(ShuttingDown) => delivery.give_back().await,
        }
    }

    /// What parking it came to; where it panics, the dead letter is stored unread, and no order is held.
    async fn or_unread(
        &self,
        arrival: &Arrival<'_>,
        parking: impl Future<Output = Result<(), ShuttingDown>>,
    ) -> Result<(), ShuttingDown> {
        let place = match caught(parking).await {
            Ok(parked) => return parked,
            Err(place) => place,
        };
        let letter = arrival.unread(&format!("parking it panicked at {place}"));
        let lane = format!("dead.{}", queue_label(arrival.queue));
        metrics::counter!("orderfleet_panics_total", "lane" => lane).increment(1);
        tracing::error!(panic.place = place, dead_letter.id = letter.id, "parking a dead letter panicked");
        self.until_stored(&letter, || self.store.park_unread(&letter, now())).await?;
        count(&letter, "unread");
        Ok(())
    }

    async fn park(&self, arrival: &Arrival<'_>) -> Result<(), ShuttingDown> {
        let read = match arrival.redelivered {
            false => Some(self.read_and_store(arrival).await?),
            true => self.read_with_care(arrival).await?,
        };
        if let Some((letter, Some(command))) = &read
            && letter.queue == DeadLetterQueue::Poison
        {
            self.see_to_order(&Crashed { command, reason: &letter.reason }).await?;
        }
        Ok(())
    }

    /// Reads and stores a dead letter that was delivered before, unless too many workers were gone over it: then it stays as
    /// it was stored before it was read.
    async fn read_with_care(
        &self,
        arrival: &Arrival<'_>,
    ) -> Result<Option<(DeadLetter, Option<Command>)>, ShuttingDown> {
        let unread = arrival.unread(WORKERS_ENDED);
        // The turn is over with a try that fails: what the database never takes must not keep others from theirs.
        let try_in_turn = async || {
            let turn = self.turn.lock().await;
            let readings = crash::around("park.store_unread", self.store.park_unread(&unread, now())).await?;
            Ok((turn, readings))
        };
        let (_turn, readings) = self.until_stored(&unread, try_in_turn).await?;
        if readings > READINGS_MAX {
            tracing::error!(
                dead_letter.id = unread.id,
                readings,
                "a dead letter ends workers and is not read"
            );
            count(&unread, "unread");
            return Ok(None);
        }
        let read = self.read_and_store(arrival).await?;
        self.until_stored(&unread, || crash::around("park.remove_unread", self.store.remove_unread(&unread)))
            .await?;
        Ok(Some(read))
    }

    async fn read_and_store(
        &self,
        arrival: &Arrival<'_>,
    ) -> Result<(DeadLetter, Option<Command>), ShuttingDown> {
        let (letter, command) = arrival.read();
        let is_new = self
            .until_stored(&letter, || crash::around("park.store", self.store.park(&letter, now())))
            .await?;
        let arrival = if is_new { "first" } else { "again" };
        count(&letter, arrival);
        tracing::info!(
            dead_letter.id = letter.id,
            queue = queue_label(&letter.queue),
            order.id = letter.subject.as_ref().map(|subject| subject.order_id.as_str()),
            reason = letter.reason,
            arrival,
            "parked"
        );
        Ok((letter, command))
    }

    async fn until_stored<T, F>(&self, letter: &DeadLetter, store: impl Fn() -> F) -> Result<T, ShuttingDown>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut delays = Delays::new(FIRST_REPEAT, LONGEST_REPEAT);
        loop {
            match store().await {
                Ok(stored) => return Ok(stored),
                Err(error) => {
                    metrics::counter!("orderfleet_parking_failed_total").increment(1);
                    let error = format!("{:#}", anyhow::Error::from(error));
                    let size = letter.body.len();
                    tracing::warn!(error, dead_letter.id = letter.id, size, "parking again");
                }
            }
            self.pause(delays.next_delay()).await?;
        }
    }

    async fn pause(&self, wait: Duration) -> Result<(), ShuttingDown> {
        tokio::select! {
            () = tokio::time::sleep(wait) => Ok(()),
            () = self.draining.cancelled() => Err(ShuttingDown),
        }
    }
}

/// Every dead-letter queue of the fleet.
pub(crate) fn subscriptions(policy: &Policy) -> Vec<Subscription<DeadLetterQueue>> {
    let steps = policy.step_names().into_iter().map(DeadLetterQueue::Step);
    let others = [DeadLetterQueue::Poison, DeadLetterQueue::Held, DeadLetterQueue::Conflict];
    let subscription = |lane| {
        let permits = Arc::new(Semaphore::new(PREFETCH.into()));
        Subscription { lane, prefetch: PREFETCH, permits }
    };
    steps.chain(others).map(subscription).collect()
}

fn count(letter: &DeadLetter, arrival: &'static str) {
    let queue = queue_label(&letter.queue);
    metrics::counter!("orderfleet_dead_letters_parked_total", "queue" => queue, "arrival" => arrival)
        .increment(1);
}

fn queue_label(queue: &DeadLetterQueue) -> String {
    match queue {
        DeadLetterQueue::Step(step) => step.to_string(),
        DeadLetterQueue::Poison => "poison".into(),
        DeadLetterQueue::Held => "held".into(),
        DeadLetterQueue::Conflict => "conflict".into(),
    }
}

#[cfg(test)]
mod tests;
