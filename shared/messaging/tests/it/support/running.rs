//! A consumer at work in the background, and what it tells of itself.

use orderfleet_messaging::{ConnectError, Consumer, Delivery, Observer};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::DEADLINE;

/// How often the subscriptions were made, and how often they rested.
#[derive(Debug, Default)]
struct Times {
    subscribed: u32,
    paused: u32,
}

struct Counter(watch::Sender<Times>);

impl Observer for Counter {
    fn subscribed(&self) {
        self.0.send_modify(|times| times.subscribed += 1);
    }

    fn paused(&self) {
        self.0.send_modify(|times| times.paused += 1);
    }

    fn lost(&self, _why: &str) {}

    fn alive(&self) {}
}

/// A consumer that runs until it is shut down.
pub(crate) struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ConnectError>>,
    times: watch::Receiver<Times>,
    deliveries: mpsc::UnboundedReceiver<Delivery>,
}

impl Running {
    /// Returns once it is subscribed, or paused if it begins so. Its handler passes every delivery on to [`Running::next`] and is done.
    pub(crate) async fn start(consumer: Consumer) -> Self {
        let (sender, deliveries) = mpsc::unbounded_channel();
        let mut running = Self::start_with(consumer, move |delivery| {
            let _ = sender.send(delivery);
            std::future::ready(())
        })
        .await;
        running.deliveries = deliveries;
        running
    }

    /// As [`Running::start`], with a handler of the test's own.
    pub(crate) async fn start_with<F, Handled>(consumer: Consumer, handle: F) -> Self
    where
        F: Fn(Delivery) -> Handled + Clone + Send + Sync + 'static,
        Handled: Future<Output = ()> + Send + 'static,
    {
        let (shutdown, (counter, times)) = (CancellationToken::new(), watch::channel(Times::default()));
        let begins_paused = *consumer.paused.borrow();
        let token = shutdown.clone();
        let task = tokio::spawn(async move { consumer.run(&Counter(counter), token, handle).await });
        let deliveries = mpsc::unbounded_channel().1;
        let mut running = Self { shutdown, task, times, deliveries };
        match begins_paused {
            true => running.until_paused(1).await,
            false => running.until_subscribed(1).await,
        }
        running
    }

    /// Waits until the subscriptions were made so many times.
    pub(crate) async fn until_subscribed(&mut self, times: u32) {
        let subscribed = timeout(DEADLINE, self.times.wait_for(|seen| seen.subscribed >= times)).await;
        subscribed.expect("subscribed in time").expect("the consumer runs");
    }

    /// Waits until it was paused so many times.
    pub(crate) async fn until_paused(&mut self, times: u32) {
        let paused = timeout(DEADLINE, self.times.wait_for(|seen| seen.paused >= times)).await;
        paused.expect("paused in time").expect("the consumer runs");
    }

    /// How often the subscriptions were made so far.
    pub(crate) fn times_subscribed(&self) -> u32 {
        self.times.borrow().subscribed
    }

    /// Whether everything that was delivered so far has been taken with [`Running::next`].
    pub(crate) fn has_nothing(&self) -> bool {
        self.deliveries.is_empty()
    }

    pub(crate) async fn next(&mut self) -> Delivery {
        let delivery = timeout(DEADLINE, self.deliveries.recv()).await;
        delivery.expect("a delivery in time").expect("the consumer runs")
    }

    pub(crate) fn begin_shutdown(&self) {
        self.shutdown.cancel();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Shuts it down if need be, and waits for its end.
    pub(crate) async fn shut_down(self) -> Result<(), ConnectError> {
        self.shutdown.cancel();
        timeout(DEADLINE, self.task).await.expect("an end in time").unwrap()
    }
}

/// The text of a delivery's body.
pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.body.to_vec()).unwrap()
}
