//! Supervised consuming: re-subscribes after anything that ends a subscription, drains when asked to.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _, StreamExt as _,
    stream::{self, BoxStream, SelectAll},
};
use lapin::{
    Acker, Channel, Connection,
    message::Delivery as AmqpDelivery,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions},
    types::FieldTable,
};
use orderfleet_domain::saga::Lane;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    BrokerSettings, ConnectError, Delays, Headers, Topology,
    connection::{CONNECT_TIMEOUT, chain, connect},
};

/// How often the connection is looked at while no delivery comes.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for the broker to let go of a consumer or a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// A session that lived this long was a good one: the next reconnect starts with the shortest delay.
const GOOD_SESSION: Duration = Duration::from_secs(30);

/// One queue to consume.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Which lane.
    pub lane: Lane,
    /// Unacked deliveries of this queue at once. What a crashing worker holds is charged a delivery each, so small.
    pub prefetch: u16,
    /// Shared by subscriptions that together may work on so many deliveries at once.
    pub permits: Arc<Semaphore>,
}

/// A message in hand.
#[derive(Debug)]
pub struct Delivery {
    /// The lane it came by, for copies.
    pub lane: Lane,
    /// Its body.
    pub body: Bytes,
    /// Its allowed headers.
    pub headers: Headers,
    /// As `headers`, with those only newer builds know.
    pub all_headers: Headers,
    /// Whether the broker delivered it before.
    pub redelivered: bool,
    acker: Acker,
}

impl Delivery {
    /// Acknowledges it, on the channel that delivered it; no use after that channel is gone: then the broker delivers
    /// it again, and whoever gets it finds the document as it is.
    pub async fn ack(self) {
        if let Err(error) = self.acker.ack(BasicAckOptions { multiple: false }).await {
            tracing::debug!(%error, "ack on a lost channel; the delivery will come again");
        }
    }

    /// Gives it back unstarted. RabbitMQ 3.10 counts this as a delivery.
    pub async fn give_back(self) {
        let _ = self.acker.nack(BasicNackOptions { multiple: false, requeue: true }).await;
    }
}

/// Consumes a set of queues on a connection of its own, for as long as the process lives.
#[derive(Debug)]
pub struct Consumer {
    /// The broker.
    pub settings: BrokerSettings,
    /// What is asserted before every subscription.
    pub topology: Topology,
    /// Name of the connection, for operators.
    pub name: String,
    /// The queues.
    pub subscriptions: Vec<Subscription>,
}

/// What a consumer tells of itself.
pub trait Observer: Send + Sync + 'static {
    /// All queues are subscribed.
    fn subscribed(&self);
    /// The subscriptions are lost and will be made again.
    fn lost(&self, why: &str);
    /// The supervisor has looked after its session; called at least every few seconds while it can.
    fn alive(&self);
}

impl Consumer {
    /// Consumes until the token is cancelled: then cancels the subscriptions, gives back what was not started, and
    /// returns when every started delivery has been handled. A broker that is down is waited for, without end.
    ///
    /// # Errors
    /// Only before the first subscription: wrong settings, or a topology that differs.
    pub async fn run<F, Handled>(
        &self,
        observer: &impl Observer,
        shutdown: CancellationToken,
        handle: F,
    ) -> Result<(), ConnectError>
    where
        F: Fn(Delivery) -> Handled + Clone + Send + 'static,
        Handled: Future<Output = ()> + Send + 'static,
    {
        let mut delays = Delays::new(Duration::from_millis(100), Duration::from_secs(5));
        let tasks = TaskTracker::new();
        let mut subscribed_once = false;
        while !shutdown.is_cancelled() {
            let started = Instant::now();
            let error = match self.session(observer, &shutdown, &tasks, &handle, &mut subscribed_once).await {
                Ok(()) => break,
                Err(SessionError::Connect(error)) if !subscribed_once && !error.is_transient() => {
                    return Err(error);
                }
                Err(error) => error,
            };
            let why = chain(&error);
            tracing::warn!(error = why, "subscriptions lost");
            observer.lost(&why);
            if started.elapsed() > GOOD_SESSION {
                delays.reset();
            }
            tokio::select! {
                () = tokio::time::sleep(delays.next_delay()) => {}
                () = shutdown.cancelled() => {}
            }
            observer.alive();
        }
        tasks.close();
        tasks.wait().await;
        Ok(())
    }

