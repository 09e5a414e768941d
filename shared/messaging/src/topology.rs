//! Every exchange, queue and binding, as plain data, and how it is asserted on a broker.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::future::join_all;
use lapin::{
    Channel, Connection, ErrorKind, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, LongString},
};
use orderfleet_domain::{
    StepName,
    saga::{DeadLetterQueue, EventType, Lane, Tier},
};

use crate::inspection::passive_exchange;

/// Deliveries of a worked message before the broker takes it out. RabbitMQ 3.10 and 4.0 (measured on 3.10.8 and 4.0.5) count
/// every return: crashes, lost connections and nacks alike. 4.x without a setting would take 20 and drop.
const DELIVERY_LIMIT: i64 = 20;
/// Dead letters are never taken out. 4.x has no word for "unlimited" that 3.10 would not read as "at once".
const DELIVERY_LIMIT_DEAD: i64 = 1_000_000_000;

/// An exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// Kind of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Topic,
    Fanout,
}

/// A durable quorum queue. Every limit is spelled out: the broker's defaults differ between versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Queue {
    pub(crate) name: String,
    pub(crate) delivery_limit: i64,
    pub(crate) message_ttl_ms: Option<i64>,
    pub(crate) bytes_max: Option<i64>,
    /// Exchange and routing key for what is taken out; without a key the message's own.
    pub(crate) dead_letter: Option<(String, Option<&'static str>)>,
}

/// A binding of a queue to an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The exchange.
    pub exchange: String,
    /// The queue.
    pub queue: String,
    /// The routing key; empty for a fanout exchange.
    pub routing_key: String,
}

/// The whole topology of one fleet on one virtual host. Clones know of each other when it has been asserted there.
#[derive(Debug, Clone)]
pub struct Topology {
    prefix: String,
    partitions: u16,
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) queues: Vec<Queue>,
    pub(crate) bindings: Vec<Binding>,
    /// It was asserted, and no connection has failed since.
    is_asserted: Arc<AtomicBool>,
}

/// The broker and the declared topology do not agree, or the broker could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot assert {what}; {next}")]
pub struct TopologyError {
    what: String,
    next: &'static str,
    source: lapin::Error,
}

/// Where we declare.
const OTHER_PROPERTIES: &str = "if it exists with other properties, `orderfleet topology plan` says what to do, or change the settings back";
/// Where we only look.
const NOT_THERE: &str = "with broker.declare = false it must be there: `orderfleet topology apply` makes it, as a user with the right to configure";

impl TopologyError {
    /// Whether the broker said no: what is there differs, or this user may not declare it. Anything else, such as a
    /// connection that was lost on the way, passes.
    pub(crate) fn is_difference(&self) -> bool {
        const ACCESS_REFUSED: u16 = 403;
        const PRECONDITION_FAILED: u16 = 406;
        match self.source.kind() {
            ErrorKind::ProtocolError(error) => {
                [ACCESS_REFUSED, PRECONDITION_FAILED].contains(&error.get_id())
            }
            _ => false,
        }
    }
}

impl Topology {
    /// The topology for a prefix, a number of partitions with their size, and the steps of the saga.
    #[must_use]
    pub fn new(prefix: &str, partitions: u16, new_bytes_max: u32, steps: &[StepName]) -> Self {
        let mut topology = Self {
            prefix: prefix.to_owned(),
            partitions,
            exchanges: Vec::new(),
            queues: Vec::new(),
            bindings: Vec::new(),
            is_asserted: Arc::default(),
        };
        for name in [topology.orders(), topology.dlx(), topology.events()] {
            topology.exchanges.push(Exchange { name, kind: Kind::Topic });
        }
        for partition in 0..partitions {
            let lane = Lane::New(partition);
            topology.worked_queue(&lane, "quarantine", Some(i64::from(new_bytes_max)));
            topology.bind(topology.orders(), &topology.queue(&lane), routing_key(&lane));
        }
        for lane in [Lane::Retry, Lane::Replay] {
            topology.worked_queue(&lane, "quarantine", None);
            topology.bind(topology.orders(), &topology.queue(&lane), routing_key(&lane));
        }
        topology.both_exchanges("compensate", "quarantine", "compensate.*");
        topology.both_exchanges("quarantine", "dead.poison", "quarantine");
        for tier in Tier::ALL {
            topology.wait_tier(tier);
        }
        let steps = steps.iter().cloned().map(DeadLetterQueue::Step);
        let others = [DeadLetterQueue::Poison, DeadLetterQueue::Held, DeadLetterQueue::Conflict];
        for queue in steps.chain(others) {
            topology.dead_queue(&queue);
        }
        topology
    }

