//! Confirmed, mandatory publishing over a pool of long-lived confirm channels.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use deadpool::managed::{self, Metrics, Pool, RecycleError, RecycleResult, Timeouts};
use lapin::{
    Channel, Confirmation, Connection,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use orderfleet_domain::{
    StepName,
    saga::{DeadLetterQueue, EventType, Lane, Tier},
};

use crate::{
    BrokerSettings, ConnectError, Delays, Headers, Topology,
    connection::{CONNECT_TIMEOUT, chain, properties},
    topology::{dead_routing_key, event_routing_key, routing_key},
};

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Into a lane, at once.
    Lane(Lane),
    /// Into a lane after waiting in a tier.
    Wait(Tier, Lane),
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

/// Publishes with confirms. Cheap to clone; shared by all tasks of a process.
#[derive(Debug, Clone)]
pub struct Publisher {
    pool: Pool<ConfirmChannels>,
    topology: Topology,
    confirm_timeout: Duration,
    blocked: Arc<AtomicBool>,
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
        let manager = ConfirmChannels::new(settings, topology.clone(), name)?;
        let timeouts = Timeouts {
            wait: Some(CONNECT_TIMEOUT),
            create: Some(CONNECT_TIMEOUT),
            recycle: Some(CONNECT_TIMEOUT),
        };
        let pool = Pool::builder(manager)
            .max_size(settings.publish_connections)
            .timeouts(timeouts)
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(|error| ConnectError::Pool(error.to_string()))?;
        let publisher =
            Self { pool, topology, confirm_timeout: settings.confirm_timeout(), blocked: Arc::default() };
        publisher.wait_for_broker().await?;
        Ok(publisher)
    }

    async fn wait_for_broker(&self) -> Result<(), ConnectError> {
        let mut delays = Delays::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let error = match self.pool.get().await {
                Ok(_) => return Ok(()),
                Err(managed::PoolError::Backend(error)) if !error.is_transient() => return Err(error),
                Err(error) => error,
            };
            tracing::warn!(error = describe(&error), "waiting for RabbitMQ");
            tokio::time::sleep(delays.next_delay()).await;
        }
    }

    /// The topology that was asserted.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Whether there is a connection, or one can be made, that the broker does not block. Takes at most the connect
    /// timeout.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub async fn check(&self) -> Result<(), String> {
        self.channel().await.map(drop).map_err(|error| error.to_string())
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
        let ask = async {
            let slot = self.pool.get().await.map_err(|error| PublishError::NotSent(describe(&error)))?;
            let lost = |error: lapin::Error| PublishError::NotSent(error.to_string());
            let channel = slot.connection.create_channel().await.map_err(lost)?;
            drop(slot);
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
            let name = self.topology.queue(lane);
            let queue = channel
                .queue_declare(name.as_str().into(), options, FieldTable::default())
                .await
                .map_err(lost)?;
            let _ = channel.close(200, "done".into()).await;
            Ok(queue.message_count())
        };
        match tokio::time::timeout(self.confirm_timeout, ask).await {
            Ok(depth) => depth,
            Err(_) => Err(PublishError::NotSent("no answer in time".into())),
        }
    }

    /// Publishes one message and waits for its confirm, at most the confirm timeout. Safe to call from many tasks: the
    /// messages of all of them share a few channels, with their confirms outstanding together.
    ///
    /// # Errors
    /// Anything but a plain confirm. A second call publishes a second message.
    pub async fn publish(&self, outgoing: &Outgoing) -> Result<(), PublishError> {
        match tokio::time::timeout(self.confirm_timeout, self.publish_untimed(outgoing)).await {
            Ok(result) => result,
            Err(_) => Err(PublishError::Unknown(format!("{} ms", self.confirm_timeout.as_millis()))),
        }
    }

    async fn publish_untimed(&self, outgoing: &Outgoing) -> Result<(), PublishError> {
        let channel = self.channel().await?;
        let (exchange, routing_key, mandatory) = self.route(&outgoing.destination);
        let options = BasicPublishOptions { mandatory, immediate: false };
        let unknown = |error: lapin::Error| PublishError::Unknown(error.to_string());
        let confirm = channel
            .basic_publish(
                exchange.as_str().into(),
                routing_key.as_str().into(),
                options,
                &outgoing.body,
                outgoing.headers.properties(),
            )
            .await
            .map_err(unknown)?;
        match confirm.await.map_err(unknown)? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) => Err(PublishError::Returned { exchange, routing_key }),
            Confirmation::Nack(_) => Err(PublishError::Nacked),
            Confirmation::NotRequested => {
                Err(PublishError::Unknown("the channel is not in confirm mode".into()))
            }
        }
    }

    /// A channel to publish on. The pool hands its slots out in turn and is used as the keeper of the connections only:
    /// the slot goes back before the publish, so that hundreds of confirms can be outstanding on a few channels.
    async fn channel(&self) -> Result<Channel, PublishError> {
        let slot = self.pool.get().await.map_err(|error| PublishError::NotSent(describe(&error)))?;
        let blocked = slot.connection.status().blocked();
        self.blocked.store(blocked, Ordering::Relaxed);
        if blocked {
            return Err(PublishError::NotSent(
                "the broker has blocked publishing (memory or disk alarm)".into(),
            ));
        }
        Ok(slot.channel.clone())
    }

    fn route(&self, destination: &Destination) -> (String, String, bool) {
        let topology = &self.topology;
        match destination {
            Destination::Lane(lane) => (topology.orders(), routing_key(lane), true),
            Destination::Wait(tier, lane) => (topology.wait(*tier), routing_key(lane), true),
            Destination::Compensate(step) => {
                (topology.dlx(), routing_key(&Lane::Compensate(step.clone())), true)
            }
            Destination::DeadLetter(queue) => (topology.dlx(), dead_routing_key(queue), true),
            Destination::Event(event) => (topology.events(), event_routing_key(*event), false),
        }
    }
}

