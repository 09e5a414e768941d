//! Messages of one route in batches. While some are waited for, further ones gather; these then go out together on one
//! channel, and the broker confirms them by few messages.

use std::{
    collections::{HashMap, VecDeque},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use deadpool::managed::{Object, PoolError};
use lapin::{BasicProperties, Confirmation};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use crate::{
    ConnectError, PublishError,
    channels::{Channels, ConfirmChannels},
    connection::chain,
    live::AnswerError,
    meters::METERS,
};

/// Longest wait for a channel to publish on; nothing has been sent then.
const CHANNEL_TIMEOUT: Duration = Duration::from_secs(2);
/// Messages of one batch.
const COUNT_MAX: usize = 128;
/// Of their bodies, but for a single one: what the broker refuses ends the channel, and what is still unsent then the connection.
const BYTES_MAX: usize = 256 << 10;
/// Batches of one route that are waited for at once.
const FLIGHTS: usize = 4;

/// Where a message goes, in the broker's words.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    /// Whether a queue has to be there.
    pub(crate) mandatory: bool,
}

/// Where its publisher waits for what became of a message.
type Answer = oneshot::Sender<Result<(), PublishError>>;

/// A message of a batch.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) body: Bytes,
    pub(crate) properties: BasicProperties,
}

/// All routes of a process; as many as the topology has.
#[derive(Debug)]
pub(crate) struct Batches {
    channels: Channels,
    confirm_timeout: Duration,
    blocked: AtomicBool,
    routes: Mutex<HashMap<Route, Gathering>>,
}

#[derive(Debug, Default)]
struct Gathering {
    waiting: VecDeque<Waiting>,
    /// Publishers among them that have left, about.
    left: usize,
    flights: usize,
}

/// A publisher that waits until its message is taken; it may leave, or be dropped, before.
struct Publishing<'a> {
    batches: &'a Batches,
    route: &'a Route,
    gone: Arc<AtomicBool>,
}

impl Publishing<'_> {
    /// Whether the message stays here: nothing of it was sent, or will be.
    fn leave(&self) -> bool {
        let is_left = !self.gone.swap(true, Ordering::AcqRel);
        if is_left && let Some(gathering) = self.batches.routes().get_mut(self.route) {
            gathering.forget_one();
        }
        is_left
    }
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Gathering {
    /// Drops what nobody waits for any more once it is half of what there is: a message whose publisher is gone takes no room for
    /// longer than it takes as many again to come.
    fn forget_one(&mut self) {
        self.left += 1;
        if self.left * 2 > self.waiting.len() {
            self.waiting.retain(|waiting| !waiting.gone.load(Ordering::Acquire));
            self.left = 0;
        }
    }
}

#[derive(Debug)]
struct Waiting {
    message: Message,
    /// By whoever comes first: a batch takes it, or its publisher leaves. What is left is never sent.
    gone: Arc<AtomicBool>,
    answer: Answer,
}