    fn worked_queue(&mut self, lane: &Lane, after_limit: &'static str, bytes_max: Option<i64>) {
        let dead_letter = Some((self.dlx(), Some(after_limit)));
        let name = self.queue(lane);
        self.queues.push(Queue {
            name,
            delivery_limit: DELIVERY_LIMIT,
            message_ttl_ms: None,
            bytes_max,
            dead_letter,
        });
    }

    fn both_exchanges(&mut self, queue: &str, after_limit: &'static str, routing_key: &str) {
        let name = self.name(queue);
        self.queues.push(Queue {
            name: name.clone(),
            delivery_limit: DELIVERY_LIMIT,
            message_ttl_ms: None,
            bytes_max: None,
            dead_letter: Some((self.dlx(), Some(after_limit))),
        });
        for exchange in [self.orders(), self.dlx()] {
            self.bind(exchange, &name, routing_key.to_owned());
        }
    }

    fn wait_tier(&mut self, tier: Tier) {
        let name = self.wait(tier);
        self.exchanges.push(Exchange { name: name.clone(), kind: Kind::Fanout });
        self.queues.push(Queue {
            name: name.clone(),
            delivery_limit: DELIVERY_LIMIT_DEAD,
            message_ttl_ms: Some(tier.millis()),
            bytes_max: None,
            dead_letter: Some((self.orders(), None)),
        });
        self.bind(name.clone(), &name, String::new());
    }

    fn dead_queue(&mut self, queue: &DeadLetterQueue) {
        let routing_key = dead_routing_key(queue);
        let name = self.name(&routing_key);
        self.queues.push(Queue {
            name: name.clone(),
            delivery_limit: DELIVERY_LIMIT_DEAD,
            message_ttl_ms: None,
            bytes_max: None,
            dead_letter: None,
        });
        // On the latter for dead letters that have waited in a tier.
        for exchange in [self.dlx(), self.orders()] {
            self.bind(exchange, &name, routing_key.clone());
        }
    }

    fn bind(&mut self, exchange: String, queue: &str, routing_key: String) {
        self.bindings.push(Binding { exchange, queue: queue.to_owned(), routing_key });
    }

    fn name(&self, rest: &str) -> String {
        format!("{}orders.{rest}", self.prefix)
    }

    pub(crate) fn orders(&self) -> String {
        format!("{}orders", self.prefix)
    }

    pub(crate) fn dlx(&self) -> String {
        self.name("dlx")
    }

    pub(crate) fn wait(&self, tier: Tier) -> String {
        self.name(&format!("wait.{}", tier.name()))
    }

    /// The exchange for domain events; whoever wants them binds a queue of their own to it.
    #[must_use]
    pub fn events(&self) -> String {
        self.name("events")
    }

    /// The queue behind a lane.
    #[must_use]
    pub fn queue(&self, lane: &Lane) -> String {
        match lane {
            Lane::Compensate(_) => self.name("compensate"),
            other => self.name(&routing_key(other)),
        }
    }

    /// The queue of dead letters of a kind.
    #[must_use]
    pub fn dead_letter_queue(&self, queue: &DeadLetterQueue) -> String {
        self.name(&dead_routing_key(queue))
    }

