//! Confirmed, mandatory publishing over a pool of long-lived confirm channels.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use deadpool::managed::{Object, PoolError};
use lapin::{Confirmation, options::BasicPublishOptions};
use orderfleet_domain::{
    StepName,
    saga::{DeadLetterQueue, EventType, Lane, Millis, Tier},
};
use tracing::{Instrument as _, Span};

use crate::{
    BrokerSettings, ConnectError, Headers, Topology,
    channels::{self, Channels, ConfirmChannels},
    connection::chain,
    meters::METERS,
    topology::{dead_routing_key, event_routing_key, routing_key},
    trace::{self, Server},
};

/// Longest wait for a channel to publish on; nothing has been sent then.
const CHANNEL_TIMEOUT: Duration = Duration::from_secs(2);

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
    channels: Channels,
    topology: Topology,
    confirm_timeout: Duration,
    blocked: Arc<AtomicBool>,
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
        Ok(Self {
            channels,
            topology,
            confirm_timeout: settings.confirm_timeout(),
            blocked: Arc::default(),
            server: Server::of(&settings.address()?),
        })
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
        self.unblocked_channel().await.map(drop).map_err(|error| error.to_string())
    }

    /// Whether the broker had blocked publishing when a channel was last looked at, by a publish or a check. Answers at
    /// once. A broker tells a connection only after it has tried to publish.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Ready messages in the queue behind a lane.
    ///
    /// # Errors
    /// No connection, or no such queue.
    pub async fn depth(&self, lane: &Lane) -> Result<u32, PublishError> {
        let mut channel = self.unblocked_channel().await?;
        let queue = self.topology.queue(lane);
        // A task of its own, for the reason that `publish` has.
        let asked = tokio::spawn(async move { channel.depth(&queue).await });
        let not_sent = |why: String| PublishError::NotSent(why);
        match tokio::time::timeout(self.confirm_timeout, asked).await {
            Ok(Ok(depth)) => depth.map_err(|error| not_sent(error.to_string())),
            Ok(Err(error)) => Err(not_sent(error.to_string())),
            Err(_) => Err(not_sent("no answer in time".into())),
        }
    }

    /// Publishes one message and waits for its confirm, at most the confirm timeout. Safe to call from many tasks: each
    /// message has a channel to itself until it is confirmed, and their confirms are outstanding together.
    ///
    /// # Errors
    /// Anything but a plain confirm. A second call publishes a second message.
    pub async fn publish(&self, outgoing: &Outgoing) -> Result<(), PublishError> {
        let started = Instant::now();
        let route = self.route(&outgoing.destination);
        let span = trace::publishing(&self.server, &route.0, &route.1, outgoing);
        let result = self.publish_to(route, outgoing, &span).instrument(span.clone()).await;
        trace::ended(&span, &result);
        METERS.published(&outgoing.destination, &result, started.elapsed());
        result
    }

    async fn publish_to(
        &self,
        (exchange, routing_key, mandatory): (String, String, bool),
        outgoing: &Outgoing,
        span: &Span,
    ) -> Result<(), PublishError> {
        let mut channel = self.unblocked_channel().await?;
        let headers = trace::within(span, &outgoing.headers);
        let (body, properties) = (outgoing.body.clone(), headers.properties(ready_at(&outgoing.destination)));
        let (to, key) = (exchange.clone(), routing_key.clone());
        // A task of its own: when nobody waits for it any more it still keeps the channel until there is an answer. A channel
        // that is closed while its message is unsent would have the message sent on a closed channel, which ends the
        // connection and with it the publishes of everybody else.
        let published = tokio::spawn(async move {
            let options = BasicPublishOptions { mandatory, immediate: false };
            channel.publish((&to, &key), options, &body, properties).await
        });
        let unknown = |why: String| PublishError::Unknown(why);
        let answer = tokio::time::timeout(self.confirm_timeout, published).await;
        let answer = answer.map_err(|_| unknown(format!("{} ms", self.confirm_timeout.as_millis())))?;
        match answer
            .map_err(|error| unknown(error.to_string()))?
            .map_err(|error| unknown(error.to_string()))?
        {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) => Err(PublishError::Returned { exchange, routing_key }),
            Confirmation::Nack(_) => Err(PublishError::Nacked),
            Confirmation::NotRequested => Err(unknown("the channel is not in confirm mode".into())),
        }
    }

    async fn unblocked_channel(&self) -> Result<Object<ConfirmChannels>, PublishError> {
        let channel = match self.free_channel().await {
            Ok(channel) if channel.is_blocked() => Err(ConnectError::Blocked),
            channel => channel,
        };
        let is_blocked = matches!(channel, Err(ConnectError::Blocked));
        self.blocked.store(is_blocked, Ordering::Relaxed);
        METERS.blocked.set(u8::from(is_blocked));
        channel.map_err(|error| PublishError::NotSent(chain(&error)))
    }

    async fn free_channel(&self) -> Result<Object<ConfirmChannels>, ConnectError> {
        match tokio::time::timeout(CHANNEL_TIMEOUT, self.channels.get()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(other)) => Err(ConnectError::Pool(other.to_string())),
            Err(_) => Err(self.channels.manager().trouble().unwrap_or_else(|| {
                ConnectError::Channel(format!("none within {} s", CHANNEL_TIMEOUT.as_secs()))
            })),
        }
    }

    fn route(&self, destination: &Destination) -> (String, String, bool) {
        let topology = &self.topology;
        match destination {
            Destination::Lane(lane) => (topology.orders(), routing_key(lane), true),
            Destination::Wait(tier, lane) => (topology.wait(*tier), routing_key(lane), true),
            Destination::WaitDead(tier, queue) => (topology.wait(*tier), dead_routing_key(queue), true),
            Destination::Compensate(step) => {
                (topology.dlx(), routing_key(&Lane::Compensate(step.clone())), true)
            }
            Destination::DeadLetter(queue) => (topology.dlx(), dead_routing_key(queue), true),
            Destination::Event(event) => (topology.events(), event_routing_key(*event), false),
        }
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
