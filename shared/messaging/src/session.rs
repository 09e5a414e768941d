//! One connection's life: a channel per queue, consumed or resting.
//!
//! The channels outlive a pause, because a delivery can only be acked on the channel that brought it.

use std::{sync::Arc, time::Duration};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{join_all, try_join_all},
    stream::{self, BoxStream, SelectAll},
};
use lapin::{
    Channel, Connection,
    message::Delivery as AmqpDelivery,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::{interval, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    ConnectError, Consumer, Control, Delivery, Observer, Source, Subscription,
    acks::Acks,
    connection::{CONNECT_TIMEOUT, connect},
    delivery::InHand,
    meters::{METERS, Open, delivery_waiting},
    trace::{Origin, Server},
};

/// How often the connection is looked at while no delivery comes.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked which queues are paused, and which may be subscribed again.
const OBEY_EVERY: Duration = Duration::from_millis(200);
/// What waits for its turn is given back when its queue has been paused for so long: by then all other workers are paused, or
/// it would go from one to the next, charged a delivery each time.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(1);
/// Longest wait for the broker to let go of a consumer or a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What all sessions of a consumer share: how a delivery is handled, what is being handled, and when to stop.
pub(crate) struct Work<F> {
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
    pub(crate) handle: F,
}

impl<F> Work<F> {
    /// Waits until everything that was started has been handled.
    pub(crate) async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

pub(crate) struct Session<'a, S, F> {
    consumer: &'a Consumer<S>,
    work: &'a Work<F>,
    connection: Connection,
    /// One per subscription.
    channels: Vec<Channel>,
    /// Of each channel.
    in_hand: Vec<InHand>,
    /// Of each channel.
    acks: Vec<Acks>,
    /// Of each channel.
    origins: Vec<Arc<Origin>>,
    /// How often each queue was subscribed: part of the consumer tags. A tag that is used again while deliveries of its
    /// former consumer are in hand would have the broker deliver those again.
    rounds: Vec<u32>,
    /// The queue that could not be subscribed the last time, if one could not.
    suspect: Option<usize>,
    /// Deliveries that nobody has started are forgotten when this session ends: their channel is gone.
    lost: CancellationToken,
    _lost_at_the_end: DropGuard,
    _open: Open,
}

/// How a queue is consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consuming {
    /// Not: it is paused, or too much of it is in hand.
    No,
    Yes,
    /// Its consumer is cancelled; what that had brought before comes first.
    Ending,
}

type QueueDeliveries = BoxStream<'static, (usize, Option<lapin::Result<AmqpDelivery>>)>;
type Deliveries = SelectAll<QueueDeliveries>;

