//! Performs the effects the saga core names for one delivery, one after the other, until the ack.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use orderfleet_domain::{
    Command, CommandKind, DecodeError, Order,
    saga::{
        CallOutcome, DeadLetterQueue, Delivered, Effect, Ending, Handling, Input, Moment, Nonce, Phase,
        Policy, Publication, StoreReply, Tier, Verb, WorkerId, body_id,
    },
};
use orderfleet_messaging::{Delays, Delivery, Destination, Outgoing, Publisher};
use orderfleet_storage::Store;
use tokio_util::sync::CancellationToken;

use crate::{
    downstream::{Call, Downstreams},
    messages::message,
    record_since,
};

const FIRST_REPEAT: Duration = Duration::from_millis(50);
const LONGEST_REPEAT: Duration = Duration::from_secs(2);

/// What all deliveries of a worker share.
#[derive(Debug)]
pub(crate) struct Driver {
    store: Store,
    publisher: Publisher,
    downstreams: Downstreams,
    policy: Policy,
    worker: WorkerId,
    draining: CancellationToken,
    handled: AtomicU64,
}

/// One delivery's way: the core, what it works on, and the pace of its repeats.
struct Way<'a> {
    driver: &'a Driver,
    delivery: &'a Delivery,
    handling: Handling,
    /// The stored order, known from the claim on; before that the message's own.
    order: Option<Order>,
    repeats: Delays,
}

impl Driver {
    pub(crate) fn new(
        store: Store,
        publisher: Publisher,
        downstreams: Downstreams,
        policy: Policy,
        worker: WorkerId,
        draining: CancellationToken,
    ) -> Self {
        Self { store, publisher, downstreams, policy, worker, draining, handled: AtomicU64::new(0) }
    }

    /// Handles a delivery up to its ack. Trouble with the database or the broker never gives a delivery back: the step
    /// in question is repeated, and the deliveries in hand are the brake on the queue.
    pub(crate) async fn handle(&self, delivery: Delivery) {
        let started = Instant::now();
        let in_flight = metrics::gauge!("orderfleet_deliveries_in_flight");
        in_flight.increment(1);
        let lane = lane_label(&delivery);
        let ending = match Command::decode(&delivery.body) {
            Ok(command) => self.work(&delivery, command).await,
            Err(DecodeError::Newer(version)) => {
                tracing::warn!(schema.version = version, "a newer build's message waits for a newer build");
                self.set_aside(&delivery).await
            }
            Err(DecodeError::Malformed(reason)) => self.park_poison(&delivery, &reason).await,
        };
        delivery.ack().await;
        in_flight.decrement(1);
        metrics::counter!("orderfleet_deliveries_total", "lane" => lane, "ending" => ending.as_str())
            .increment(1);
        record_since("orderfleet_handling_seconds", vec![metrics::Label::new("lane", lane)], started);
    }

    async fn work(&self, delivery: &Delivery, command: Command) -> Ending {
        let delivered = Delivered { command, redelivered: delivery.redelivered, lane: delivery.lane.clone() };
        // A lease is one delivery's: a second message about an order must not fence the first just for being in the same
        // process.
        let handled = self.handled.fetch_add(1, Ordering::Relaxed);
        let handling = Handling::new(delivered, WorkerId(format!("{}-{handled}", self.worker.0)));
        let repeats = Delays::new(FIRST_REPEAT, LONGEST_REPEAT);
        Way { driver: self, delivery, handling, order: None, repeats }.walk().await
    }

    async fn set_aside(&self, delivery: &Delivery) -> Ending {
        let outgoing = Outgoing {
            destination: Destination::Wait(Tier::M2, delivery.lane.re_entry()),
            headers: delivery.all_headers.clone(),
            body: delivery.body.clone(),
        };
        self.publish_until_confirmed(&outgoing).await;
        Ending::Deferred
    }

    async fn park_poison(&self, delivery: &Delivery, reason: &str) -> Ending {
        let id = body_id(&delivery.body);
        tracing::warn!(
            reason,
            dead_letter.id = id,
            bytes = delivery.body.len(),
            "a message that cannot be worked with is parked"
        );
        let outgoing = Outgoing {
            destination: Destination::DeadLetter(DeadLetterQueue::Poison),
            headers: delivery.headers.clone().message_id(&id).dead_letter_id(&id).reason(reason),
            body: delivery.body.clone(),
        };
        self.publish_until_confirmed(&outgoing).await;
        Ending::Poison
    }

    async fn publish_until_confirmed(&self, outgoing: &Outgoing) {
        let mut delays = Delays::new(FIRST_REPEAT, LONGEST_REPEAT);
        while let Err(error) = self.publisher.publish(outgoing).await {
            tracing::warn!(%error, "publishing again");
            tokio::time::sleep(delays.next_delay()).await;
        }
    }

    fn moment(&self) -> Moment {
        let mut nonce = [0; 16];
        if let Err(error) = getrandom::fill(&mut nonce) {
            // A nonce must not repeat; without randomness a worker cannot tell its writes from others'.
            tracing::error!(%error, "no randomness from the operating system");
            std::process::abort();
        }
        Moment {
            now: Timestamp::now().as_millisecond(),
            nonce: Nonce(u128::from_be_bytes(nonce)),
            blocked: self.publisher.is_blocked(),
            draining: self.draining.is_cancelled(),
        }
    }
}

