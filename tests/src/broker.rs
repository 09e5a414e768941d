//! The broker as an operator sees it: queue depths, taps on exchanges, messages taken out and put in.

use std::collections::BTreeMap;

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Queue,
    message::Delivery,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use orderfleet_messaging::Topology;
use tokio::time::{Duration, Instant};

use crate::{SERVICES, until, until_equal};

/// A connection of its own to a fleet's broker. Names are given without the fleet's prefix.
#[derive(Debug)]
pub struct Broker {
    // Closed when dropped.
    connection: Connection,
    channel: Channel,
    prefix: String,
}

/// A message as it was taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The routing key it was published with.
    pub routing_key: String,
    /// The AMQP type.
    pub kind: String,
    /// Headers that are texts.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
}

/// A queue that gets what an exchange routes from now on; it ends with its [`Broker`].
#[derive(Debug)]
pub struct Tap {
    channel: Channel,
    queue: String,
}

impl Broker {
    pub(crate) async fn connect(url: &str, prefix: &str) -> Self {
        Self::try_connect(url, prefix).await.unwrap()
    }

    pub(crate) async fn try_connect(url: &str, prefix: &str) -> lapin::Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions { nowait: false }).await?;
        Ok(Self { connection, channel, prefix: prefix.to_owned() })
    }

    /// Ready messages in a queue.
    ///
    /// # Panics
    /// When there is no such queue.
    pub async fn depth(&self, queue: &str) -> u32 {
        self.look(queue).await.message_count()
    }

    /// Waits until a queue has no consumer: the broker may deliver to a process for a moment after its end.
    ///
    /// # Panics
    /// When there is no such queue, or it still has one by the deadline.
    pub async fn until_unconsumed(&self, queue: &str) {
        until_equal(&format!("consumers of {queue}"), 0, async || self.look(queue).await.consumer_count())
            .await;
    }

    async fn look(&self, queue: &str) -> Queue {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let name = format!("{}{queue}", self.prefix);
        until(&format!("an answer for {queue}"), async || {
            let asked = Instant::now();
            let declared = self.channel.queue_declare(name.as_str().into(), options, FieldTable::default());
            let found = declared.await.unwrap();
            // A quorum queue that has not answered the broker within 250 ms is told as empty and unconsumed.
            let is_told = found.message_count() + found.consumer_count() > 0;
            if is_told || asked.elapsed() < Duration::from_millis(200) {
                Ok(found)
            } else {
                Err("a slow zero")
            }
        })
        .await
    }

    /// Ready messages in every queue of the fleet that is not empty.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub async fn depths(&self) -> BTreeMap<String, u32> {
        let mut depths = BTreeMap::new();
        for queue in topology("").queue_names() {
            depths.insert(queue.to_owned(), self.depth(queue).await);
        }
        depths.retain(|_, depth| *depth > 0);
        depths
    }

    /// Waits until a queue holds so many ready messages.
    ///
    /// # Panics
    /// When it does not by the deadline.
    pub async fn until_depth(&self, queue: &str, depth: u32) {
        until_equal(&format!("messages in {queue}"), depth, async || self.depth(queue).await).await;
    }

    /// Publishes a body straight into a queue, and waits for the confirm.
    ///
    /// # Panics
    /// When it is not confirmed.
    pub async fn publish(&self, queue: &str, body: &[u8]) {
        self.try_publish(queue, body).await.unwrap();
    }

    /// As [`Broker::publish`], where the broker may be in trouble.
    ///
    /// # Errors
    /// When it is not confirmed: the message may be in the queue all the same.
    pub async fn try_publish(&self, queue: &str, body: &[u8]) -> anyhow::Result<()> {
        let name = format!("{}{queue}", self.prefix);
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let properties = BasicProperties::default().with_delivery_mode(2);
        let published =
            self.channel.basic_publish("".into(), name.as_str().into(), options, body, properties);
        let confirmation = published.await?.await?;
        anyhow::ensure!(matches!(confirmation, Confirmation::Ack(None)), "{queue}: {confirmation:?}");
        Ok(())
    }

    /// Takes all ready messages out of a queue.
    ///
    /// # Panics
    /// When there is no such queue.
    pub async fn take_all(&self, queue: &str) -> Vec<Message> {
        take_all(&self.channel, &format!("{}{queue}", self.prefix)).await
    }

    /// Declares a durable queue and binds it to an exchange: it outlives this connection and a restart of the broker.
    ///
    /// # Panics
    /// When there is no such exchange.
    pub async fn keep(&self, queue: &str, exchange: &str, routing_key: &str) {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let name = format!("{}{queue}", self.prefix);
        let declared =
            self.channel.queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), arguments);
        declared.await.unwrap();
        self.bind(queue, exchange, routing_key).await;
    }

    /// Deletes a queue of [`Broker::keep`] with what is in it.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub async fn remove(&self, queue: &str) {
        let options = QueueDeleteOptions { if_unused: false, if_empty: false, nowait: false };
        let name = format!("{}{queue}", self.prefix);
        self.channel.queue_delete(name.as_str().into(), options).await.unwrap();
    }

    /// Binds a queue to an exchange; a second call changes nothing.
    ///
    /// # Panics
    /// When one of the two is missing.
    pub async fn bind(&self, queue: &str, exchange: &str, routing_key: &str) {
        let (queue, exchange) = (format!("{}{queue}", self.prefix), format!("{}{exchange}", self.prefix));
        let (queue, exchange) = (queue.as_str().into(), exchange.as_str().into());
        let options = QueueBindOptions { nowait: false };
        let bound =
            self.channel.queue_bind(queue, exchange, routing_key.into(), options, FieldTable::default());
        bound.await.unwrap();
    }

    /// Takes a binding away; a second call changes nothing.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub async fn unbind(&self, queue: &str, exchange: &str, routing_key: &str) {
        let (queue, exchange) = (format!("{}{queue}", self.prefix), format!("{}{exchange}", self.prefix));
        let (queue, exchange) = (queue.as_str().into(), exchange.as_str().into());
        let unbound = self.channel.queue_unbind(queue, exchange, routing_key.into(), FieldTable::default());
        unbound.await.unwrap();
    }

    /// Whether the connection is still there.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connection.status().connected()
    }

    /// Binds a queue of its own to an exchange.
    ///
    /// # Panics
    /// When there is no such exchange.
    pub async fn tap(&self, exchange: &str, routing_key: &str) -> Tap {
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let declared = self.channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap();
        let queue = declared.name().to_string();
        let exchange = format!("{}{exchange}", self.prefix);
        let bound = self.channel.queue_bind(
            queue.as_str().into(),
            exchange.as_str().into(),
            routing_key.into(),
            QueueBindOptions { nowait: false },
            FieldTable::default(),
        );
        bound.await.unwrap();
        Tap { channel: self.channel.clone(), queue }
    }
}

