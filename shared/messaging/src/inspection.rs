//! Looking at a broker piece by piece, where asserting the topology would stop at the first difference, and changing what
//! is declared there.

mod answer;
mod change;
mod difference;
mod login;
mod peek;
mod probe;
mod rights;

use std::{fmt, time::Duration};

use futures_util::{StreamExt as _, future::try_join_all, stream};
use lapin::{
    Channel, Connection, ExchangeKind,
    options::{BasicQosOptions, ExchangeDeclareOptions, QueueDeclareOptions},
    types::FieldTable,
};
use orderfleet_domain::saga::Lane;
use tokio::time::{Instant, timeout};

use crate::{BrokerSettings, ConnectError, Topology, connection::connect, settings::PARTITIONS_MAX};

use answer::{ANSWER_TIMEOUT, PRECONDITION_FAILED, answer, code, is_missing, told};

pub use answer::InspectionError;
pub use difference::Difference;
pub use login::Login;
pub use peek::Peeked;
pub use probe::Probe;
pub use rights::Refusal;

/// Pieces looked at at once, each on a channel of its own: a difference closes the channel it was found on.
const LOOKS_AT_ONCE: usize = 16;
/// Queues of fresh orders asked for at once. Where none of so many in a row is there, none is behind them: each leaves a line
/// in the broker's log.
const PARTITIONS_AT_ONCE: usize = 8;
/// What takes so much longer than the way to the broker and back to be told as empty may not be. The broker waits for a quorum
/// queue for 250 ms.
const SLOW: Duration = Duration::from_millis(200);
/// How often a queue that is told as empty so late is asked for, until it is taken for one that does not tell.
const ASKED_MAX: u32 = 5;
/// Longest wait for the broker to close a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A declared exchange or queue, by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    /// An exchange.
    Exchange(String),
    /// A queue.
    Queue(String),
}

/// What a queue holds, as its leader says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages waiting for a consumer or for their time to live. Those on their way to a dead-letter exchange, at least
    /// once, are not among them.
    ///
    /// Zero is also what the broker says of a quorum queue that has no leader (`rabbit_quorum_queue:stat/2`, RabbitMQ 3.10 to
    /// 4.1): nothing may be thrown away on the strength of it.
    pub ready: u32,
    /// Consumers. Of a quorum queue also those that were cancelled while messages are still in their hands.
    pub consumers: u32,
}

/// What the broker has of a declared exchange or queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// As declared.
    Equal,
    /// Not there.
    Missing,
    /// There, with another property that cannot be changed. The broker tells the first one alone.
    Different(Difference),
    /// The broker did not say, or this user may not ask; why.
    Unknown(String),
}

/// One piece of the declared topology, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// Which.
    pub item: Item,
    /// What the broker has of it.
    pub found: Found,
    /// What it holds, if it is a queue that is there, and tells.
    pub counts: Option<Counts>,
}

/// A connection to look at a broker with. It asserts nothing.
#[derive(Debug)]
pub struct Inspector {
    settings: BrokerSettings,
    topology: Topology,
    name: String,
    connection: Connection,
}

impl Inspector {
    /// Connects, in bounded time; tries once. `name` is shown to operators of the broker.
    ///
    /// # Errors
    /// Wrong settings or credentials, or no answer.
    pub async fn connect(
        settings: &BrokerSettings,
        topology: Topology,
        name: &str,
    ) -> Result<Self, ConnectError> {
        let connection = connect(&settings.address()?, name).await?;
        Ok(Self { settings: settings.clone(), topology, name: name.to_owned(), connection })
    }

    /// The topology that the broker is compared with.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Looks at every declared exchange and queue, in the order of their declaration. Nothing is changed: what is missing is
    /// not declared. Bindings cannot be seen over AMQP.
    pub async fn look(&self) -> Vec<Looked> {
        stream::iter(self.topology.items())
            .map(|item| self.look_at(item))
            .buffered(LOOKS_AT_ONCE)
            .collect()
            .await
    }

    /// What a queue holds now.
    ///
    /// # Errors
    /// There is no such queue, or no answer in time, of the broker or of the queue's leader.
    pub async fn counts(&self, queue: &str) -> Result<Counts, InspectionError> {
        let what = || format!("tell what {queue} holds");
        let asked = async { passive_queue(&self.connection.create_channel().await?, queue).await };
        let silent =
            || InspectionError::NoAnswer { what: what(), text: "its leader is slow to answer".into() };
        answer(what, asked).await?.ok_or_else(silent)
    }

    /// The queues of fresh orders beyond the declared partitions that hold messages, or do not tell (`None`): what is left from
    /// when there were more. Behind a gap of eight and more one may not be found.
    ///
    /// # Errors
    /// No answer in time.
    pub async fn stranded(&self) -> Result<Vec<(String, Option<Counts>)>, InspectionError> {
        let beyond: Vec<_> = (self.topology.partitions()..PARTITIONS_MAX).map(Lane::New).collect();
        let mut stranded = Vec::new();
        for lanes in beyond.chunks(PARTITIONS_AT_ONCE) {
            let asked = lanes.iter().map(|lane| self.if_there(self.topology.queue(lane)));
            let found: Vec<_> = try_join_all(asked).await?.into_iter().flatten().collect();
            if found.is_empty() {
                break;
            }
            let may_hold =
                |(_, counts): &(String, Option<Counts>)| counts.is_none_or(|counts| counts.ready > 0);
            stranded.extend(found.into_iter().filter(may_hold));
        }
        Ok(stranded)
    }

