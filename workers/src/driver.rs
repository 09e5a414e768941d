//! Performs the effects the saga core names for one delivery, one after the other, until the ack.

mod telling;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use orderfleet_domain::{
    Command, CommandKind, DecodeError, OrderId,
    saga::{
        CallOutcome, ClaimKind, DeadLetterQueue, Delivered, Effect, Ending, Handling, Input, Lane, Millis,
        Moment, Nonce, Policy, Publication, StoreReply, Tier, Verb, WorkerId, body_id,
    },
};
use orderfleet_messaging::{Delays, Delivery, Destination, Outgoing, PublishError, Publisher};
use orderfleet_runtime::crash;
use orderfleet_storage::{AtHand, Store, WorkedQueue};
use serde_json::value::{RawValue, to_raw_value};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

pub(crate) use telling::outcome_label;

use crate::{
    downstream::{Call, Downstreams},
    load::Load,
    messages::{message, of_dead_letter},
    meters::{Meters, Written},
    panics::{self, answered, caught},
    pauses::{self, Pauses},
    trace,
};
use telling::{lane_label, waited};

const FIRST_REPEAT: Duration = Duration::from_millis(50);
const LONGEST_REPEAT: Duration = Duration::from_secs(2);

/// What all deliveries of a worker share.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) store: Store,
    pub(crate) publisher: Publisher,
    pub(crate) downstreams: Arc<Downstreams>,
    pub(crate) policy: Policy,
    pub(crate) worker: WorkerId,
    pub(crate) draining: CancellationToken,
    pub(crate) pauses: Arc<Pauses>,
    pub(crate) load: Load,
    pub(crate) meters: Meters,
    /// From 0.
    pub(crate) handled: AtomicU64,
}

/// One delivery's way: the core, what it works on, and the pace of its repeats.
struct Way<'a> {
    driver: &'a Driver,
    delivery: &'a Delivery,
    handling: Handling,
    /// The stored order, known from the claim on; before that the message's own.
    at_hand: Option<AtHand>,
    /// The order as the services get it, from the first call on.
    order: Option<Box<RawValue>>,
    /// What was seen of the last call, if its outcome is unknown.
    seen: Option<String>,
    /// The last call was not sent because somebody has paused it.
    is_paused: bool,
    /// The last deciding write, until it is known to be committed.
    written: Option<Written>,
    /// How the order has ended by this delivery.
    ended: Option<&'static str>,
    repeats: Delays,
}

impl Driver {
    /// Handles a delivery up to its ack. Trouble with the database or the broker never gives a delivery back: the step
    /// in question is repeated, and the deliveries in hand are the brake on the queue.
    pub(crate) async fn handle(&self, delivery: Delivery) {
        let started = Instant::now();
        self.meters.in_flight.increment(1);
        let lane = lane_label(&delivery);
        let work = async { self.decode_and_work(&delivery).await.as_str() };
        let answer = async |place: String| {
            self.answer_for_panic(&delivery, &place).await;
            "panicked"
        };
        let ending = match answered(work, answer).await {
            Ok(ending) => {
                // A delivery whose ack panics stays unacked, and is delivered again once its channel is gone.
                let _ = caught(crash::around("worker.ack", async { delivery.ack() })).await;
                ending
            }
            Err(place) => {
                tracing::error!(
                    panic.place = place,
                    "answering for a panic panicked; the delivery is given back"
                );
                delivery.give_back().await;
                "given_back"
            }
        };
        self.meters.in_flight.decrement(1);
        trace::delivery_ended(ending);
        self.meters.handled(lane, ending, started.elapsed());
    }

    async fn decode_and_work(&self, delivery: &Delivery) -> Ending {
        let decoded = Command::decode(&delivery.body);
        let waited = waited(delivery, decoded.as_ref().ok().map(|command| &command.kind));
        self.load.taken(&WorkedQueue::from(&delivery.lane), waited);
        self.meters.taken(lane_label(delivery), waited);
        match decoded {
            Ok(command) => self.work(delivery, by_own_clocks(command, delivery.headers.seen_first())).await,
            Err(DecodeError::Newer(version)) => {
                metrics::counter!("orderfleet_newer_messages_total", "lane" => lane_label(delivery))
                    .increment(1);
                tracing::warn!(schema.version = version, "a newer build's message waits for a newer build");
                self.set_aside(delivery).await
            }
            Err(DecodeError::Malformed(reason)) => self.park_poison(delivery, &reason).await,
        }
    }

