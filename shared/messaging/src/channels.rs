//! Confirm channels in a pool, over a few connections. A channel is lent to one publish at a time.
//!
//! lapin numbers a message and queues its frames in two steps, and hands a returned message to whichever confirm comes
//! next (lapin 4.12, `Acknowledgements`). With two publishes on a channel one could get the other's confirm: a message
//! that matched no queue, or that its queue rejected, would pass for confirmed.

use deadpool::managed::{self, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult, Timeouts};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionStatus,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};

use crate::{
    BrokerSettings, ConnectError, Topology,
    connection::{CONNECT_TIMEOUT, properties},
};

/// Publishes at once on a connection; more wait for their turn. Far below RabbitMQ's limit of 2,047 channels.
const CHANNELS_PER_CONNECTION: usize = 64;

/// Channels are made when none is idle, and their connections likewise.
pub(crate) type Channels = Pool<ConfirmChannels>;

/// The pool, still without a connection.
pub(crate) fn pool(
    settings: &BrokerSettings,
    topology: Topology,
    name: &str,
) -> Result<Channels, ConnectError> {
    let connections = sized(Connections::new(settings, topology, name)?, settings.publish_connections)?;
    sized(ConfirmChannels { connections }, settings.publish_connections * CHANNELS_PER_CONNECTION)
}

fn sized<M: managed::Manager>(manager: M, size: usize) -> Result<Pool<M>, ConnectError> {
    let timeouts = Timeouts {
        wait: Some(CONNECT_TIMEOUT),
        create: Some(CONNECT_TIMEOUT),
        recycle: Some(CONNECT_TIMEOUT),
    };
    Pool::builder(manager)
        .max_size(size)
        .timeouts(timeouts)
        .runtime(deadpool::Runtime::Tokio1)
        .build()
        .map_err(|error| ConnectError::Pool(error.to_string()))
}

/// A channel in confirm mode.
#[derive(Debug)]
pub(crate) struct ConfirmChannel {
    channel: Channel,
    connection: ConnectionStatus,
    /// An answer is outstanding. Stays set when nobody waits for it any more: then the channel is not lent again.
    busy: bool,
}

impl ConfirmChannel {
    /// Whether the broker has blocked publishing on its connection.
    pub(crate) fn is_blocked(&self) -> bool {
        self.connection.blocked()
    }

    /// Publishes one message and waits for its confirm, without end.
    pub(crate) async fn publish(
        &mut self,
        (exchange, routing_key): (&str, &str),
        options: BasicPublishOptions,
        body: &[u8],
        properties: BasicProperties,
    ) -> lapin::Result<Confirmation> {
        self.busy = true;
        let sent = self.channel.basic_publish(exchange.into(), routing_key.into(), options, body, properties);
        let confirmation = sent.await?.await?;
        self.busy = false;
        Ok(confirmation)
    }

    /// Ready messages of a queue.
    pub(crate) async fn depth(&mut self, queue: &str) -> lapin::Result<u32> {
        self.busy = true;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let queue = self.channel.queue_declare(queue.into(), options, FieldTable::default()).await?;
        self.busy = false;
        Ok(queue.message_count())
    }
}

/// Makes and checks channels.
#[derive(Debug)]
pub(crate) struct ConfirmChannels {
    connections: Pool<Connections>,
}

impl managed::Manager for ConfirmChannels {
    type Type = ConfirmChannel;
    type Error = ConnectError;

    async fn create(&self) -> Result<ConfirmChannel, ConnectError> {
        let connection: Object<Connections> = self.connections.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            other => ConnectError::Pool(other.to_string()),
        })?;
        // It would not be answered before the alarm is over.
        if connection.status().blocked() {
            return Err(ConnectError::Blocked);
        }
        let channel = connection.create_channel().await.map_err(ConnectError::Connect)?;
        channel
            .confirm_select(ConfirmSelectOptions { nowait: false })
            .await
            .map_err(ConnectError::Connect)?;
        Ok(ConfirmChannel { channel, connection: connection.status().clone(), busy: false })
    }

    async fn recycle(&self, slot: &mut ConfirmChannel, _: &Metrics) -> RecycleResult<ConnectError> {
        let fit = !slot.busy && slot.connection.connected() && slot.channel.status().connected();
        if fit { Ok(()) } else { Err(RecycleError::message("the channel is closed or in doubt")) }
    }
}

/// Makes and checks connections: deadpool-lapin's manager, and the topology is asserted on each.
struct Connections {
    manager: deadpool_lapin::Manager,
    topology: Topology,
}

impl Connections {
    fn new(settings: &BrokerSettings, topology: Topology, name: &str) -> Result<Self, ConnectError> {
        let name = format!("{name} publishing");
        let runtime = lapin::runtime::default_runtime().map_err(ConnectError::Connect)?;
        let manager = deadpool_lapin::Manager::new(settings.address()?, move || properties(&name), runtime);
        Ok(Self { manager, topology })
    }
}

impl std::fmt::Debug for Connections {
    /// Not derived: the manager knows the address with its password.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Connections").finish_non_exhaustive()
    }
}

impl managed::Manager for Connections {
    type Type = Connection;
    type Error = ConnectError;

    async fn create(&self) -> Result<Connection, ConnectError> {
        let connection = self.manager.create().await.map_err(ConnectError::Connect)?;
        self.topology.assert(&connection).await?;
        Ok(connection)
    }

    async fn recycle(&self, connection: &mut Connection, metrics: &Metrics) -> RecycleResult<ConnectError> {
        let recycled = self.manager.recycle(connection, metrics).await;
        recycled.map_err(|_| RecycleError::message("the connection is closed"))
    }
}