impl Batches {
    pub(crate) fn new(channels: Channels, confirm_timeout: Duration) -> Self {
        Self { channels, confirm_timeout, blocked: AtomicBool::new(false), routes: Mutex::default() }
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Has a message sent with others of its route, and waits for its confirm.
    pub(crate) async fn publish(
        self: &Arc<Self>,
        route: Route,
        body: Bytes,
        properties: BasicProperties,
    ) -> Result<(), PublishError> {
        let (answer, mut answered) = oneshot::channel();
        let gone = Arc::new(AtomicBool::new(false));
        let waiting = Waiting { message: Message { body, properties }, gone: Arc::clone(&gone), answer };
        let publishing = Publishing { batches: self, route: &route, gone };
        if self.gather(&route, waiting) {
            // A task of its own, since it carries what others publish.
            tokio::spawn(Arc::clone(self).fly(route.clone()));
        }
        let answer = tokio::select! {
            answer = &mut answered => answer,
            () = sleep(CHANNEL_TIMEOUT) => {
                if publishing.leave() {
                    return Err(PublishError::NotSent(format!("not sent within {} s", CHANNEL_TIMEOUT.as_secs())));
                }
                answered.await
            }
        };
        let unanswered = |_| PublishError::Unknown(format!("{} ms", self.confirm_timeout.as_millis()));
        answer.map_err(unanswered)?
    }

    /// Adds a message. Whether somebody has to look after its route.
    fn gather(&self, route: &Route, waiting: Waiting) -> bool {
        let mut routes = self.routes();
        let gathering = match routes.get_mut(route) {
            Some(gathering) => gathering,
            None => routes.entry(route.clone()).or_default(),
        };
        gathering.waiting.push_back(waiting);
        let is_wanted = gathering.flights < FLIGHTS;
        gathering.flights += usize::from(is_wanted);
        is_wanted
    }

    /// Sends batch after batch of a route until none of its messages waits.
    async fn fly(self: Arc<Self>, route: Route) {
        loop {
            // Whoever is ready just now comes along.
            tokio::task::yield_now().await;
            // A panic is the end of one batch alone: its messages have an unknown outcome.
            let sent = tokio::spawn(Arc::clone(&self).send_next(route.clone())).await;
            if matches!(sent, Ok(false)) {
                return;
            }
        }
    }

    /// Sends the next batch. Whether there was one.
    async fn send_next(self: Arc<Self>, route: Route) -> bool {
        let channel = self.unblocked_channel().await;
        let Some(batch) = self.take(&route) else { return false };
        match channel {
            Ok(channel) => self.send(&route, channel, batch).await,
            Err(why) => {
                for (_, answer) in batch {
                    let _ = answer.send(Err(PublishError::NotSent(why.clone())));
                }
            }
        }
        true
    }

    /// The messages that wait, as many as a batch may have. `None` when there is none: then this flight is over.
    fn take(&self, route: &Route) -> Option<Vec<(Message, Answer)>> {
        let mut routes = self.routes();
        let gathering = routes.get_mut(route)?;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < COUNT_MAX
            && (batch.is_empty() || bytes < BYTES_MAX)
            && let Some(Waiting { message, gone, answer }) = gathering.waiting.pop_front()
        {
            if gone.swap(true, Ordering::AcqRel) {
                gathering.left = gathering.left.saturating_sub(1);
            } else {
                bytes += message.body.len();
                batch.push((message, answer));
            }
        }
        if batch.is_empty() {
            gathering.flights -= 1;
            return None;
        }
        Some(batch)
    }

    /// Returns once its channel is of use again, or gone: a queue that does not answer has as many channels as flights, no more.
    async fn send(&self, route: &Route, mut channel: Object<ConfirmChannels>, batch: Vec<(Message, Answer)>) {
        let (messages, answers): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let mut publishing = pin!(channel.publish(route, messages));
        let Ok(published) = timeout(self.confirm_timeout, &mut publishing).await else {
            // Senders that are dropped say that there was no answer in time. A channel that is closed while a message is unsent
            // would have it sent on a closed channel, which ends the connection and with it everybody else's publishes.
            drop(answers);
            let _ = publishing.await;
            return;
        };
        let results = results(route, published, answers.len());
        for (answer, result) in answers.into_iter().zip(results) {
            let _ = answer.send(result);
        }
    }

    /// Ready messages in a queue, or why they cannot be told.
    pub(crate) async fn depth(&self, queue: String) -> Result<u32, String> {
        let mut channel = self.unblocked_channel().await?;
        // A task of its own, so that the channel is kept until there is an answer.
        let asked = tokio::spawn(async move { channel.depth(&queue).await });
        match timeout(self.confirm_timeout, asked).await {
            Ok(Ok(depth)) => depth.map_err(|error| error.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".into()),
        }
    }

    /// A channel that the broker does not block, or why there is none.
    pub(crate) async fn unblocked_channel(&self) -> Result<Object<ConfirmChannels>, String> {
        let channel = match self.free_channel().await {
            Ok(channel) if channel.is_blocked() => Err(ConnectError::Blocked),
            channel => channel,
        };
        let is_blocked = matches!(channel, Err(ConnectError::Blocked));
        self.blocked.store(is_blocked, Ordering::Relaxed);
        METERS.blocked.set(u8::from(is_blocked));
        channel.map_err(|error| chain(&error))
    }

    async fn free_channel(&self) -> Result<Object<ConfirmChannels>, ConnectError> {
        match timeout(CHANNEL_TIMEOUT, self.channels.get()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(other)) => Err(ConnectError::Pool(other.to_string())),
            Err(_) => Err(self.channels.manager().trouble().unwrap_or_else(|| {
                ConnectError::Channel(format!("none within {} s", CHANNEL_TIMEOUT.as_secs()))
            })),
        }
    }

    fn routes(&self) -> MutexGuard<'_, HashMap<Route, Gathering>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of each message of a batch. A message that was returned comes with the confirm of any of the batch: of which one
/// it is, is certain only when all were.
fn results(
    route: &Route,
    published: Result<Vec<lapin::Result<Confirmation>>, AnswerError>,
    messages: usize,
) -> Vec<Result<(), PublishError>> {
    let unknown = |why: &dyn std::fmt::Display| Err(PublishError::Unknown(why.to_string()));
    let confirmed = match published {
        Ok(confirmed) => confirmed,
        Err(error) => return (0..messages).map(|_| unknown(&error)).collect(),
    };
    let is_returned = |confirmed: &&lapin::Result<Confirmation>| {
        matches!(confirmed, Ok(Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_))))
    };
    let returned = confirmed.iter().filter(is_returned).count();
    let judge = |confirmed| match confirmed {
        Ok(Confirmation::Ack(_)) if returned == 0 => Ok(()),
        Ok(Confirmation::Ack(_)) if returned == messages => Err(PublishError::Returned {
            exchange: route.exchange.clone(),
            routing_key: route.routing_key.clone(),
        }),
        Ok(Confirmation::Ack(_)) => unknown(&"some messages of its batch had no queue"),
        Ok(Confirmation::Nack(_)) => Err(PublishError::Nacked),
        Ok(Confirmation::NotRequested) => unknown(&"the channel is not in confirm mode"),
        Err(error) => unknown(&error),
    };
    confirmed.into_iter().map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting() -> (Waiting, Arc<AtomicBool>) {
        let (gone, (answer, _)) = (Arc::<AtomicBool>::default(), oneshot::channel());
        let message = Message { body: Bytes::new(), properties: BasicProperties::default() };
        (Waiting { message, gone: Arc::clone(&gone), answer }, gone)
    }

    #[test]
    fn messages_whose_publishers_have_left_in_any_order_take_no_room() {
        let mut gathering = Gathering::default();
        let (first, _) = waiting();
        gathering.waiting.push_back(first);
        for _ in 0..1_000 {
            let (next, gone) = waiting();
            gathering.waiting.push_back(next);
            gone.store(true, Ordering::Release);
            gathering.forget_one();
            assert!(gathering.waiting.len() <= 4, "{}", gathering.waiting.len());
        }
        assert!(
            gathering.waiting.iter().any(|waiting| !waiting.gone.load(Ordering::Acquire)),
            "one still waits"
        );
    }
}
