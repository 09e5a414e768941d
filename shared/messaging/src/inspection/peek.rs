//! Looking at the messages of a queue where they lie. A broker has no read-only look: a message is delivered, and given back.

use std::time::Duration;

use lapin::{
    Channel, Connection,
    message::BasicGetMessage,
    options::{BasicGetOptions, BasicNackOptions},
    types::AMQPValue,
};
use tokio::time::Instant;

use super::{InspectionError, Inspector, answer::answer, close};
use crate::Headers;

/// Most bytes of bodies that a look has in hand.
const BYTES_MAX: usize = 32 << 20;
/// So long, and one answer of the broker longer, a look keeps messages from their consumers.
const LOOK_MAX: Duration = Duration::from_secs(5);
/// A look ends at a message that was given back this often, half of what takes it out of its queue: the cost of further looks is the
/// first message's alone. How often a message was given back is seen only by getting it, so that one has no bound.
const RETURNS_MAX: i64 = 10;
const RETURNS: &str = "x-delivery-count";

/// A message as it lies in its queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Peeked {
    /// Its body.
    pub body: Vec<u8>,
    /// Its allowed headers.
    pub headers: Headers,
}

impl Inspector {
    /// The first messages of a queue, at most `limit`; the last of them may be one of which the broker has counted ten returns.
    /// Fewer where bodies come to 32 MiB, or the look takes more than 5 seconds; meanwhile nobody else gets them.
    ///
    /// Each is delivered and given back, in its place. A quorum queue counts that as one of the deliveries that take a message
    /// out of its queue in the end (measured on RabbitMQ 3.10.8 and 4.0.5; the management API's `get` is the same), and
    /// its next delivery is marked as a repeated one. A second call counts once more, and of the first message in line every call does,
    /// without a bound: do not call it in a loop. A crash, or a connection that is lost, gives them back too, at the same price.
    ///
    /// # Errors
    /// There is no such queue, this user may not read it, or no answer in time.
    pub async fn peek(&self, queue: &str, limit: u32) -> Result<Vec<Peeked>, InspectionError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        // The broker ends the connection of who asks a queue without a leader for a message.
        let connection = self.another_connection().await?;
        let peeked = peek(&connection, queue, limit).await;
        close(connection).await;
        peeked
    }
}

async fn peek(connection: &Connection, queue: &str, limit: u32) -> Result<Vec<Peeked>, InspectionError> {
    let what = || format!("show the messages of {queue}");
    let channel = answer(what, connection.create_channel()).await?;
    let mut peeked = Vec::new();
    let (mut last, mut bytes) = (None, 0);
    let until = Instant::now() + LOOK_MAX;
    while peeked.len() < limit as usize && bytes < BYTES_MAX && Instant::now() < until {
        let asked = channel.basic_get(queue.into(), BasicGetOptions { no_ack: false });
        let Some(message) = answer(what, asked).await? else { break };
        last = Some(message.delivery_tag);
        bytes += message.data.len();
        let spared = returns(&message) < RETURNS_MAX;
        let headers = Headers::received(&message.properties, false);
        peeked.push(Peeked { body: message.delivery.data, headers });
        if !spared {
            break;
        }
    }
    if let Some(tag) = last {
        give_back(&channel, tag).await;
    }
    Ok(peeked)
}

/// All up to this one. Whatever comes of it: the broker gives them back when the connection ends.
async fn give_back(channel: &Channel, tag: u64) {
    let options = BasicNackOptions { multiple: true, requeue: true };
    if let Err(error) = channel.basic_nack(tag, options).await {
        tracing::debug!(%error, "giving messages back");
    }
}

/// How often the broker has counted it as given back. What it does not tell is none.
fn returns(message: &BasicGetMessage) -> i64 {
    let headers = message.properties.headers().as_ref();
    match headers.and_then(|headers| headers.inner().get(RETURNS)) {
        Some(AMQPValue::LongLongInt(count)) => *count,
        Some(AMQPValue::LongInt(count)) => i64::from(*count),
        Some(AMQPValue::LongUInt(count)) => i64::from(*count),
        _ => 0,
    }
}
