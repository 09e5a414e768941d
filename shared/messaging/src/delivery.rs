//! A message in hand, and what it can come by.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use lapin::{
    message::Delivery as AmqpDelivery,
    types::{DeliveryTag, ShortString},
};
use orderfleet_domain::saga::{DeadLetterQueue, Lane, Millis};

use crate::{Headers, Topology, acks::Acks, headers::ready_at, trace::Origin};

/// What can be consumed: a lane, or a queue of dead letters.
pub trait Source: Clone + Send + Sync + 'static {
    /// The name of its queue.
    fn queue(&self, topology: &Topology) -> String;

    /// What a delivery came by, told more exactly by its routing key.
    #[must_use]
    fn delivered(&self, routing_key: &str) -> Self;
}

/// A message in hand.
#[derive(Debug)]
pub struct Delivery<S = Lane> {
    /// What it came by.
    pub lane: S,
    /// Its body.
    pub body: Bytes,
    /// Its allowed headers.
    pub headers: Headers,
    /// As `headers`, with those only newer builds know.
    pub all_headers: Headers,
    /// Whether the broker delivered it before.
    pub redelivered: bool,
    /// When it could first be taken from its lane, by the clock of who published it; `None` from older builds and from others.
    pub ready_at: Option<Millis>,
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) tag: DeliveryTag,
    pub(crate) origin: Arc<Origin>,
    acks: Acks,
    _in_hand: Holding,
}

/// How many deliveries of a channel are in hand: neither acked, nor given back, nor dropped.
#[derive(Debug, Clone, Default)]
pub(crate) struct InHand(Arc<AtomicUsize>);

/// One of them, for as long as it exists.
#[derive(Debug)]
struct Holding(InHand);

impl InHand {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn hold(&self) -> Holding {
        self.0.fetch_add(1, Ordering::Relaxed);
        Holding(self.clone())
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S: Source> Delivery<S> {
    pub(crate) fn new(
        source: &S,
        delivery: AmqpDelivery,
        in_hand: &InHand,
        acks: &Acks,
        origin: &Arc<Origin>,
    ) -> Self {
        Self {
            _in_hand: in_hand.hold(),
            lane: source.delivered(delivery.routing_key.as_str()),
            headers: Headers::received(&delivery.properties, false),
            all_headers: Headers::received(&delivery.properties, true),
            redelivered: delivery.redelivered,
            ready_at: ready_at(&delivery.properties),
            body: Bytes::from(delivery.data),
            exchange: delivery.exchange,
            routing_key: delivery.routing_key,
            tag: delivery.delivery_tag,
            origin: Arc::clone(origin),
            acks: acks.clone(),
        }
    }
}

impl<S> Delivery<S> {
    /// Acknowledges it, on the channel that delivered it, within some 25 ms and before that channel is closed in order; no use after
    /// the channel is gone: then the broker delivers it again, and whoever gets it finds the document as it is.
    pub fn ack(self) {
        self.acks.ack(self.tag);
    }

    /// Gives it back. The broker counts this as a delivery, as it would a crash.
    pub async fn give_back(self) {
        self.acks.give_back(self.tag).await;
    }
}

impl Source for Lane {
    fn queue(&self, topology: &Topology) -> String {
        topology.queue(self)
    }

    /// Only compensations carry more in their routing key than the queue says.
    fn delivered(&self, routing_key: &str) -> Self {
        let step = routing_key.strip_prefix("compensate.").and_then(|step| step.parse().ok());
        match (self, step) {
            (Self::Compensate(_), Some(step)) => Self::Compensate(step),
            (lane, _) => lane.clone(),
        }
    }
}

impl Source for DeadLetterQueue {
    fn queue(&self, topology: &Topology) -> String {
        topology.dead_letter_queue(self)
    }

    fn delivered(&self, _routing_key: &str) -> Self {
        self.clone()
    }
}
