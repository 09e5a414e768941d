//! The role `park`: takes dead letters from their queues into the database, where people find and replay them.
//!
//! A dead letter is acked once it is stored and its order, if it has one to hold, is held. A worker that is killed leaves
//! it in its queue or in the database or in both; it comes again, and its document counts that. What only a newer build can
//! judge waits for one.

mod diagnosis;
mod holding;
mod letter;

use std::{sync::Arc, time::Duration};

use orderfleet_domain::{
    Command, DecodeError, OrderId,
    saga::{DeadLetterQueue, Nonce, Policy, Tier},
};
use orderfleet_messaging::{Delays, Delivery, Destination, Outgoing, Publisher, Subscription};
use orderfleet_runtime::crash;
use orderfleet_storage::{DeadLetter, OrderView, Store, StoreError, Unread};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    driver::{fresh_nonce, now},
    hold::Crashed,
    panics::{PARKING_PANICKED, answered},
};
use letter::{Arrival, WORKERS_ENDED};

/// Unacked dead letters per queue: few, and yet enough that those that wait for a lease leave room for others.
const PREFETCH: u16 = 32;
const FIRST_REPEAT: Duration = Duration::from_millis(100);
const LONGEST_REPEAT: Duration = Duration::from_secs(10);
/// How often a dead letter that was delivered before is read: after so many workers that were gone over it, it is not.
const READINGS_MAX: usize = 3;
/// Longest try of a worker that shuts down to take its reading back.
const TAKE_BACK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a dead letter waits between two looks at an order that cannot be seen to yet.
const LATER: Tier = Tier::M2;

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

/// What became of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parked {
    /// It is stored, and its order is seen to.
    Done,
    /// Its order cannot be seen to yet: it has to come again.
    Later(Why),
}

/// Why an order cannot be seen to yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The dead letter, or the document of its order, is of a newer version: only a newer build can.
    NewerBuild,
    /// The database refuses the change: too large, or against its rules.
    Refused,
}

/// What reading a dead letter came to.
enum Read {
    /// It is stored, with the command in it, if it is one.
    Stored(Box<DeadLetter>, Option<Box<Command>>),
    /// It is not read; it is stored as it came.
    Unread,
    /// A newer build wrote it. It is not stored: its id is for whoever can read it to say.
    Newer,
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
    pub(crate) async fn handle(&self, delivery: Delivery<DeadLetterQueue>, publisher: &Publisher) {
        let arrival = Arrival::from(&delivery);
        let parking = async {
            match self.park(&arrival).await? {
                Parked::Done => Ok(()),
                Parked::Later(why) => self.set_aside(&delivery, publisher, why).await,
            }
        };
        match answered(parking, |place| self.store_unread(&arrival, place)).await {
            Ok(Ok(())) => crash::around("park.ack", delivery.ack()).await,
            Ok(Err(ShuttingDown)) => delivery.give_back().await,
            Err(place) => {
                tracing::error!(
                    panic.place = place,
                    "answering for a panic panicked; the dead letter is given back"
                );
                // Its queue has no delivery limit worth the name.
                let _ = self.pause(LONGEST_REPEAT).await;
                delivery.give_back().await;
            }
        }
    }

    /// Parking it panicked: the dead letter is stored unread, and no order is held.
    async fn store_unread(&self, arrival: &Arrival<'_>, place: String) -> Result<(), ShuttingDown> {
        let unread = arrival.unread(&format!("{PARKING_PANICKED} at {place}"));
        let letter = &unread.letter;
        let lane = format!("dead.{}", queue_label(arrival.queue));
        metrics::counter!("orderfleet_panics_total", "lane" => lane).increment(1);
        tracing::error!(panic.place = place, dead_letter.id = letter.id, "parking a dead letter panicked");
        let reading = fresh_nonce();
        self.until_stored(letter, || self.store.park_unread(&unread, reading, now())).await?;
        count(letter, "unread");
        Ok(())
    }

    /// Puts a copy of the dead letter, with everything that newer builds know of it, into a wait from which it comes back
    /// into its queue.
    async fn set_aside(
        &self,
        delivery: &Delivery<DeadLetterQueue>,
        publisher: &Publisher,
        why: Why,
    ) -> Result<(), ShuttingDown> {
        if why == Why::NewerBuild {
            let lane = format!("dead.{}", queue_label(&delivery.lane));
            metrics::counter!("orderfleet_newer_messages_total", "lane" => lane).increment(1);
        }
        tracing::warn!(
            order.id = delivery.headers.order_id().as_ref().map(OrderId::as_str),
            ?why,
            "a dead letter waits"
        );
        let outgoing = Outgoing {
            destination: Destination::WaitDead(LATER, delivery.lane.clone()),
            headers: delivery.all_headers.clone(),
            body: delivery.body.clone(),
        };
        let mut delays = Delays::new(FIRST_REPEAT, LONGEST_REPEAT);
        while let Err(error) = publisher.publish(&outgoing).await {
            tracing::warn!(%error, "publishing again");
            self.pause(delays.next_delay()).await?;
        }
        Ok(())
    }

