//! A consumer at work in the background, and what it tells of itself.

use orderfleet_messaging::{ConnectError, Consumer, Delivery, Observer};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::DEADLINE;

/// Counts how often the subscriptions were made.
struct Subscribed(watch::Sender<u32>);

impl Observer for Subscribed {
    fn subscribed(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    fn lost(&self, _why: &str) {}

    fn alive(&self) {}
}

/// A consumer that runs until it is shut down.
pub(crate) struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ConnectError>>,
    subscribed: watch::Receiver<u32>,
    deliveries: mpsc::UnboundedReceiver<Delivery>,
}

impl Running {
    /// Returns once it is subscribed. Its handler passes every delivery on to [`Running::next`] and is done.
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

    /// Returns once it is subscribed.
    pub(crate) async fn start_with<F, Handled>(consumer: Consumer, handle: F) -> Self
    where
        F: Fn(Delivery) -> Handled + Clone + Send + Sync + 'static,
        Handled: Future<Output = ()> + Send + 'static,
    {
        let (shutdown, (counter, subscribed)) = (CancellationToken::new(), watch::channel(0));
        let token = shutdown.clone();
        let task = tokio::spawn(async move { consumer.run(&Subscribed(counter), token, handle).await });
        let deliveries = mpsc::unbounded_channel().1;
        let mut running = Self { shutdown, task, subscribed, deliveries };
        running.until_subscribed(1).await;
        running
    }

    /// Waits until the subscriptions were made so many times.
    pub(crate) async fn until_subscribed(&mut self, times: u32) {
        let subscribed = timeout(DEADLINE, self.subscribed.wait_for(|count| *count >= times)).await;
        subscribed.expect("subscribed in time").expect("the consumer runs");
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