    /// How many messages a queue holds, which this topology need not declare; none where there is no such queue.
    ///
    /// # Errors
    /// No answer in time, of the broker or of the queue's leader.
    pub async fn left_in(&self, queue: &str) -> Result<u32, InspectionError> {
        match self.if_there(queue.to_owned()).await? {
            None => Ok(0),
            Some((_, Some(counts))) => Ok(counts.ready),
            Some((_, None)) => {
                let what = format!("tell what {queue} holds");
                Err(InspectionError::NoAnswer { what, text: "its leader is slow to answer".into() })
            }
        }
    }

    /// A queue and what it holds, if it tells; `None` if it is not there. On a channel of its own, which that answer closes.
    async fn if_there(&self, queue: String) -> Result<Option<(String, Option<Counts>)>, InspectionError> {
        let what = || format!("tell what {queue} holds");
        let asked = async {
            let channel = self.connection.create_channel().await?;
            match passive_queue(&channel, &queue).await {
                Err(error) if is_missing(&error) => Ok(None),
                told => told.map(Some),
            }
        };
        let found = answer(what, asked).await?;
        Ok(found.map(|counts| (queue, counts)))
    }

    /// For what may end a connection.
    async fn another_connection(&self) -> Result<Connection, ConnectError> {
        connect(&self.settings.address()?, &self.name).await
    }

    /// Takes leave of the broker.
    pub async fn close(self) {
        close(self.connection).await;
    }

    async fn look_at(&self, item: Item) -> Looked {
        let looked = timeout(ANSWER_TIMEOUT, self.compare(&item)).await;
        let silent = |_| (Found::Unknown(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())), None);
        let (found, counts) = looked.unwrap_or_else(silent);
        Looked { item, found, counts }
    }

    /// A declaration of something missing would make it, so that is asked first.
    async fn compare(&self, item: &Item) -> (Found, Option<Counts>) {
        let channel = match self.connection.create_channel().await {
            Ok(channel) => channel,
            Err(error) => return (Found::Unknown(told(&error)), None),
        };
        let there = match item {
            Item::Exchange(name) => passive_exchange(&channel, name).await.map(|()| None),
            Item::Queue(name) => passive_queue(&channel, name).await,
        };
        let counts = match there {
            Ok(counts) => counts,
            Err(error) if is_missing(&error) => return (Found::Missing, None),
            Err(error) => return (Found::Unknown(told(&error)), None),
        };
        let found = match self.topology.declare_again(item, &channel).await {
            Ok(()) => Found::Equal,
            Err(error) if code(&error) == Some(PRECONDITION_FAILED) => {
                Found::Different(Difference::parse(&told(&error)))
            }
            Err(error) => Found::Unknown(told(&error)),
        };
        (found, counts)
    }
}

impl Topology {
    /// Every declared exchange and queue.
    fn items(&self) -> Vec<Item> {
        let exchanges = self.exchanges.iter().map(|exchange| Item::Exchange(exchange.name.clone()));
        exchanges.chain(self.queues.iter().map(|queue| Item::Queue(queue.name.clone()))).collect()
    }

    /// Declares something as the topology says. The broker compares, if it is there.
    async fn declare_again(&self, item: &Item, channel: &Channel) -> lapin::Result<()> {
        match item {
            Item::Exchange(name) => match self.exchanges.iter().find(|exchange| exchange.name == *name) {
                Some(exchange) => exchange.declare(channel).await,
                None => Ok(()),
            },
            Item::Queue(name) => match self.queues.iter().find(|queue| queue.name == *name) {
                Some(queue) => queue.declare(channel).await,
                None => Ok(()),
            },
        }
    }
}

impl Item {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Exchange(name) | Self::Queue(name) => name,
        }
    }

    /// `exchange` or `queue`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Exchange(_) => "exchange",
            Self::Queue(_) => "queue",
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.kind(), self.name())
    }
}

async fn close(connection: Connection) {
    let _ = timeout(CLOSE_TIMEOUT, connection.close(200, "looked".into())).await;
}

pub(crate) async fn passive_exchange(channel: &Channel, name: &str) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    // The kind is not looked at.
    channel.exchange_declare(name.into(), ExchangeKind::Topic, options, FieldTable::default()).await
}

/// What a queue holds; `None` where it does not tell: of a quorum queue that is too busy to answer the broker in time, the broker
/// says that it is empty and that nobody consumes it.
async fn passive_queue(channel: &Channel, name: &str) -> lapin::Result<Option<Counts>> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    for _ in 0..ASKED_MAX {
        let asked = Instant::now();
        let queue = channel.queue_declare(name.into(), options, FieldTable::default()).await?;
        let counts = Counts { ready: queue.message_count(), consumers: queue.consumer_count() };
        let took = asked.elapsed();
        if counts != Counts::default() || took < SLOW || took < round_trip(channel).await? + SLOW {
            return Ok(Some(counts));
        }
    }
    Ok(None)
}

/// How long a question takes that the broker answers without asking any queue.
async fn round_trip(channel: &Channel) -> lapin::Result<Duration> {
    let asked = Instant::now();
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    Ok(asked.elapsed())
}
