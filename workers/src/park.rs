//! The role `park`: takes dead letters from their queues into the database, where people find and replay them.
//!
//! A dead letter is acked once it is stored and its order, if it has one to hold, is held. A worker that is killed leaves
//! it in its queue or in the database or in both; it comes again, and its document counts that. What only a newer build can
//! judge waits for one.

mod care;
mod diagnosis;
mod holding;
mod letter;

use std::{sync::Arc, time::Duration};

use orderfleet_domain::{
    Command, DecodeError, OrderId,
    saga::{DeadLetterQueue, Policy, Tier},
};
use orderfleet_messaging::{Control, Delays, Delivery, Destination, Outgoing, Publisher, Subscription};
use orderfleet_runtime::crash;
use orderfleet_storage::{DeadLetter, OrderView, Store, StoreError};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    driver::now,
    hold::Crashed,
    panics::{PARKING_PANICKED, answered},
};
use care::Wait;
use letter::Arrival;

/// Unacked dead letters per queue: few, and yet enough that those that wait for a lease leave room for others.
const PREFETCH: u16 = 32;
const FIRST_REPEAT: Duration = Duration::from_millis(100);
const LONGEST_REPEAT: Duration = Duration::from_secs(10);
/// How long a dead letter waits between two looks at an order that cannot be seen to yet.
const LATER: Tier = Tier::M2;

/// Parks dead letters.
#[derive(Debug)]
pub(crate) struct Parker {
    store: Store,
    policy: Policy,
    draining: CancellationToken,
    /// Dead letters that may have ended a worker are read in turn, so that one that ends the process is not counted against
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
    /// Workers were gone while they read it, perhaps through no fault of its own.
    WorkersEnded(Wait),
}

impl Why {
    fn tier(self) -> Tier {
        match self {
            Self::NewerBuild | Self::Refused => LATER,
            Self::WorkersEnded(wait) => wait.tier,
        }
    }
}

/// What reading a dead letter came to.
enum Read {
    /// It is stored, with the command in it, if it is one.
    Stored(Box<DeadLetter>, Option<Box<Command>>),
    /// It is not read; it is stored as it came.
    Unread,
    /// A newer build wrote it. It is not stored: its id is for whoever can read it to say.
    Newer,
    /// It is neither read nor stored yet.
    NotNow(Wait),
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
        let in_flight = metrics::gauge!("orderfleet_deliveries_in_flight");
        in_flight.increment(1);
        self.park_and_ack(delivery, publisher).await;
        in_flight.decrement(1);
    }

    async fn park_and_ack(&self, delivery: Delivery<DeadLetterQueue>, publisher: &Publisher) {
        let arrival = Arrival::from(&delivery);
        let parking = async {
            match self.park(&arrival).await? {
                Parked::Done => Ok(()),
                Parked::Later(why) => self.set_aside(&delivery, publisher, why).await,
            }
        };
        match answered(parking, |place| self.store_unread(&arrival, place)).await {
            Ok(Ok(())) => crash::around("park.ack", async { delivery.ack() }).await,
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
        self.leave_unread(&unread).await?;
        // No worker has ended over it.
        self.until_stored(letter, || self.store.end_readings(&unread)).await
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
        let headers = delivery.all_headers.clone();
        let outgoing = Outgoing {
            destination: Destination::WaitDead(why.tier(), delivery.lane.clone()),
            headers: if matches!(why, Why::WorkersEnded(_)) { headers.suspected() } else { headers },
            body: delivery.body.clone(),
        };
        let mut delays = Delays::new(FIRST_REPEAT, LONGEST_REPEAT);
        while let Err(error) = publisher.publish(&outgoing).await {
            tracing::warn!(%error, "publishing again");
            self.pause(delays.next_delay()).await?;
        }
        match why {
            Why::WorkersEnded(wait) => self.note_wait(&Arrival::from(delivery), wait).await,
            Why::NewerBuild | Why::Refused => Ok(()),
        }
    }

    async fn park(&self, arrival: &Arrival<'_>) -> Result<Parked, ShuttingDown> {
        let read = match arrival.is_suspect {
            false => self.store_read(arrival.read()).await?,
            true => self.read_with_care(arrival).await?,
        };
        match read {
            Read::Stored(letter, Some(command)) if letter.queue == DeadLetterQueue::Poison => {
                self.see_to_order(&Crashed { command: &command, reason: &letter.reason }).await
            }
            Read::Stored(..) | Read::Unread => Ok(Parked::Done),
            Read::Newer => Ok(Parked::Later(Why::NewerBuild)),
            Read::NotNow(wait) => Ok(Parked::Later(Why::WorkersEnded(wait))),
        }
    }

    async fn store_read(
        &self,
        (mut letter, command): (DeadLetter, Result<Command, DecodeError>),
    ) -> Result<Read, ShuttingDown> {
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
        Subscription { lane, prefetch: PREFETCH, permits, control: Control::default() }
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
