//! One established publishing connection: opens channels for whoever waits, and notices when it is of no use any more.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection, Event,
    options::{BasicQosOptions, ConfirmSelectOptions},
};
use tokio::{
    sync::{Mutex as AsyncMutex, Semaphore, mpsc},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// How often a connection is looked at while nothing tells of its end.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How often the broker is asked for an answer.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// A connection on which so long after such a question nothing was answered is given up, though its socket may be open.
/// AMQP heartbeats would take minutes.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// A connection that cannot open a channel in this time is given up.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for the broker to close a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error(transparent)]
    Amqp(#[from] lapin::Error),
    #[error("the connection was lost: {0}")]
    Lost(String),
}

/// A connection whose topology was asserted. It is never mended: whoever supervises it makes another.
#[derive(Debug)]
pub(crate) struct LiveConnection {
    connection: Connection,
    /// The channel on which the broker is asked for an answer.
    probe: Channel,
    last_answer: Mutex<Instant>,
    lost: CancellationToken,
    why_lost: OnceLock<String>,
    /// As many channels may be on their way as callers may wait, so that each of them is served.
    opening: Arc<Semaphore>,
    /// Channels for whoever waits next, and failures to open one.
    opened: mpsc::UnboundedSender<lapin::Result<Channel>>,
    next_opened: AsyncMutex<mpsc::UnboundedReceiver<lapin::Result<Channel>>>,
}

impl LiveConnection {
    /// Takes over a connection on which at most so many callers wait for a channel at once.
    pub(crate) fn new(connection: Connection, probe: Channel, waiting_max: usize) -> Arc<Self> {
        let (opened, next_opened) = mpsc::unbounded_channel();
        Arc::new(Self {
            connection,
            probe,
            last_answer: Mutex::new(Instant::now()),
            lost: CancellationToken::new(),
            why_lost: OnceLock::new(),
            opening: Arc::new(Semaphore::new(waiting_max)),
            opened,
            next_opened: AsyncMutex::new(next_opened),
        })
    }

    /// Whether the broker has blocked publishing on it.
    pub(crate) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Whether it can be used, as far as is known.
    pub(crate) fn is_up(&self) -> bool {
        !self.lost.is_cancelled() && self.connection.status().connected()
    }

    /// A channel in confirm mode. One that is on its way when its caller leaves goes to the next caller: a slow broker is
    /// not asked over and over for what nobody then takes.
    pub(crate) async fn channel(self: &Arc<Self>) -> Result<Channel, AnswerError> {
        if let Some(opened) = self.already_opened() {
            return Ok(opened?);
        }
        if let Ok(permit) = Arc::clone(&self.opening).try_acquire_owned() {
            let connection = Arc::clone(self);
            tokio::spawn(async move {
                connection.open().await;
                drop(permit);
            });
        }
        let next = async { self.next_opened.lock().await.recv().await };
        match self.unless_lost(next).await? {
            Some(opened) => Ok(opened?),
            None => Err(self.lost_error()),
        }
    }

    fn already_opened(&self) -> Option<lapin::Result<Channel>> {
        self.next_opened.try_lock().ok()?.try_recv().ok()
    }

    async fn open(&self) {
        let opening = async {
            let channel = self.connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions { nowait: false }).await?;
            Ok(channel)
        };
        tokio::select! {
            opened = self.unless_lost(opening) => if let Ok(opened) = opened {
                // It fails when nobody can ask for a channel any more.
                let _ = self.opened.send(opened);
            },
            () = self.unblocked_for(OPEN_TIMEOUT) => {
                self.give_up(format!("no channel was opened within {} s", OPEN_TIMEOUT.as_secs()));
            }
        }
    }

    /// Waits for an answer of the broker, until the connection is lost.
    pub(crate) async fn answer<T>(
        &self,
        answer: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, AnswerError> {
        let answer = self.unless_lost(answer).await??;
        *self.last_answer.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Ok(answer)
    }

    async fn unless_lost<T>(&self, result: impl Future<Output = T>) -> Result<T, AnswerError> {
        tokio::select! {
            biased;
            result = result => Ok(result),
            () = self.lost.cancelled() => Err(self.lost_error()),
        }
    }

    fn lost_error(&self) -> AnswerError {
        AnswerError::Lost(self.why_lost.get().cloned().unwrap_or_default())
    }

    /// Waits until it is of no use any more and returns why. Then nobody waits for an answer on it any more.
    pub(crate) async fn until_lost(&self) -> String {
        let why = tokio::select! {
            why = self.until_closed() => why,
            why = self.until_silent() => why,
            () = self.lost.cancelled() => String::new(),
        };
        self.give_up(why);
        self.why_lost.get().cloned().unwrap_or_default()
    }

    fn give_up(&self, why: String) {
        // Fails when it was given up before: the first reason stands.
        let _ = self.why_lost.set(why);
        self.lost.cancel();
    }

    /// Takes leave of the broker, which may not hear it.
    pub(crate) async fn close(&self) {
        let _ = timeout(CLOSE_TIMEOUT, self.connection.close(200, "given up".into())).await;
    }

    async fn until_closed(&self) -> String {
        let mut events = self.connection.events_listener();
        while self.connection.status().connected() {
            if let Ok(Some(Event::Error(error))) = timeout(WATCH_EVERY, events.next()).await {
                return error.to_string();
            }
        }
        "it was closed".into()
    }

    /// Liveness means answers, not an open socket.
    async fn until_silent(&self) -> String {
        loop {
            sleep(PROBE_EVERY).await;
            let asked = Instant::now();
            let probe = self.probe.basic_qos(1, BasicQosOptions { global: false });
            tokio::select! {
                answer = self.answer(probe) => if let Err(error) = answer {
                    return error.to_string();
                },
                // On a slow link the answer can be behind others.
                () = self.unblocked_for(SILENCE_MAX) => if self.last_answer() < asked {
                    return format!("no answer within {} s", SILENCE_MAX.as_secs());
                },
            }
        }
    }

    fn last_answer(&self) -> Instant {
        *self.last_answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time passes only while the broker reads what it is sent, and while this process runs.
    async fn unblocked_for(&self, duration: Duration) {
        let mut passed = Duration::ZERO;
        while passed < duration {
            sleep(WATCH_EVERY).await;
            if !self.is_blocked() {
                passed += WATCH_EVERY;
            }
        }
    }
}