    async fn park(&self, arrival: &Arrival<'_>) -> Result<Parked, ShuttingDown> {
        let read = match arrival.redelivered {
            false => self.read_and_store(arrival).await?,
            true => self.read_with_care(arrival).await?,
        };
        match read {
            Read::Stored(letter, Some(command)) if letter.queue == DeadLetterQueue::Poison => {
                self.see_to_order(&Crashed { command: &command, reason: &letter.reason }).await
            }
            Read::Stored(..) | Read::Unread => Ok(Parked::Done),
            Read::Newer => Ok(Parked::Later(Why::NewerBuild)),
        }
    }

    /// Reads and stores a dead letter that was delivered before, unless too many workers were gone over it: then it stays as
    /// it was stored before it was read.
    async fn read_with_care(&self, arrival: &Arrival<'_>) -> Result<Read, ShuttingDown> {
        let (unread, reading) = (arrival.unread(WORKERS_ENDED), fresh_nonce());
        let read = self.read_in_turn(arrival, &unread, reading).await;
        if read.is_err() {
            self.take_back(&unread, reading).await;
        }
        read
    }

    async fn read_in_turn(
        &self,
        arrival: &Arrival<'_>,
        unread: &Unread,
        reading: Nonce,
    ) -> Result<Read, ShuttingDown> {
        // The turn is over with a try that fails: what the database never takes must not keep others from theirs.
        let try_in_turn = async || {
            let turn = self.turn.lock().await;
            let parking = self.store.park_unread(unread, reading, now());
            let readings = crash::around("park.store_unread", parking).await?;
            Ok((turn, readings))
        };
        let (_turn, readings) = self.until_stored(&unread.letter, try_in_turn).await?;
        if readings > READINGS_MAX {
            tracing::error!(
                dead_letter.id = unread.letter.id,
                order.id = unread.order_id.as_ref().map(OrderId::as_str),
                readings,
                "a dead letter ends workers and is not read"
            );
            count(&unread.letter, "unread");
            return Ok(Read::Unread);
        }
        let read = self.read_and_store(arrival).await?;
        let removing = || crash::around("park.remove_unread", self.store.remove_unread(unread));
        self.until_stored(&unread.letter, removing).await?;
        Ok(read)
    }

    /// This worker shuts down in order and has not ended over the letter. Should the database stay away for as long as this
    /// tries, the letter is left with one reading of three that was none.
    async fn take_back(&self, unread: &Unread, reading: Nonce) {
        let mut delays = Delays::new(FIRST_REPEAT, LONGEST_REPEAT);
        let taking_back = async {
            while self.store.take_reading_back(unread, reading).await.is_err() {
                tokio::time::sleep(delays.next_delay()).await;
            }
        };
        if tokio::time::timeout(TAKE_BACK_TIMEOUT, taking_back).await.is_err() {
            tracing::warn!(dead_letter.id = unread.letter.id, "a reading could not be taken back");
        }
    }

    async fn read_and_store(&self, arrival: &Arrival<'_>) -> Result<Read, ShuttingDown> {
        let (mut letter, command) = arrival.read();
        // In the other queues there is nothing to see to: their orders' documents say how they stand.
        if letter.queue == DeadLetterQueue::Poison && matches!(command, Err(DecodeError::Newer(_))) {
            return Ok(Read::Newer);
        }
        let order = self.until_stored(&letter, || self.order_of(&letter)).await?;
        if let Some(order) = order {
            diagnosis::add_order(&mut letter, &order);
        }
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
        Ok(Read::Stored(Box::new(letter), command.ok().map(Box::new)))
    }

    /// The order that the letter is about. A document that cannot be read tells nothing.
    async fn order_of(&self, letter: &DeadLetter) -> Result<Option<OrderView>, StoreError> {
        let Some(subject) = &letter.subject else { return Ok(None) };
        match self.store.find_for_account(&subject.order_id, &subject.account).await {
            Err(StoreError::Unreadable { .. }) => Ok(None),
            found => found,
        }
    }

    /// Does what a letter needs of the database, and again until it is answered.
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