impl<'a, S, F, Handled> Session<'a, S, F>
where
    S: Source,
    F: Fn(Delivery<S>) -> Handled + Clone + Send + 'static,
    Handled: Future<Output = ()> + Send + 'static,
{
    /// Connects, asserts the topology unless it is asserted already, and opens the channels; consumes nothing yet. `suspect` is
    /// what [`Session::suspect`] told of the session before.
    pub(crate) async fn open(
        consumer: &'a Consumer<S>,
        work: &'a Work<F>,
        suspect: Option<usize>,
    ) -> Result<Self, SessionError> {
        let address = consumer.settings.address().map_err(ConnectError::Setting)?;
        let connection = connect(&address, &format!("{} consuming", consumer.name)).await?;
        let _open = METERS.consuming_connection();
        let opening = async {
            consumer
                .topology
                .assert(&connection, consumer.settings.declare)
                .await
                .map_err(ConnectError::Topology)?;
            open_channels(&connection, &consumer.subscriptions).await
        };
        let channels = timeout(CONNECT_TIMEOUT, opening).await.map_err(|_| ConnectError::Timeout)??;
        let lost = CancellationToken::new();
        let _lost_at_the_end = lost.clone().drop_guard();
        let in_hand = channels.iter().map(|_| InHand::default()).collect();
        let prefetches = consumer.subscriptions.iter().map(|subscription| subscription.prefetch);
        let acks =
            channels.iter().zip(prefetches).map(|(channel, prefetch)| Acks::new(channel, prefetch)).collect();
        let rounds = vec![0; channels.len()];
        let origins = origins(consumer, &address);
        Ok(Self {
            consumer,
            work,
            connection,
            channels,
            in_hand,
            acks,
            origins,
            rounds,
            suspect,
            lost,
            _lost_at_the_end,
            _open,
        })
    }

    /// The queue that could not be subscribed, if that is how it ended.
    pub(crate) fn suspect(&self) -> Option<usize> {
        self.suspect
    }

    /// Consumes, and rests while paused. `Ok` when it was told to shut down and every started delivery has been handled.
    pub(crate) async fn run(
        &mut self,
        observer: &impl Observer,
        mut paused: watch::Receiver<bool>,
    ) -> Result<(), SessionError> {
        while !self.work.shutdown.is_cancelled() {
            let is_paused = *paused.borrow();
            if is_paused {
                self.rest(observer, &mut paused).await?;
            } else {
                self.consume(observer, &mut paused).await?;
            }
        }
        self.work.drained().await;
        let flushing = async {
            for acks in &self.acks {
                acks.flush().await;
            }
        };
        let _ = timeout(CLOSE_TIMEOUT, flushing).await;
        let _ = timeout(CLOSE_TIMEOUT, self.connection.close(200, "drained".into())).await;
        Ok(())
    }

    /// Until the pause is over.
    async fn rest(
        &self,
        observer: &impl Observer,
        paused: &mut watch::Receiver<bool>,
    ) -> Result<(), SessionError> {
        observer.paused();
        tracing::warn!(queues = self.channels.len(), "consuming is paused");
        let mut watch = interval(WATCH_EVERY);
        loop {
            tokio::select! {
                () = self.work.shutdown.cancelled() => return Ok(()),
                () = becomes(paused, false) => return Ok(()),
                _ = watch.tick() => self.look_after(observer)?,
            }
        }
    }

    /// Until there is a pause.
    async fn consume(
        &mut self,
        observer: &impl Observer,
        paused: &mut watch::Receiver<bool>,
    ) -> Result<(), SessionError> {
        let mut deliveries = Deliveries::new();
        let mut states = vec![Consuming::No; self.channels.len()];
        self.obey(&mut states, &mut deliveries).await?;
        observer.subscribed();
        let subscribed = states.iter().filter(|state| **state == Consuming::Yes).count();
        tracing::info!(queues = subscribed, waiting = states.len() - subscribed, "subscribed");
        let (mut watch, mut obey) = (interval(WATCH_EVERY), interval(OBEY_EVERY));
        loop {
            tokio::select! {
                () = self.work.shutdown.cancelled() => break,
                () = becomes(paused, true) => break,
                _ = watch.tick() => self.look_after(observer)?,
                _ = obey.tick() => self.obey(&mut states, &mut deliveries).await?,
                next = deliveries.next(), if !deliveries.is_empty() => match next {
                    Some((index, Some(Ok(delivery)))) => self.spawn(index, delivery),
                    Some((_, Some(Err(error)))) => return Err(SessionError::Lost(error)),
                    Some((index, None)) if states[index] == Consuming::Ending => states[index] = Consuming::No,
                    Some((index, None)) => {
                        let queue = self.queue(index);
                        return Err(SessionError::Ended(format!("the broker cancelled the consumer of {queue}")));
                    }
                    // Every queue is paused.
                    None => {}
                },
            }
        }
        let cancelled = self.cancel(deliveries).await;
        // What was started must be able to ack, whether or not the broker lets go of its consumers.
        if self.work.shutdown.is_cancelled() { Ok(()) } else { cancelled }
    }

    /// A consumer's stream would tell of a lost channel, but while resting there is none.
    fn look_after(&self, observer: &impl Observer) -> Result<(), SessionError> {
        observer.alive();
        if !self.connection.status().connected() {
            return Err(SessionError::Ended("the connection is gone".into()));
        }
        match self.channels.iter().position(|channel| !channel.status().connected()) {
            Some(index) => {
                Err(SessionError::Ended(format!("the broker closed the channel of {}", self.queue(index))))
            }
            None => Ok(()),
        }
    }

    /// Cancels the consumers of queues that are paused, and subscribes those of the others of which less is in hand than may
    /// be: each new consumer comes with a whole prefetch of its own, so that pauses one after the other would add up.
    async fn obey(
        &mut self,
        states: &mut [Consuming],
        deliveries: &mut Deliveries,
    ) -> Result<(), SessionError> {
        let mut wanted = Vec::new();
        for (index, state) in states.iter_mut().enumerate() {
            let Subscription { prefetch, control, .. } = &self.consumer.subscriptions[index];
            match *state {
                Consuming::Yes if control.is_paused() => {
                    self.cancel_one(index).await?;
                    *state = Consuming::Ending;
                    tracing::info!(queue = self.queue(index), "paused");
                }
                Consuming::No
                    if !control.is_paused() && self.in_hand[index].count() < usize::from(*prefetch) =>
                {
                    self.rounds[index] += 1;
                    wanted.push(index);
                }
                _ => {}
            }
        }
        // All at once, as for each the broker writes to the log of its queue before it answers; but first, alone, the one that
        // failed in the session before: what the others are sent until it fails again is charged a delivery each.
        let (first, others) = wanted.into_iter().partition::<Vec<_>, _>(|index| Some(*index) == self.suspect);
        for together in [first, others] {
            let subscribed = join_all(together.iter().map(|index| self.subscribe(*index))).await;
            for (index, queue) in together.into_iter().zip(subscribed) {
                self.suspect = Some(index);
                deliveries.push(queue?);
                self.suspect = None;
                states[index] = Consuming::Yes;
            }
        }
        Ok(())
    }

    async fn subscribe(&self, index: usize) -> Result<QueueDeliveries, SessionError> {
        let (queue, tag) = (self.queue(index), self.tag(index));
        let options = BasicConsumeOptions { no_local: false, no_ack: false, exclusive: false, nowait: false };
        let consumer = self.channels[index].basic_consume(
            queue.as_str().into(),
            tag.as_str().into(),
            options,
            FieldTable::default(),
        );
        let consumer = timeout(CONNECT_TIMEOUT, consumer).await.map_err(|_| ConnectError::Timeout)?;
        let consumer = consumer.map_err(SessionError::Lost)?;
        // The end of a stream must be seen: a consumer that the broker cancelled looks healthy otherwise.
        let stream = consumer.map(Some).chain(stream::once(async { None }));
        Ok(stream.map(move |delivery| (index, delivery)).boxed())
    }

    /// Cancels the consumers; the broker does not mind a tag that it does not know. What they had brought before that is in hand like everything else.
    async fn cancel(&self, mut deliveries: Deliveries) -> Result<(), SessionError> {
        let mut cancelled = Ok(());
        for index in 0..self.channels.len() {
            if let Err(error) = self.cancel_one(index).await {
                cancelled = Err(error);
            }
        }
        // Every cancelled stream has an end among what it still holds.
        while let Some(Some((index, next))) = deliveries.next().now_or_never() {
            if let Some(Ok(delivery)) = next {
                self.spawn(index, delivery);
            }
        }
        cancelled
    }

    async fn cancel_one(&self, index: usize) -> Result<(), SessionError> {
        let options = BasicCancelOptions { nowait: false };
        let cancel = self.channels[index].basic_cancel(self.tag(index).as_str().into(), options);
        match timeout(CLOSE_TIMEOUT, cancel).await {
            Ok(cancelled) => cancelled.map_err(SessionError::Lost),
            Err(_) => Err(SessionError::Ended("a consumer was not cancelled in time".into())),
        }
    }

    fn spawn(&self, index: usize, delivery: AmqpDelivery) {
        let subscription = &self.consumer.subscriptions[index];
        let (permits, control) = (Arc::clone(&subscription.permits), subscription.control.clone());
        let delivery = Delivery::new(
            &subscription.lane,
            delivery,
            &self.in_hand[index],
            &self.acks[index],
            &self.origins[index],
        );
        let (shutdown, lost) = (self.work.shutdown.clone(), self.lost.clone());
        let handle = self.work.handle.clone();
        let waiting = delivery_waiting();
        self.work.tasks.spawn(subscription.control.track(async move {
            let permit = tokio::select! {
                biased;
                () = lost.cancelled() => return,
                () = shutdown.cancelled() => None,
                () = control.paused_for(GIVE_BACK_AFTER) => None,
                permit = turn(&permits, &control) => permit,
            };
            drop(waiting);
            match permit {
                Some(_permit) => handle(delivery).await,
                None => delivery.give_back().await,
            }
        }));
    }

    fn queue(&self, index: usize) -> String {
        self.consumer.subscriptions[index].lane.queue(&self.consumer.topology)
    }

    fn tag(&self, index: usize) -> String {
        format!("orderfleet-{index}-{}", self.rounds[index])
    }
}