    /// How many queues take fresh orders.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.partitions
    }

    /// The names of all queues.
    pub fn queue_names(&self) -> impl Iterator<Item = &str> {
        self.queues.iter().map(|queue| queue.name.as_str())
    }

    /// Declares what is missing and checks what is there, or, without `declare`, only looks whether exchanges and queues are
    /// there, and returns a channel. Until [`Topology::doubt`] a second call only opens a channel: done on all four
    /// connections of a worker it took a third of its start.
    pub(crate) async fn assert(
        &self,
        connection: &Connection,
        declare: bool,
    ) -> Result<Channel, TopologyError> {
        let next = if declare { OTHER_PROPERTIES } else { NOT_THERE };
        let channel = connection.create_channel().await.map_err(|source| TopologyError {
            what: "the topology (no channel)".into(),
            next,
            source,
        })?;
        if self.is_asserted.load(Ordering::Relaxed) {
            return Ok(channel);
        }
        if declare {
            all_at_once(self.exchanges.iter().map(|exchange| exchange.assert(&channel))).await?;
            all_at_once(self.queues.iter().map(|queue| queue.assert(&channel))).await?;
            all_at_once(self.bindings.iter().map(|binding| binding.assert(&channel))).await?;
        } else {
            all_at_once(self.exchanges.iter().map(|exchange| exchange.find(&channel))).await?;
            all_at_once(self.queues.iter().map(|queue| queue.find(&channel))).await?;
        }
        self.is_asserted.store(true, Ordering::Relaxed);
        Ok(channel)
    }

    /// Something of it may be gone: it is asserted again by whoever connects next. To be called after any failure of a
    /// connection or subscription.
    pub(crate) fn doubt(&self) {
        self.is_asserted.store(false, Ordering::Relaxed);
    }
}

/// Sends all, then waits for the answers, so that a slow link is waited for once. A difference closes the channel and all
/// that come after it fail with it: the first is the culprit.
async fn all_at_once(
    asserted: impl Iterator<Item = impl Future<Output = Result<(), TopologyError>>>,
) -> Result<(), TopologyError> {
    join_all(asserted).await.into_iter().collect()
}

/// The routing key of a lane on the exchange `orders`.
pub(crate) fn routing_key(lane: &Lane) -> String {
    match lane {
        Lane::New(partition) => format!("new.{partition}"),
        Lane::Retry => "retry".into(),
        Lane::Replay => "replay".into(),
        Lane::Compensate(step) => format!("compensate.{step}"),
        Lane::Quarantine => "quarantine".into(),
    }
}

/// The routing key of dead letters on the exchange `orders.dlx`, and, after a wait, on `orders`.
pub(crate) fn dead_routing_key(queue: &DeadLetterQueue) -> String {
    match queue {
        DeadLetterQueue::Step(step) => format!("dead.{step}"),
        DeadLetterQueue::Poison => "dead.poison".into(),
        DeadLetterQueue::Held => "dead.held".into(),
        DeadLetterQueue::Conflict => "dead.conflict".into(),
    }
}

/// The routing key of an event on the exchange `orders.events`.
pub(crate) fn event_routing_key(event: EventType) -> String {
    event.as_str().to_owned()
}

impl Exchange {
    async fn assert(&self, channel: &Channel) -> Result<(), TopologyError> {
        let declared = self.declare(channel).await;
        declared.map_err(|source| TopologyError {
            what: format!("exchange {}", self.name),
            next: OTHER_PROPERTIES,
            source,
        })
    }

    async fn find(&self, channel: &Channel) -> Result<(), TopologyError> {
        let found = passive_exchange(channel, &self.name).await;
        found.map_err(|source| TopologyError {
            what: format!("exchange {}", self.name),
            next: NOT_THERE,
            source,
        })
    }

    pub(crate) async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        let kind = match self.kind {
            Kind::Topic => ExchangeKind::Topic,
            Kind::Fanout => ExchangeKind::Fanout,
        };
        let options = ExchangeDeclareOptions {
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            nowait: false,
        };
        channel.exchange_declare(self.name.as_str().into(), kind, options, FieldTable::default()).await
    }
}

impl Queue {
    async fn assert(&self, channel: &Channel) -> Result<(), TopologyError> {
        let declared = self.declare(channel).await;
        declared.map_err(|source| TopologyError {
            what: format!("queue {}", self.name),
            next: OTHER_PROPERTIES,
            source,
        })
    }