    async fn answer_for_panic(&self, delivery: &Delivery, place: &str) {
        metrics::counter!("orderfleet_panics_total", "lane" => lane_label(delivery)).increment(1);
        let answer = panics::answer(&delivery.lane, &delivery.headers, &delivery.body, place);
        let order_id = panics::command(&delivery.body).map(|command| command.order_id);
        tracing::error!(
            panic.place = place,
            order.id = order_id.as_ref().map(OrderId::as_str),
            to = ?answer.destination,
            "handling a delivery panicked"
        );
        self.publish_until_confirmed(&answer).await;
    }

    async fn work(&self, delivery: &Delivery, command: Command) -> Ending {
        let delivered = Delivered { command, redelivered: delivery.redelivered, lane: delivery.lane.clone() };
        // A lease is one delivery's: a second message about an order must not fence the first just for being in the same
        // process.
        let handled = self.handled.fetch_add(1, Ordering::Relaxed);
        let handling = Handling::new(delivered, WorkerId(format!("{}-{handled}", self.worker.0)));
        let repeats = Delays::new(FIRST_REPEAT, LONGEST_REPEAT);
        Way {
            driver: self,
            delivery,
            handling,
            at_hand: None,
            order: None,
            seen: None,
            is_paused: false,
            written: None,
            ended: None,
            repeats,
        }
        .walk()
        .await
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
            headers: of_dead_letter(&delivery.headers, &id, reason),
            body: delivery.body.clone(),
        };
        self.publish_until_confirmed(&outgoing).await;
        Ending::Poison
    }

    async fn publish_until_confirmed(&self, outgoing: &Outgoing) {
        let mut delays = Delays::new(FIRST_REPEAT, LONGEST_REPEAT);
        while let Err(error) = self.publish(outgoing).await {
            tracing::warn!(%error, "publishing again");
            tokio::time::sleep(delays.next_delay()).await;
        }
    }

    async fn publish(&self, outgoing: &Outgoing) -> Result<(), PublishError> {
        let publish = self.publisher.publish(outgoing);
        match outgoing.destination {
            Destination::Lane(_) | Destination::Wait(..) => {
                crash::around("worker.publish_copy", publish).await
            }
            Destination::Compensate(_) => crash::around("worker.publish_compensation", publish).await,
            Destination::DeadLetter(_) | Destination::WaitDead(..) => {
                crash::around("worker.publish_dead_letter", publish).await
            }
            Destination::Event(_) => crash::around("worker.publish_event", publish).await,
        }
    }

    /// Why a call must not be sent, if somebody has paused it: what the order's history is to say.
    async fn pause_of(&self, call: &Call<'_>) -> Option<String> {
        if let Some(pause) = self.pauses.of_call(call.step, call.account) {
            return Some(pauses::told(&pause));
        }
        let pause = self.pauses.of_any_failure().filter(|_| call.record.att > 0)?;
        match self.store.last_failed_attempt(call.order_id).await {
            Ok(attempt) => {
                attempt.and_then(|attempt| self.pauses.of_failure(&attempt)).as_ref().map(pauses::told)
            }
            Err(error) => {
                tracing::warn!(order.id = %call.order_id, %error, "not known whether the order is paused");
                Some(format!("whether this is paused is not known: {}", pause.target))
            }
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            now: now(),
            nonce: fresh_nonce(),
            blocked: self.publisher.is_blocked(),
            draining: self.draining.is_cancelled(),
        }
    }
}

/// The clock, as all of this worker's decisions see it.
pub(crate) fn now() -> Millis {
    Timestamp::now().as_millisecond() + crash::clock_error_ms()
}

/// The command, with the age of a cancel by the workers' clocks: from when one of them first had it in hand. By the clock of
/// its producer a fresh one could be a day old.
fn by_own_clocks(command: Command, first_seen: Option<Millis>) -> Command {
    match command.kind {
        CommandKind::Cancel { requested_at } => {
            let seen = first_seen.unwrap_or(Millis::MAX).min(now());
            let requested_at = Timestamp::from_millisecond(seen).unwrap_or(requested_at);
            Command { kind: CommandKind::Cancel { requested_at }, ..command }
        }
        _ => command,
    }
}

/// The order's document, as a message about it may see it. A cancel has nothing but the id to name an order by.
pub(crate) async fn read(store: &Store, command: &Command) -> StoreReply {
    match command.kind {
        CommandKind::Cancel { .. } => store.read_of_account(&command.order_id, &command.account).await,
        _ => store.read(&command.order_id).await,
    }
}

/// A name for a write that no other write has.
pub(crate) fn fresh_nonce() -> Nonce {
    let mut nonce = [0; 16];
    if let Err(error) = getrandom::fill(&mut nonce) {
        // A nonce must not repeat; without randomness a worker cannot tell its writes from others'.
        tracing::error!(%error, "no randomness from the operating system");
        std::process::abort();
    }
    Nonce(u128::from_be_bytes(nonce))
}