impl Tap {
    /// Waits until so many messages have come, and takes all there are.
    ///
    /// # Panics
    /// When fewer have come by the deadline.
    pub async fn take(&self, count: usize) -> Vec<Message> {
        let mut taken = Vec::new();
        until(&format!("{count} messages come by"), async || {
            taken.extend(take_all(&self.channel, &self.queue).await);
            if taken.len() >= count { Ok(()) } else { Err(taken.clone()) }
        })
        .await;
        taken
    }
}

/// The topology that every fleet of these tests has.
pub(crate) fn topology(prefix: &str) -> Topology {
    let steps = SERVICES.map(|name| name.parse().unwrap());
    Topology::new(prefix, 1, 1 << 30, &steps)
}

async fn take_all(channel: &Channel, queue: &str) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(got) = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap() {
        messages.push(message(&got.delivery));
    }
    messages
}

fn message(delivery: &Delivery) -> Message {
    let headers = delivery.properties.headers().clone().unwrap_or_default();
    let text = |(name, value): (&lapin::types::ShortString, &AMQPValue)| {
        let text = String::from_utf8_lossy(value.as_long_string()?.as_bytes()).into_owned();
        Some((name.to_string(), text))
    };
    Message {
        routing_key: delivery.routing_key.to_string(),
        kind: delivery.properties.kind().as_ref().map(ToString::to_string).unwrap_or_default(),
        headers: headers.inner().iter().filter_map(text).collect(),
        body: delivery.data.clone(),
    }
}
