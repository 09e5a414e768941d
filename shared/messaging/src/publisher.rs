//! Confirmed, mandatory publishing over a pool of long-lived confirm channels.

use std::{
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use orderfleet_domain::{
    StepName,
    saga::{DeadLetterQueue, EventType, Lane, Millis, Tier},
};
use tracing::Instrument as _;

use crate::{
    BrokerSettings, ConnectError, Headers, Topology,
    batches::{Batches, Route},
    channels,
    meters::METERS,
    topology::{dead_routing_key, event_routing_key, routing_key},
    trace::{self, Server},
};

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Into a lane, at once.
    Lane(Lane),
    /// Into a lane after waiting in a tier.
    Wait(Tier, Lane),
    /// To a dead-letter queue after waiting in a tier.
    WaitDead(Tier, DeadLetterQueue),
    /// The compensating event of an order that failed at this step.
    Compensate(StepName),
    /// To a dead-letter queue.
    DeadLetter(DeadLetterQueue),
    /// A domain event: the only kind that nobody has to listen to.
    Event(EventType),
}

/// A message on its way out. Always persistent.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where to.
    pub destination: Destination,
    /// Its headers.
    pub headers: Headers,
    /// Its body.
    pub body: Bytes,
}

/// A message that was not confirmed. Only [`PublishError::NotSent`] and [`PublishError::Returned`] say that it was not
/// queued either.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Nothing was sent: no connection, or the broker has blocked publishing.
    #[error("nothing was published: {0}")]
    NotSent(String),
    /// No queue is bound for it. The broker confirms such a message all the same.
    #[error("{exchange} has no queue for {routing_key}")]
    Returned {
        /// The exchange.
        exchange: String,
        /// The routing key.
        routing_key: String,
    },
    /// The broker refused it: the queue is full, or has trouble.
    #[error("the broker rejected the message")]
    Nacked,
    /// No confirm in time, or the channel was lost: it may be queued, now or later.
    #[error("the broker did not confirm in time: {0}")]
    Unknown(String),
}

impl PublishError {
    /// A word for its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotSent(_) => "not_sent",
            Self::Returned { .. } => "returned",
            Self::Nacked => "nacked",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// Publishes with confirms. Cheap to clone; shared by all tasks of a process.
#[derive(Debug, Clone)]
pub struct Publisher {
    batches: Arc<Batches>,
    topology: Topology,
    server: Arc<Server>,
}

impl Publisher {
    /// Makes the pool and its first connection, asserting the topology. A broker that is down is waited for.
    ///
    /// # Errors
    /// Wrong settings, or a broker whose topology differs from the declared one.
    pub async fn connect(
        settings: &BrokerSettings,
        topology: Topology,
        name: &str,
    ) -> Result<Self, ConnectError> {
        let channels = channels::pool(settings, topology.clone(), name).await?;
        let batches = Arc::new(Batches::new(channels, settings.confirm_timeout()));
        Ok(Self { batches, topology, server: Server::of(&settings.address()?) })
    }

    /// The topology that was asserted.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Whether there is a connection that the broker does not block, and a channel on it is free. Takes at most two seconds.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub async fn check(&self) -> Result<(), String> {
        self.batches.unblocked_channel().await.map(drop)
    }

    /// Whether the broker had blocked publishing when a channel was last looked at, by a publish or a check. Answers at
    /// once. A broker tells a connection only after it has tried to publish.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.batches.is_blocked()
    }

    /// Ready messages in the queue behind a lane.
    ///
    /// # Errors
    /// No connection, or no such queue.
    pub async fn depth(&self, lane: &Lane) -> Result<u32, PublishError> {
        self.batches.depth(self.topology.queue(lane)).await.map_err(PublishError::NotSent)
    }

    /// Publishes one message and waits for its confirm, at most two seconds until it is sent and then the confirm timeout. Safe
    /// to call from many tasks: what they publish to the same exchange by the same routing key goes out together.
    ///
    /// # Errors
    /// Anything but a plain confirm. A second call publishes a second message.
    pub async fn publish(&self, outgoing: &Outgoing) -> Result<(), PublishError> {
        let (started, _in_flight) = (Instant::now(), METERS.publish_in_flight());
        let route = self.route(&outgoing.destination);
        let span = trace::publishing(&self.server, &route.exchange, &route.routing_key, outgoing);
        let properties = trace::within(&span, &outgoing.headers).properties(ready_at(&outgoing.destination));
        let published = self.batches.publish(route, outgoing.body.clone(), properties);
        let result = published.instrument(span.clone()).await;
        trace::ended(&span, &result);
        METERS.published(&outgoing.destination, &result, started.elapsed());
        result
    }

    fn route(&self, destination: &Destination) -> Route {
        let topology = &self.topology;
        let (exchange, routing_key, mandatory) = match destination {
            Destination::Lane(lane) => (topology.orders(), routing_key(lane), true),
            Destination::Wait(tier, lane) => (topology.wait(*tier), routing_key(lane), true),
            Destination::WaitDead(tier, queue) => (topology.wait(*tier), dead_routing_key(queue), true),
            Destination::Compensate(step) => {
                (topology.dlx(), routing_key(&Lane::Compensate(step.clone())), true)
            }
            Destination::DeadLetter(queue) => (topology.dlx(), dead_routing_key(queue), true),
            Destination::Event(event) => (topology.events(), event_routing_key(*event), false),
        };
        Route { exchange, routing_key, mandatory }
    }
}

/// When a message that is published now can be taken from its lane, by this process's clock: what it waits from then on is time
/// in a queue. Events are for others and tell none.
fn ready_at(destination: &Destination) -> Option<Millis> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Millis::try_from(since_1970.as_millis()).unwrap_or(Millis::MAX);
    match destination {
        Destination::Wait(tier, _) | Destination::WaitDead(tier, _) => {
            Some(now.saturating_add(tier.millis()))
        }
        Destination::Event(_) => None,
        _ => Some(now),
    }
}