impl Way<'_> {
    async fn walk(mut self) -> Ending {
        let mut input = Input::Delivered;
        loop {
            let effect = self.handling.on(&self.driver.policy, &self.driver.moment(), input);
            self.measure_write();
            if let Effect::Ack(ending) = effect {
                self.tell(ending);
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
                let traceparent = self.delivery.headers.get("traceparent");
                let insert = store.insert_traced(
                    &order_id,
                    &command.account,
                    order,
                    *accepted_at,
                    &record,
                    traceparent,
                );
                Input::Store(crash::around("worker.insert", insert).await)
            }
            Effect::Claim(claim) => {
                let claimed = async {
                    match (&self.handling.delivered().command.kind, &claim.kind) {
                        (CommandKind::Run { order: Some(corrected) }, ClaimKind::NewRun) => {
                            store.claim_corrected(&order_id, &claim, corrected).await
                        }
                        _ => store.claim(&order_id, &claim).await,
                    }
                };
                let (reply, at_hand) = crash::around("worker.claim", claimed).await;
                if at_hand.is_some() {
                    (self.at_hand, self.order) = (at_hand, None);
                }
                Input::Store(reply)
            }
            Effect::Read => Input::Store(read(store, &self.handling.delivered().command).await),
            Effect::Write(write) => {
                self.written = self.handling.record().map(|before| Written::to(before, &write));
                Input::Store(crash::around("worker.write", store.write(&order_id, &write)).await)
            }
            Effect::Note(note) => {
                Input::Store(crash::around("worker.note", store.note(&order_id, &note)).await)
            }
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
        let order = self.at_hand.as_ref().map(|at_hand| &at_hand.order).or(posted);
        let (Some(record), Some(order)) = (self.handling.record(), order) else {
            return Input::Called(CallOutcome::NotSent { what: "the order is not at hand".into() });
        };
        if verb == Verb::Do && step == 1 && crash::is_poison(order.lines.iter().map(|line| line.sku.as_str()))
        {
            std::process::abort();
        }
        let order = match &mut self.order {
            Some(order) => order,
            unwritten => match to_raw_value(order) {
                Ok(written) => unwritten.insert(written),
                Err(error) => return Input::Called(CallOutcome::NotSent { what: error.to_string() }),
            },
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
            // Whoever inserted the order has the first epoch: nobody else has called for it, and nor has this delivery before.
            // A message that came before, or into quarantine, may be what ended a worker, or its services.
            may_share: quick_retry == 0
                && record.epoch == 1
                && record.att == 0
                && matches!(self.delivery.lane, Lane::New(_))
                && !self.delivery.redelivered,
        };
        let started = Instant::now();
        let span = trace::step(&call, quick_retry);
        let pause = self.driver.pause_of(&call).instrument(span.clone()).await;
        let outcome = match &pause {
            Some(why) => CallOutcome::NotSent { what: why.clone() },
            None => {
                let called = self.driver.downstreams.call(&call).instrument(span.clone());
                match verb {
                    Verb::Do => crash::around("worker.call_do", called).await,
                    Verb::Undo => crash::around("worker.call_undo", called).await,
                }
            }
        };
        trace::step_ended(&span, &outcome);
        drop(span);
        let meters = &self.driver.meters;
        meters.called(step, verb, outcome_label(&outcome), started.elapsed());
        if quick_retry > 0 {
            meters.repeated(step, verb);
        }
        self.is_paused = pause.is_some();
        let before = self.seen.take();
        let outcome = if quick_retry > 0 { of_the_attempt(outcome, before) } else { outcome };
        if let CallOutcome::Unknown { what, .. } = &outcome {
            self.seen = Some(what.clone());
        }
        Input::Called(outcome)
    }

    /// Publishes all of them, also after one that is not confirmed: a subscriber that takes no events must not keep a dead
    /// letter from being parked.
    async fn publish(&self, publications: &[Publication]) -> Input {
        let mut result = Input::Confirmed;
        for publication in publications {
            let outgoing = message(self.delivery, self.handling.delivered(), publication);
            if let Err(error) = self.driver.publish(&outgoing).await {
                tracing::warn!(%error, order.id = %self.handling.order_id(), "not confirmed");
                result = Input::NotConfirmed;
            }
        }
        result
    }
}

/// A repeat at once that is not sent leaves the attempt at what the call before it was: unknown, as seen then. Otherwise an
/// order that opens the circuit by itself would never be charged, and so never be given up.
fn of_the_attempt(outcome: CallOutcome, before: Option<String>) -> CallOutcome {
    match outcome {
        CallOutcome::NotSent { what } => CallOutcome::Unknown {
            what: before.unwrap_or(what),
            // No further repeat at once.
            retry_after: Some(0),
        },
        outcome => outcome,
    }
}