impl Way<'_> {
    async fn walk(mut self) -> Ending {
        let mut input = Input::Delivered;
        loop {
            let effect = self.handling.on(&self.driver.policy, &self.driver.moment(), input);
            if let Effect::Ack(ending) = effect {
                self.log(ending);
                return ending;
            }
            input = self.perform(effect).await;
            match input {
                Input::Store(StoreReply::Unknown) | Input::NotConfirmed => {
                    tokio::time::sleep(self.repeats.next_delay()).await;
                }
                _ => self.repeats.reset(),
            }
        }
    }

    async fn perform(&mut self, effect: Effect) -> Input {
        let store = &self.driver.store;
        let order_id = self.handling.order_id().clone();
        match effect {
            Effect::Insert(record) => {
                let command = &self.handling.delivered().command;
                let CommandKind::Place { order, accepted_at } = &command.kind else {
                    return Input::Store(StoreReply::Refused("only a posted order can be inserted".into()));
                };
                Input::Store(store.insert(&order_id, &command.account, order, *accepted_at, &record).await)
            }
            Effect::Claim(claim) => {
                let (reply, order) = store.claim(&order_id, &claim).await;
                self.order = order.or(self.order.take());
                Input::Store(reply)
            }
            Effect::Read => Input::Store(store.read(&order_id).await),
            Effect::Write(write) => Input::Store(store.write(&order_id, &write).await),
            Effect::Note(note) => Input::Store(store.note(&order_id, &note).await),
            Effect::Call { step, verb, quick_retry } => self.call(step, verb, quick_retry).await,
            Effect::Publish(publications) => self.publish(&publications).await,
            Effect::Ack(_) => Input::Confirmed,
        }
    }

    async fn call(&mut self, step: u32, verb: Verb, quick_retry: u32) -> Input {
        if quick_retry > 0 {
            tokio::time::sleep(self.repeats.next_delay()).await;
        }
        let command = &self.handling.delivered().command;
        let posted = match &command.kind {
            CommandKind::Place { order, .. } => Some(&**order),
            _ => None,
        };
        let (Some(record), Some(order)) = (self.handling.record(), self.order.as_ref().or(posted)) else {
            return Input::Called(CallOutcome::NotSent { what: "the order is not at hand".into() });
        };
        let step = record.step(step);
        let call = Call {
            order_id: &command.order_id,
            account: &command.account,
            order,
            record,
            step,
            verb,
            traceparent: self.delivery.headers.get("traceparent"),
        };
        let started = Instant::now();
        let outcome = self.driver.downstreams.call(&call).await;
        let labels = vec![
            metrics::Label::new("step", step.to_string()),
            metrics::Label::new("verb", verb.as_str()),
            metrics::Label::new("outcome", outcome_label(&outcome)),
        ];
        record_since("orderfleet_step_seconds", labels, started);
        Input::Called(outcome)
    }

    /// Publishes all of them, also after one that is not confirmed: a subscriber that takes no events must not keep a dead
    /// letter from being parked.
    async fn publish(&self, publications: &[Publication]) -> Input {
        let mut result = Input::Confirmed;
        for publication in publications {
            let outgoing = message(self.delivery, self.handling.delivered(), publication);
            if let Err(error) = self.driver.publisher.publish(&outgoing).await {
                tracing::warn!(%error, order.id = %self.handling.order_id(), "not confirmed");
                result = Input::NotConfirmed;
            }
        }
        result
    }

    fn log(&self, ending: Ending) {
        let order_id = self.handling.order_id();
        self.alarm();
        match ending {
            Ending::Finished => tracing::debug!(order.id = %order_id, "finished"),
            other => tracing::info!(order.id = %order_id, ending = other.as_str(), "delivery handled"),
        }
    }
}

impl Way<'_> {
    /// An undo is tried without end, but not in silence.
    fn alarm(&self) {
        let Some(record) = self.handling.record().filter(|record| record.phase == Phase::Comp) else {
            return;
        };
        let step = record.step(record.cur);
        if self.driver.policy.step(step).is_some_and(|settings| record.att >= settings.attempts_max) {
            metrics::counter!("orderfleet_undo_alarms_total", "step" => step.to_string()).increment(1);
            tracing::error!(order.id = %self.handling.order_id(), saga.step = %step, attempts = record.att, "an undo keeps failing");
        }
    }
}

fn lane_label(delivery: &Delivery) -> &'static str {
    use orderfleet_domain::saga::Lane;
    match delivery.lane {
        Lane::New(_) => "new",
        Lane::Retry => "retry",
        Lane::Replay => "replay",
        Lane::Compensate(_) => "compensate",
        Lane::Quarantine => "quarantine",
    }
}

fn outcome_label(outcome: &CallOutcome) -> &'static str {
    match outcome {
        CallOutcome::Success { .. } => "success",
        CallOutcome::Refused { .. } => "refused",
        CallOutcome::Cancelled => "cancelled",
        CallOutcome::Unknown { .. } => "unknown",
        CallOutcome::NotSent { .. } => "not_sent",
    }
}
