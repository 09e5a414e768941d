//! A plain quorum queue and a few shared confirm channels.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

/// The quorum queue of everything bare.
pub(in crate::bench) const QUEUE: &str = "bare.orders";
const CONNECTIONS: usize = 2;
const CHANNELS_PER_CONNECTION: usize = 4;
const PERSISTENT: u8 = 2;

/// Confirm channels that many publishes share at once.
#[derive(Debug)]
pub(in crate::bench) struct Channels {
    channels: Vec<Channel>,
    _connections: Vec<Connection>,
    next: AtomicUsize,
}

/// A connection of its own, with the queue declared.
pub(super) async fn connect(url: &str) -> anyhow::Result<Connection> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.context("the broker")?;
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(QUEUE.into(), QueueDeclareOptions::durable(), arguments).await?;
    Ok(connection)
}

impl Channels {
    /// Opens them.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub(in crate::bench) async fn open(url: &str) -> anyhow::Result<Self> {
        let (mut channels, mut connections) = (Vec::new(), Vec::new());
        for _ in 0..CONNECTIONS {
            let connection = connect(url).await?;
            for _ in 0..CHANNELS_PER_CONNECTION {
                let channel = connection.create_channel().await?;
                channel.confirm_select(ConfirmSelectOptions { nowait: false }).await?;
                channels.push(channel);
            }
            connections.push(connection);
        }
        Ok(Self { channels, _connections: connections, next: AtomicUsize::new(0) })
    }

    /// Publishes one persistent message and waits for its confirm.
    ///
    /// # Errors
    /// When it is not confirmed.
    pub(in crate::bench) async fn publish(&self, id: &str, body: &[u8]) -> anyhow::Result<()> {
        let channel = &self.channels[self.next.fetch_add(1, Ordering::Relaxed) % self.channels.len()];
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT).with_message_id(id.into());
        let sent = channel.basic_publish("".into(), QUEUE.into(), options, body, properties);
        let confirmation = sent.await?.await?;
        ensure!(matches!(confirmation, Confirmation::Ack(None)), "not confirmed: {confirmation:?}");
        Ok(())
    }
}
