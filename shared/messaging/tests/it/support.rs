//! A fleet of its own per test: a prefix, the topology under it, and hands to look into its queues.

mod clean_up;
mod faulty;
mod running;

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use lapin::{
    Channel, Connection, ConnectionProperties,
    message::BasicGetMessage,
    options::{BasicGetOptions, QueueDeclareOptions},
    types::FieldTable,
};
use orderfleet_domain::{StepName, saga::Lane};
use orderfleet_messaging::{
    BrokerSettings, Consumer, Control, Destination, Headers, Outgoing, PublishError, Publisher, Subscription,
    Topology,
};
use orderfleet_native::{RabbitMq, RabbitMqOptions, Services, TempFolder};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep},
};

use clean_up::CleanUp;
pub(crate) use faulty::Faulty;
pub(crate) use running::{Running, text};

/// For whatever must happen; far longer than it takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// A prefix on a broker, with its settings and topology. On the shared broker everything under the prefix is deleted
/// when this is dropped, also when the test fails.
pub(crate) struct Fleet {
    pub(crate) settings: BrokerSettings,
    /// A connection of the test's own, to look at the broker past the code that is tested.
    raw: Connection,
    _clean_up: Option<CleanUp>,
}

impl Fleet {
    /// On the broker that all tests share.
    pub(crate) async fn new() -> Self {
        let services = Services::from_env_or_start().await.unwrap();
        let mut fleet = Self::at(services.amqp_url()).await;
        fleet._clean_up = Some(CleanUp::new(&fleet.settings, &fleet.topology()));
        fleet
    }

    /// As [`Fleet::new`], with a minute for every confirm, for tests that load the broker.
    pub(crate) async fn patient() -> Self {
        let mut fleet = Self::new().await;
        fleet.settings.confirm_timeout_ms = 60_000;
        fleet
    }

    /// On a broker that is the test's own and leaves nothing behind anyway.
    pub(crate) async fn at(amqp_url: &str) -> Self {
        static FLEETS: AtomicU32 = AtomicU32::new(0);
        let number = FLEETS.fetch_add(1, Ordering::Relaxed);
        let settings = BrokerSettings {
            url: amqp_url.to_owned(),
            prefix: format!("t{}-{number}.", process::id()),
            ..BrokerSettings::default()
        };
        let raw = connect(amqp_url).await;
        Self { settings, raw, _clean_up: None }
    }

    pub(crate) fn topology(&self) -> Topology {
        let BrokerSettings { prefix, partitions, new_bytes_max, .. } = &self.settings;
        Topology::new(prefix, *partitions, *new_bytes_max, &[inventory()])
    }

    pub(crate) async fn publisher(&self) -> Publisher {
        Publisher::connect(&self.settings, self.topology(), "test").await.unwrap()
    }

    pub(crate) fn consumer(&self, subscriptions: Vec<Subscription>) -> Consumer {
        let (settings, topology) = (self.settings.clone(), self.topology());
        let paused = watch::channel(false).1;
        Consumer { settings, topology, name: "test".into(), subscriptions, paused }
    }

    /// Subscribes to the queue behind a lane; deliveries are handed to the test, which acks them or does not.
    pub(crate) async fn consume(&self, lane: Lane, prefetch: u16) -> Running {
        let permits = prefetch.into();
        Running::start(self.consumer(vec![subscription(lane, prefetch, permits)])).await
    }

    pub(crate) fn queue(&self, lane: &Lane) -> String {
        self.topology().queue(lane)
    }

    /// A channel past the code that is tested. One that the broker closes takes nothing else with it.
    pub(crate) async fn channel(&self) -> Channel {
        self.raw.create_channel().await.unwrap()
    }

    /// Ready messages of a queue, as the broker says.
    pub(crate) async fn ready(&self, queue: &str) -> u32 {
        self.look(queue).await.message_count()
    }

    /// Waits until the broker says that nobody consumes a queue, which it does a little late.
    pub(crate) async fn until_unconsumed(&self, queue: &str) {
        eventually(&format!("no consumer of {queue}"), async || {
            (self.look(queue).await.consumer_count() == 0).then_some(())
        })
        .await;
    }

    async fn look(&self, queue: &str) -> lapin::Queue {
        let channel = self.channel().await;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        eventually(&format!("an answer for {queue}"), async || {
            let asked = Instant::now();
            let found = channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
            // A quorum queue that has not answered the broker within 250 ms is told as empty and unconsumed.
            let is_told = found.message_count() + found.consumer_count() > 0;
            (is_told || asked.elapsed() < Duration::from_millis(200)).then_some(found)
        })
        .await
    }

    pub(crate) async fn until_ready(&self, queue: &str, count: u32) {
        eventually(&format!("{count} in {queue}"), async || (self.ready(queue).await == count).then_some(()))
            .await;
    }

    /// Takes one message out of a queue for good, once there is one.
    pub(crate) async fn take(&self, queue: &str) -> BasicGetMessage {
        let channel = self.channel().await;
        let options = BasicGetOptions { no_ack: true };
        eventually(&format!("a message in {queue}"), async || {
            channel.basic_get(queue.into(), options).await.unwrap()
        })
        .await
    }
}

/// A broker that is the test's own, to break it.
pub(crate) struct OwnBroker {
    pub(crate) server: RabbitMq,
    pub(crate) fleet: Fleet,
    // Last, so that the server has ended before its folder is removed.
    _folder: TempFolder,
}

impl OwnBroker {
    pub(crate) async fn start() -> Self {
        let folder = TempFolder::new().unwrap();
        let server = RabbitMq::start(folder.path(), RabbitMqOptions::default()).await.unwrap();
        let fleet = Fleet::at(&server.amqp_url()).await;
        Self { server, fleet, _folder: folder }
    }
}

pub(crate) async fn connect(amqp_url: &str) -> Connection {
    Connection::connect(amqp_url, ConnectionProperties::default()).await.unwrap()
}

pub(crate) fn inventory() -> StepName {
    "inventory".parse().unwrap()
}

pub(crate) fn subscription(lane: Lane, prefetch: u16, permits: usize) -> Subscription {
    let (permits, control) = (Arc::new(Semaphore::new(permits)), Control::default());
    Subscription { lane, prefetch, permits, control }
}

pub(crate) fn outgoing(destination: Destination, body: &str) -> Outgoing {
    Outgoing { destination, headers: Headers::new("place"), body: Bytes::copy_from_slice(body.as_bytes()) }
}

pub(crate) fn to_lane(lane: Lane, body: &str) -> Outgoing {
    outgoing(Destination::Lane(lane), body)
}

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "in time: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Publishes, and again while nothing was sent: on a busy machine not everybody gets a channel in time.
pub(crate) async fn publish_in_time(publisher: &Publisher, outgoing: &Outgoing) -> Result<(), PublishError> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match publisher.publish(outgoing).await {
            Err(PublishError::NotSent(_)) if Instant::now() < deadline => tokio::task::yield_now().await,
            settled => return settled,
        }
    }
}

/// An error with all its causes.
pub(crate) fn whole_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
