//! Confirm channels in a pool, over a few connections. A channel is lent to one batch at a time.
//!
//! lapin numbers a message and queues its frames in two steps, and hands a returned message to whichever confirm comes
//! next (lapin 4.12, `Acknowledgements`). With two publishers on a channel one could get the other's confirm: a message
//! that matched no queue, or that its queue rejected, would pass for confirmed. A batch is numbered and queued by one task,
//! and judged as a whole once every confirm is there, when whatever was returned of it has come with one of them.

use std::sync::Arc;

use deadpool::managed::{self, Metrics, Pool, RecycleError, RecycleResult};
use futures_util::future::join_all;
use lapin::{
    Channel, Confirmation,
    options::{BasicPublishOptions, QueueDeclareOptions},
    types::FieldTable,
};

use crate::{
    BrokerSettings, ConnectError, Topology,
    batches::{Message, Route},
    live::{AnswerError, LiveConnection},
    meters::{METERS, Open},
    supervisor::{Connections, Connector},
};

/// Batches at once on a connection; more wait for their turn. Far below RabbitMQ's limit of 2,047 channels.
const CHANNELS_PER_CONNECTION: usize = 64;

/// Channels are opened when none is idle.
pub(crate) type Channels = Pool<ConfirmChannels>;

/// The pool, with the first of its connections. A broker that is down is waited for.
pub(crate) async fn pool(
    settings: &BrokerSettings,
    topology: Topology,
    name: &str,
) -> Result<Channels, ConnectError> {
    let size = settings.publish_connections.saturating_mul(CHANNELS_PER_CONNECTION);
    let connector = Connector::new(settings, topology, name, size)?;
    let first = connector.connect_patiently().await?;
    let connections = Connections::supervise(connector, first, settings.publish_connections);
    // No timeouts of its own: whoever takes a channel out has one.
    let pool = Pool::builder(ConfirmChannels { connections }).max_size(size).build();
    pool.map_err(|error| ConnectError::Pool(error.to_string()))
}

/// A channel in confirm mode.
#[derive(Debug)]
pub(crate) struct ConfirmChannel {
    channel: Channel,
    connection: Arc<LiveConnection>,
    /// An answer is outstanding. Stays set when nobody waits for it any more: then the channel is not lent again.
    busy: bool,
    _open: Open,
}

impl ConfirmChannel {
    /// Whether the broker has blocked publishing on its connection.
    pub(crate) fn is_blocked(&self) -> bool {
        self.connection.is_blocked()
    }

    /// Publishes messages in their order and waits for the confirm of each, for as long as the connection lives.
    pub(crate) async fn publish(
        &mut self,
        Route { exchange, routing_key, mandatory }: &Route,
        messages: Vec<Message>,
    ) -> Result<Vec<lapin::Result<Confirmation>>, AnswerError> {
        self.busy = true;
        let options = BasicPublishOptions { mandatory: *mandatory, immediate: false };
        let publish = |Message { body, properties }| {
            let (channel, to, key) =
                (self.channel.clone(), exchange.as_str().into(), routing_key.as_str().into());
            async move { channel.basic_publish(to, key, options, &body, properties).await?.await }
        };
        // Each numbers its message and queues its frames when it is first polled, which is in this order and by this task alone.
        let confirms = join_all(messages.into_iter().map(publish));
        let confirmations = self.connection.answer(async { Ok(confirms.await) }).await?;
        self.busy = confirmations.iter().any(Result::is_err);
        Ok(confirmations)
    }

    /// Ready messages of a queue.
    pub(crate) async fn depth(&mut self, queue: &str) -> Result<u32, AnswerError> {
        self.busy = true;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let declared = self.channel.queue_declare(queue.into(), options, FieldTable::default());
        let queue = self.connection.answer(declared).await?;
        self.busy = false;
        Ok(queue.message_count())
    }
}

/// Takes channels from the connections there are, and checks them. It makes no connection: a caller that leaves while it
/// waits here interrupts nothing.
#[derive(Debug)]
pub(crate) struct ConfirmChannels {
    connections: Connections,
}

impl ConfirmChannels {
    /// What is wrong with the connections, if anything is.
    pub(crate) fn trouble(&self) -> Option<ConnectError> {
        self.connections.trouble()
    }
}

impl managed::Manager for ConfirmChannels {
    type Type = ConfirmChannel;
    type Error = ConnectError;

    async fn create(&self) -> Result<ConfirmChannel, ConnectError> {
        let connection = self.connections.get().await?;
        // It would not be answered before the alarm is over.
        if connection.is_blocked() {
            return Err(ConnectError::Blocked);
        }
        let channel = connection.channel().await;
        let channel = channel.map_err(|error| ConnectError::Channel(error.to_string()))?;
        Ok(ConfirmChannel { channel, connection, busy: false, _open: METERS.publish_channel() })
    }

    async fn recycle(&self, slot: &mut ConfirmChannel, _: &Metrics) -> RecycleResult<ConnectError> {
        let fit = !slot.busy && slot.connection.is_up() && slot.channel.status().connected();
        if fit { Ok(()) } else { Err(RecycleError::message("the channel is closed or in doubt")) }
    }
}
