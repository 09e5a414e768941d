//! Supervised consuming: re-subscribes after anything that ends a subscription, pauses and drains when asked to.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use orderfleet_domain::saga::Lane;
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TrackedFuture},
};

use crate::{
    BrokerSettings, ConnectError, Delays, Delivery, Source, Topology,
    connection::chain,
    session::{Session, SessionError, Work},
};

/// A session that lived this long was a good one: the next reconnect starts with the shortest delay.
const GOOD_SESSION: Duration = Duration::from_secs(30);

/// One queue to consume.
#[derive(Debug, Clone)]
pub struct Subscription<S = Lane> {
    /// Which one.
    pub lane: S,
    /// Unacked deliveries of this queue at once. What a crashing worker holds is charged a delivery each, of twenty.
    /// After a pause this many come on top of what was in hand before it; not before that is less than this, so that there are
    /// never twice as many, however often consuming is paused.
    pub prefetch: u16,
    /// Shared by subscriptions that together may work on so many deliveries at once.
    pub permits: Arc<Semaphore>,
    /// Pauses it, and tells what of it is in hand.
    pub control: Control,
}

/// What is said to one subscription and seen of it while it is consumed. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Control {
    paused: watch::Sender<bool>,
    in_hand: TaskTracker,
}

impl Control {
    /// While paused no delivery of this queue is begun, and the others go on; what was begun is finished. No more is taken of
    /// it within a fifth of a second and the broker's answer. What waits for its turn is given back after a second, which the
    /// broker counts as a delivery: once a pause at most, if all who consume it are paused within that time. A second call
    /// changes nothing.
    pub fn pause(&self, paused: bool) {
        self.paused.send_if_modified(|before| std::mem::replace(before, paused) != paused);
    }

    /// Whether it is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Returns once it is so.
    pub(crate) async fn until(&self, paused: bool) {
        // It fails without a sender, and there is this one.
        let _ = self.paused.subscribe().wait_for(|now| *now == paused).await;
    }

    /// Returns once it has been paused for so long.
    pub(crate) async fn paused_for(&self, length: Duration) {
        loop {
            self.until(true).await;
            if timeout(length, self.until(false)).await.is_err() {
                return;
            }
        }
    }

    /// Deliveries of this queue that are being worked on, or wait in this process for their turn.
    #[must_use]
    pub fn in_hand(&self) -> usize {
        self.in_hand.len()
    }

    /// Counts a delivery as in hand until this is over.
    pub(crate) fn track<F: Future>(&self, delivery: F) -> TrackedFuture<F> {
        self.in_hand.track_future(delivery)
    }
}

/// Consumes a set of queues on a connection of its own, for as long as the process lives.
#[derive(Debug)]
pub struct Consumer<S = Lane> {
    /// The broker.
    pub settings: BrokerSettings,
    /// What is asserted before the first subscription, and after a loss, unless a connection of a clone has
    /// done so since.
    pub topology: Topology,
    /// Name of the connection, for operators.
    pub name: String,
    /// The queues.
    pub subscriptions: Vec<Subscription<S>>,
    /// While true nothing new is taken: messages stay in their queues, where no delivery is counted. What is in hand stays
    /// there and can be acked. When the sender is gone, the last value stands.
    pub paused: watch::Receiver<bool>,
}

/// What a consumer tells of itself.
pub trait Observer: Send + Sync + 'static {
    /// All queues are subscribed: for the first time, anew, or after a pause; but for those that are paused by themselves, and
    /// those of which too much is in hand from before the pause, which follow by themselves.
    fn subscribed(&self);
    /// No queue is subscribed, as asked for.
    fn paused(&self) {}
    /// The subscriptions are lost and will be made again.
    fn lost(&self, why: &str);
    /// The supervisor has looked after its session; called at least every few seconds while it can.
    fn alive(&self);
}

impl<S: Source> Consumer<S> {
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
        F: Fn(Delivery<S>) -> Handled + Clone + Send + 'static,
        Handled: Future<Output = ()> + Send + 'static,
    {
        let mut delays = Delays::new(Duration::from_millis(100), Duration::from_secs(5));
        let work = Work { tasks: TaskTracker::new(), shutdown, handle };
        let (mut opened_once, mut suspect) = (false, None);
        while !work.shutdown.is_cancelled() {
            let started = Instant::now();
            let ended = match Session::open(self, &work, suspect).await {
                Ok(mut session) => {
                    opened_once = true;
                    let ended = session.run(observer, self.paused.clone()).await;
                    suspect = session.suspect();
                    ended
                }
                Err(error) => Err(error),
            };
            let error = match ended {
                Ok(()) => break,
                Err(SessionError::Connect(error)) if !opened_once && !error.is_transient() => {
                    return Err(error);
                }
                Err(error) => error,
            };
            let why = chain(&error);
            tracing::warn!(error = why, "subscriptions lost");
            self.topology.doubt();
            observer.lost(&why);
            if started.elapsed() > GOOD_SESSION {
                delays.reset();
            }
            tokio::select! {
                () = tokio::time::sleep(delays.next_delay()) => {}
                () = work.shutdown.cancelled() => {}
            }
            observer.alive();
        }
        work.drained().await;
        Ok(())
    }
}
