//! A tiny message through a queue of our own, and what the broker says of itself: nothing that others could notice.

use std::time::Duration;

use futures_util::{AsyncReadExt as _, AsyncWriteExt as _, Stream, StreamExt as _};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, Event,
    options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    tcp::AMQPUriTcpExt as _,
    types::{FieldTable, ShortString},
    uri::AMQPUri,
};
use tokio::time::{Instant, timeout};

use super::{
    InspectionError, Inspector,
    answer::{ANSWER_TIMEOUT, answer},
    close,
};
use crate::ConnectError;

/// Longest wait for our own message to come back.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(5);
/// An alarm is told once the broker has read a publish: about when it confirms it, and not always before.
const ALARM_TOLD_WITHIN: Duration = Duration::from_millis(500);
/// AMQP 0-9-1 specification, section 4.2.2: protocol header.
const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
/// Section 4.2.5.5: in the table of the server's properties, the name with its length, then a long string.
const VERSION_FIELD: &[u8] = b"\x07versionS";
const FRAME_HEADER_BYTES: usize = 7;
const FRAME_BYTES_MAX: u64 = 64 * 1024;

/// What came of a tiny message to a queue of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The broker blocks publishing, and why: a memory or disk alarm.
    pub blocked: Option<String>,
    /// From the publish until the message was confirmed and had come back; `None` if it has not.
    pub round_trip: Option<Duration>,
}

impl Inspector {
    /// Publishes a tiny message, mandatory, to a queue that is ours alone, and consumes it back, on a connection of its own.
    /// The queue is gone with the connection.
    ///
    /// # Errors
    /// The broker refuses a part of it, or does not answer.
    pub async fn probe(&self) -> Result<Probe, InspectionError> {
        let connection = self.another_connection().await?;
        let probed = probe(&connection).await;
        close(connection).await;
        probed
    }

    /// The version the broker tells when a connection begins, such as `4.0.5`. On a connection of its own, since the client
    /// keeps it to itself.
    ///
    /// # Errors
    /// It does not answer, or tells none.
    pub async fn version(&self) -> Result<String, InspectionError> {
        let address = self.settings.address().map_err(ConnectError::Setting)?;
        let no_answer = |text: String| InspectionError::NoAnswer { what: "tell its version".into(), text };
        // The parser's own words repeat the address.
        let uri: AMQPUri = address.parse().map_err(|_| no_answer("its address is none".into()))?;
        let start = timeout(ANSWER_TIMEOUT, connection_start(&uri)).await;
        let start = start.map_err(|_| no_answer("no answer in time".into()))?;
        let start = start.map_err(|error| no_answer(error.to_string()))?;
        version_in(&start).ok_or_else(|| no_answer("there is none in its greeting".into()))
    }
}

async fn probe(connection: &Connection) -> Result<Probe, InspectionError> {
    let events = connection.events_listener();
    let what = || "take a message into a queue of our own and give it back".to_owned();
    let (channel, queue) = answer(what, own_queue(connection)).await?;
    let mut alarm = std::pin::pin!(alarm(events));
    let begun = Instant::now();
    let came_back = tokio::select! {
        biased;
        reason = &mut alarm => return Ok(Probe { blocked: Some(reason), round_trip: None }),
        came_back = timeout(ROUND_TRIP_MAX, round_trip(&channel, &queue)) => came_back,
    };
    let round_trip = match came_back {
        Ok(came_back) => answer(what, async { came_back }).await?.then(|| begun.elapsed()),
        Err(_) => None,
    };
    let blocked = timeout(ALARM_TOLD_WITHIN, alarm).await.ok();
    Ok(Probe { blocked, round_trip })
}

async fn own_queue(connection: &Connection) -> lapin::Result<(Channel, ShortString)> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions { nowait: false }).await?;
    let options = QueueDeclareOptions {
        passive: false,
        durable: false,
        exclusive: true,
        auto_delete: true,
        nowait: false,
    };
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?;
    Ok((channel, queue.name().clone()))
}

/// Consumes first: a broker with an alarm reads nothing more from a connection that has published.
async fn round_trip(channel: &Channel, queue: &ShortString) -> lapin::Result<bool> {
    let options = BasicConsumeOptions { no_local: false, no_ack: true, exclusive: true, nowait: false };
    let mut consumer =
        channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default()).await?;
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let properties = BasicProperties::default();
    let published = channel.basic_publish("".into(), queue.clone(), options, b"probe", properties).await?;
    let confirmed = matches!(published.await?, Confirmation::Ack(None));
    Ok(confirmed && consumer.next().await.transpose()?.is_some())
}

/// Waits for an alarm, without end.
async fn alarm(mut events: impl Stream<Item = Event> + Unpin) -> String {
    loop {
        match events.next().await {
            Some(Event::ConnectionBlocked(reason)) => return reason,
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

/// The payload of the first frame a broker sends.
async fn connection_start(uri: &AMQPUri) -> std::io::Result<Vec<u8>> {
    let runtime = lapin::runtime::default_runtime().map_err(std::io::Error::other)?;
    let mut stream = uri.connect_async(&runtime).await?;
    stream.write_all(PROTOCOL_HEADER).await?;
    stream.flush().await?;
    let mut header = [0; FRAME_HEADER_BYTES];
    stream.read_exact(&mut header).await?;
    let [_, _, _, size @ ..] = header;
    let mut payload = Vec::new();
    stream.take(u64::from(u32::from_be_bytes(size)).min(FRAME_BYTES_MAX)).read_to_end(&mut payload).await?;
    Ok(payload)
}

fn version_in(payload: &[u8]) -> Option<String> {
    let name = payload.windows(VERSION_FIELD.len()).position(|window| window == VERSION_FIELD)?;
    let value = payload.get(name + VERSION_FIELD.len()..)?;
    let size = usize::try_from(u32::from_be_bytes(value.get(..4)?.try_into().ok()?)).ok()?;
    Some(String::from_utf8_lossy(value.get(4..size.checked_add(4)?)?).into_owned())
}