    async fn find(&self, channel: &Channel) -> Result<(), TopologyError> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = channel.queue_declare(self.name.as_str().into(), options, FieldTable::default()).await;
        found.map(drop).map_err(|source| TopologyError {
            what: format!("queue {}", self.name),
            next: NOT_THERE,
            source,
        })
    }

    pub(crate) async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        let options = QueueDeclareOptions {
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            nowait: false,
        };
        channel.queue_declare(self.name.as_str().into(), options, self.arguments()).await.map(drop)
    }

    /// At-least-once dead-lettering needs all of: the strategy, `reject-publish` and a dead-letter exchange
    /// (RabbitMQ documentation, "Quorum Queues", "Activating at-least-once dead-lettering").
    pub(crate) fn arguments(&self) -> FieldTable {
        let text = |text: &str| AMQPValue::LongString(LongString::from(text));
        let mut arguments = FieldTable::default();
        let mut insert = |key: &str, value| {
            arguments.insert(key.into(), value);
        };
        insert("x-queue-type", text("quorum"));
        insert("x-overflow", text("reject-publish"));
        insert("x-delivery-limit", AMQPValue::LongLongInt(self.delivery_limit));
        if let Some(ttl) = self.message_ttl_ms {
            insert("x-message-ttl", AMQPValue::LongLongInt(ttl));
        }
        if let Some(bytes) = self.bytes_max {
            insert("x-max-length-bytes", AMQPValue::LongLongInt(bytes));
        }
        if let Some((exchange, routing_key)) = &self.dead_letter {
            insert("x-dead-letter-exchange", text(exchange));
            insert("x-dead-letter-strategy", text("at-least-once"));
            if let Some(routing_key) = routing_key {
                insert("x-dead-letter-routing-key", text(routing_key));
            }
        }
        arguments
    }
}

impl Binding {
    async fn assert(&self, channel: &Channel) -> Result<(), TopologyError> {
        let what = || format!("binding of {} to {}", self.queue, self.exchange);
        self.declare(channel).await.map_err(|source| TopologyError {
            what: what(),
            next: OTHER_PROPERTIES,
            source,
        })
    }

    pub(crate) async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        let (queue, exchange) = (self.queue.as_str().into(), self.exchange.as_str().into());
        let options = QueueBindOptions { nowait: false };
        channel
            .queue_bind(queue, exchange, self.routing_key.as_str().into(), options, FieldTable::default())
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology() -> Topology {
        let steps = ["inventory", "fulfilment", "accounting"].map(|step| step.parse().unwrap());
        Topology::new("t.", 2, 1_000, &steps)
    }

    #[test]
    fn the_topology_has_every_queue_once() {
        let mut names: Vec<_> = topology().queue_names().map(str::to_owned).collect();
        names.sort_unstable();
        let expected = [
            "compensate",
            "dead.accounting",
            "dead.conflict",
            "dead.fulfilment",
            "dead.held",
            "dead.inventory",
            "dead.poison",
            "new.0",
            "new.1",
            "quarantine",
            "replay",
            "retry",
            "wait.10m",
            "wait.1h",
            "wait.1s",
            "wait.2m",
            "wait.30s",
            "wait.5s",
        ];
        assert_eq!(names, expected.map(|name| format!("t.orders.{name}")));
    }

    #[test]
    fn every_queue_has_a_positive_delivery_limit_and_rejects_when_full() {
        for queue in &topology().queues {
            assert!(queue.delivery_limit > 0);
            let arguments = queue.arguments();
            assert!(arguments.inner().contains_key("x-overflow"));
            let dead_letters = arguments.inner().contains_key("x-dead-letter-exchange");
            assert_eq!(dead_letters, arguments.inner().contains_key("x-dead-letter-strategy"));
            assert!(dead_letters || queue.name.contains(".dead."), "{}", queue.name);
        }
    }

    #[test]
    fn every_queue_is_bound_to_an_exchange_that_is_declared() {
        let topology = topology();
        for queue in &topology.queues {
            let bindings: Vec<_> =
                topology.bindings.iter().filter(|binding| binding.queue == queue.name).collect();
            assert!(!bindings.is_empty(), "{}", queue.name);
            for binding in bindings {
                assert!(topology.exchanges.iter().any(|exchange| exchange.name == binding.exchange));
            }
        }
    }
}