/// A pool slot: a connection and its one confirm channel.
#[derive(Debug)]
struct ConfirmChannel {
    connection: Connection,
    channel: Channel,
}

/// Makes and checks pool slots: deadpool-lapin's manager for the connection, a confirm channel on top.
struct ConfirmChannels {
    connections: deadpool_lapin::Manager,
    topology: Topology,
}

impl std::fmt::Debug for ConfirmChannels {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ConfirmChannels").finish_non_exhaustive()
    }
}

impl ConfirmChannels {
    fn new(settings: &BrokerSettings, topology: Topology, name: &str) -> Result<Self, ConnectError> {
        let name = format!("{name} publishing");
        let runtime = lapin::runtime::default_runtime().map_err(ConnectError::Connect)?;
        let connections =
            deadpool_lapin::Manager::new(settings.address()?, move || properties(&name), runtime);
        Ok(Self { connections, topology })
    }
}

impl managed::Manager for ConfirmChannels {
    type Type = ConfirmChannel;
    type Error = ConnectError;

    async fn create(&self) -> Result<ConfirmChannel, ConnectError> {
        let connection = self.connections.create().await.map_err(ConnectError::Connect)?;
        self.topology.assert(&connection).await?;
        let channel = connection.create_channel().await.map_err(ConnectError::Connect)?;
        channel
            .confirm_select(ConfirmSelectOptions { nowait: false })
            .await
            .map_err(ConnectError::Connect)?;
        Ok(ConfirmChannel { connection, channel })
    }

    /// A channel that the broker closed takes its connection with it: a new one is cheap and certain.
    async fn recycle(&self, slot: &mut ConfirmChannel, metrics: &Metrics) -> RecycleResult<ConnectError> {
        if self.connections.recycle(&mut slot.connection, metrics).await.is_err()
            || !slot.channel.status().connected()
        {
            return Err(RecycleError::message("the connection or its channel is closed"));
        }
        Ok(())
    }
}

fn describe(error: &managed::PoolError<ConnectError>) -> String {
    match error {
        managed::PoolError::Backend(error) => chain(error),
        other => other.to_string(),
    }
}