    /// One connection's life. `Ok` when it was told to shut down and every started delivery has been handled.
    async fn session<F, Handled>(
        &self,
        observer: &impl Observer,
        shutdown: &CancellationToken,
        tasks: &TaskTracker,
        handle: &F,
        subscribed_once: &mut bool,
    ) -> Result<(), SessionError>
    where
        F: Fn(Delivery) -> Handled + Clone + Send + 'static,
        Handled: Future<Output = ()> + Send + 'static,
    {
        let address = self.settings.address().map_err(ConnectError::Setting)?;
        let connection = connect(&address, &format!("{} consuming", self.name)).await?;
        let subscribing = async {
            self.topology.assert(&connection).await.map_err(ConnectError::Topology)?;
            self.subscribe(&connection).await
        };
        let subscribed = tokio::time::timeout(CONNECT_TIMEOUT, subscribing).await;
        let (channels, mut deliveries) = subscribed.map_err(|_| ConnectError::Timeout)??;
        *subscribed_once = true;
        observer.subscribed();
        tracing::info!(queues = self.subscriptions.len(), "subscribed");

        // When this session ends, deliveries of it that nobody has started are forgotten: their channel is gone.
        let lost = CancellationToken::new();
        let _lost_at_the_end = lost.clone().drop_guard();
        let mut watch = tokio::time::interval(WATCH_EVERY);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = watch.tick() => {
                    observer.alive();
                    if !connection.status().connected() {
                        return Err(SessionError::Ended("the connection is gone".into()));
                    }
                }
                next = deliveries.next() => match next {
                    Some((index, Some(Ok(delivery)))) => self.spawn(index, delivery, (shutdown, &lost), tasks, handle),
                    Some((_, Some(Err(error)))) => return Err(SessionError::Lost(error)),
                    Some((index, None)) => {
                        let queue = self.topology.queue(&self.subscriptions[index].lane);
                        return Err(SessionError::Ended(format!("the broker cancelled the consumer of {queue}")));
                    }
                    None => return Err(SessionError::Ended("no subscription".into())),
                },
            }
        }
        for (index, channel) in channels.iter().enumerate() {
            let cancel =
                channel.basic_cancel(tag(index).as_str().into(), BasicCancelOptions { nowait: false });
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, cancel).await;
        }
        // Every cancelled stream has an end among what it still holds.
        while let Some(Some((index, next))) = deliveries.next().now_or_never() {
            if let Some(Ok(delivery)) = next {
                self.spawn(index, delivery, (shutdown, &lost), tasks, handle);
            }
        }
        tasks.close();
        tasks.wait().await;
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, connection.close(200, "drained".into())).await;
        Ok(())
    }

    async fn subscribe(&self, connection: &Connection) -> Result<(Vec<Channel>, Deliveries), SessionError> {
        let mut channels = Vec::new();
        let mut deliveries = SelectAll::new();
        for (index, subscription) in self.subscriptions.iter().enumerate() {
            let channel = connection.create_channel().await.map_err(SessionError::Lost)?;
            let per_consumer = BasicQosOptions { global: false };
            channel.basic_qos(subscription.prefetch, per_consumer).await.map_err(SessionError::Lost)?;
            let queue = self.topology.queue(&subscription.lane);
            let options =
                BasicConsumeOptions { no_local: false, no_ack: false, exclusive: false, nowait: false };
            let consumer = channel
                .basic_consume(
                    queue.as_str().into(),
                    tag(index).as_str().into(),
                    options,
                    FieldTable::default(),
                )
                .await
                .map_err(SessionError::Lost)?;
            // The end of a stream must be seen: a consumer that the broker cancelled looks healthy otherwise.
            let stream = consumer.map(Some).chain(stream::once(async { None }));
            deliveries.push(stream.map(move |delivery| (index, delivery)).boxed());
            channels.push(channel);
        }
        Ok((channels, deliveries))
    }

    fn spawn<F, Handled>(
        &self,
        index: usize,
        delivery: AmqpDelivery,
        (shutdown, lost): (&CancellationToken, &CancellationToken),
        tasks: &TaskTracker,
        handle: &F,
    ) where
        F: Fn(Delivery) -> Handled + Clone + Send + 'static,
        Handled: Future<Output = ()> + Send + 'static,
    {
        let subscription = &self.subscriptions[index];
        let permits = Arc::clone(&subscription.permits);
        let delivery = Delivery {
            lane: lane_of(&subscription.lane, delivery.routing_key.as_str()),
            headers: Headers::received(&delivery.properties, false),
            all_headers: Headers::received(&delivery.properties, true),
            redelivered: delivery.redelivered,
            body: Bytes::from(delivery.data),
            acker: delivery.acker,
        };
        let (shutdown, lost, handle) = (shutdown.clone(), lost.clone(), handle.clone());
        tasks.spawn(async move {
            let permit = tokio::select! {
                biased;
                () = lost.cancelled() => return,
                () = shutdown.cancelled() => None,
                permit = permits.acquire() => permit.ok(),
            };
            match permit {
                Some(_permit) => handle(delivery).await,
                None => delivery.give_back().await,
            }
        });
    }
}

type Deliveries = SelectAll<BoxStream<'static, (usize, Option<lapin::Result<AmqpDelivery>>)>>;

fn tag(index: usize) -> String {
    format!("orderfleet-{index}")
}

/// The lane a delivery came by. Only compensations carry more in their routing key than the queue says.
fn lane_of(subscribed: &Lane, routing_key: &str) -> Lane {
    let step = routing_key.strip_prefix("compensate.").and_then(|step| step.parse().ok());
    match (subscribed, step) {
        (Lane::Compensate(_), Some(step)) => Lane::Compensate(step),
        (lane, _) => lane.clone(),
    }
}

#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("a channel was lost")]
    Lost(#[source] lapin::Error),
    #[error("{0}")]
    Ended(String),
}