async fn open_channels<S>(
    connection: &Connection,
    subscriptions: &[Subscription<S>],
) -> Result<Vec<Channel>, SessionError> {
    let opening = subscriptions.iter().map(async |subscription| {
        let channel = connection.create_channel().await?;
        let per_consumer = BasicQosOptions { global: false };
        channel.basic_qos(subscription.prefetch, per_consumer).await?;
        Ok(channel)
    });
    try_join_all(opening).await.map_err(SessionError::Lost)
}

fn origins<S: Source>(consumer: &Consumer<S>, address: &str) -> Vec<Arc<Origin>> {
    let server = Server::of(address);
    let queues =
        consumer.subscriptions.iter().map(|subscription| subscription.lane.queue(&consumer.topology));
    queues.map(|queue| Arc::new(Origin { server: Arc::clone(&server), queue })).collect()
}

/// A permit, while the queue is not paused.
async fn turn<'a>(permits: &'a Semaphore, control: &Control) -> Option<SemaphorePermit<'a>> {
    loop {
        control.until(false).await;
        let permit = permits.acquire().await.ok()?;
        if !control.is_paused() {
            return Some(permit);
        }
    }
}

/// Returns once it has this value; never, when it has another and nobody is left to change it.
async fn becomes(paused: &mut watch::Receiver<bool>, wanted: bool) {
    if paused.wait_for(|paused| *paused == wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("a channel was lost")]
    Lost(#[source] lapin::Error),
    #[error("{0}")]
    Ended(String),
}
