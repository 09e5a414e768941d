//! A replay at work: batch after batch, each released only when the orders of the one before have ended.

use std::time::Duration;

use jiff::Timestamp;
use orderfleet_domain::saga::{Millis, Phase, Record};
use orderfleet_messaging::Publisher;
use orderfleet_storage::{
    Ended, How, ItemState, Leased, Letter, Replay, ReplayItem, ReplayState, Store, StoreError,
};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::replay::{Course, Ramp, plan::judge, publish::publish};

/// How long a dead letter belongs to a replay that takes it: well above the time a publish may take.
const LEASE_MS: Millis = 120_000;
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What a replay may cost.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Messages per second, at least 1.
    pub rate_per_s: u32,
    /// Stop when more than so many in a hundred orders have failed again since the replay was begun or resumed, 0 to 100.
    pub stop_at_percent: u32,
    /// Largest batch, at least 1.
    pub batch_max: u32,
    /// How long to wait for the orders of one batch to end.
    pub batch_timeout: Duration,
}

/// How far a replay has come, in dead letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Their turn has not come.
    pub waiting: u32,
    /// Published; their orders have not ended.
    pub begun: u32,
    /// Their orders are done.
    pub done: u32,
    /// Their orders failed again.
    pub failed: u32,
    /// There was nothing to publish for them.
    pub refused: u32,
}

/// How a replay ended, for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every item was seen to.
    Ended,
    /// Too large a share failed again: what waits was left alone.
    Stopped,
    /// The orders of a batch did not end in their time: what waits was left alone.
    StillOpen,
    /// It was told to stop.
    Interrupted,
}

/// Why a replay broke off. It can be resumed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] StoreError),
    /// A message was not confirmed for a minute.
    #[error("the broker did not confirm: {0}")]
    NotConfirmed(String),
}

/// A replay in the hands of one process.
#[derive(Debug)]
pub struct Replaying {
    /// The database.
    pub store: Store,
    /// The broker.
    pub publisher: Publisher,
    /// What is replayed, as frozen.
    pub replay: Replay,
    /// What it may cost.
    pub budget: Budget,
    /// Cancelled to stop after the message in hand.
    pub stop: CancellationToken,
}

impl Replaying {
    /// Goes on until every item was seen to, the budget is spent, or it is told to stop; tells how far it has come.
    ///
    /// A kill at any moment loses nothing: what was begun is looked at again by whoever resumes the replay, and a message that
    /// is published twice has one effect. Two that run the same replay at once do each item once between them, as each dead
    /// letter is leased.
    ///
    /// # Errors
    /// The database or the broker failed. What is recorded stays so; resume when they are back.
    pub async fn run(&self, mut tell: impl FnMut(&Progress)) -> Result<Outcome, RunError> {
        let mut items = self.items().await?;
        let before = progress(&items);
        let over = items.iter().filter(|item| item.state.is_over()).count();
        let mut ramp = Ramp::after(self.budget.batch_max, u32::try_from(over).unwrap_or(u32::MAX));
        let mut pace = interval(Duration::from_secs(1) / self.budget.rate_per_s.max(1));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // What an earlier attempt began comes first, as a batch of its own.
            let resumed = items.iter().any(|item| item.state == ItemState::Begun);
            let size = if resumed { 0 } else { ramp.take() as usize };
            let batch: Vec<_> = (0..items.len())
                .filter(|index| match items[*index].state {
                    ItemState::Begun => resumed,
                    ItemState::Waiting => !resumed,
                    _ => false,
                })
                .take(if resumed { usize::MAX } else { size })
                .collect();
            if batch.is_empty() {
                self.store.end_replay(&self.replay.id, ReplayState::Ended).await?;
                return Ok(Outcome::Ended);
            }
            for index in &batch {
                pace.tick().await;
                if self.stop.is_cancelled() {
                    return Ok(Outcome::Interrupted);
                }
                self.begin(&mut items[*index]).await?;
                tell(&progress(&items));
            }
            if let Some(outcome) = self.follow(&mut items, &batch, &mut tell).await? {
                return Ok(outcome);
            }
            if self.is_spent(&before, &progress(&items)) {
                self.store.end_replay(&self.replay.id, ReplayState::Stopped).await?;
                return Ok(Outcome::Stopped);
            }
        }
    }

    async fn items(&self) -> Result<Vec<ReplayItem>, StoreError> {
        let mut items: Vec<ReplayItem> = Vec::new();
        loop {
            let from = u32::try_from(items.len()).unwrap_or(u32::MAX);
            let page = self.store.replay_items(&self.replay.id, from).await?;
            if page.is_empty() {
                return Ok(items);
            }
            items.extend(page);
        }
    }

    /// Publishes for one item what its order needs now. The item is recorded as begun before, and its dead letter closed
    /// after.
    async fn begin(&self, item: &mut ReplayItem) -> Result<(), RunError> {
        let now = now();
        let lease = self.store.lease_letter(&item.letter, &self.replay.id, now, now + LEASE_MS);
        match lease.await? {
            Leased::Yes => {}
            Leased::By { holder, .. } => return self.refuse(item, &format!("{holder} has it in hand")).await,
            Leased::Missing => return self.refuse(item, "the dead letter is gone").await,
            Leased::Ended if item.state == ItemState::Begun => return Ok(()),
            Leased::Ended => return self.refuse(item, "it was replayed or discarded meanwhile").await,
        }
        let Some((letter, content)) = self.store.letter(&item.letter).await? else {
            return self.refuse(item, "the dead letter is gone").await;
        };
        let planned = judge(&self.store, letter).await?;
        let (letter, course) = (planned.letter, planned.course);
        match (&course, course.generation()) {
            // This replay has published for it, and the order has moved on since.
            (_, generation) if item.state == ItemState::Begun && generation != Some(item.generation) => {}
            (Course::Nothing(why), _) => {
                self.store.release_letter(&item.letter, &self.replay.id).await?;
                return self.refuse(item, &why.to_string()).await;
            }
            (Course::Settled(why), _) => {
                self.close(&letter).await?;
                return self.refuse(item, &why.to_string()).await;
            }
            (_, Some(generation)) => {
                item.generation = generation;
                item.hold = course.hold().map(str::to_owned);
                self.record(item, ItemState::Begun, &course.to_string()).await?;
                let published = publish(&self.publisher, &self.replay, &letter, &content, &course).await;
                published.map_err(RunError::NotConfirmed)?;
            }
            (_, None) => {}
        }
        Ok(self.close(&letter).await?)
    }

    async fn close(&self, letter: &Letter) -> Result<(), StoreError> {
        let Replay { id, who, why, .. } = self.replay.clone();
        let ended = Ended { how: How::Replayed, by: who, why, at: Timestamp::now(), job: Some(id.clone()) };
        self.store.end_letter(&letter.id, &id, &ended).await.map(drop)
    }

    async fn refuse(&self, item: &mut ReplayItem, why: &str) -> Result<(), RunError> {
        Ok(self.record(item, ItemState::Refused, why).await?)
    }

    async fn record(&self, item: &mut ReplayItem, state: ItemState, note: &str) -> Result<(), StoreError> {
        item.state = state;
        note.clone_into(&mut item.note);
        self.store.record_item(&self.replay.id, item, now()).await
    }

    /// Waits until the orders of a batch have ended; `None` when all have.
    async fn follow(
        &self,
        items: &mut [ReplayItem],
        batch: &[usize],
        tell: &mut impl FnMut(&Progress),
    ) -> Result<Option<Outcome>, RunError> {
        let deadline = Instant::now() + self.budget.batch_timeout;
        loop {
            let mut is_open = false;
            for index in batch {
                let item = &mut items[*index];
                if item.state == ItemState::Begun {
                    match self.ending(item).await? {
                        Some((state, note)) => self.record(item, state, &note).await?,
                        None => is_open = true,
                    }
                }
            }
            tell(&progress(items));
            if !is_open {
                return Ok(None);
            }
            if self.stop.is_cancelled() {
                return Ok(Some(Outcome::Interrupted));
            }
            if Instant::now() >= deadline {
                return Ok(Some(Outcome::StillOpen));
            }
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    async fn ending(&self, item: &ReplayItem) -> Result<Option<(ItemState, String)>, StoreError> {
        let Some(order_id) = &item.order_id else {
            return Ok(Some((ItemState::Done, "published; its order is not known".into())));
        };
        let order = self.store.order_for_operator(order_id).await?;
        Ok(order.and_then(|view| ending(&view.record, item)))
    }

    /// What failed before a stop does not count again once somebody has looked at it and resumed.
    fn is_spent(&self, before: &Progress, now: &Progress) -> bool {
        let failed = u64::from(now.failed - before.failed);
        let ended = u64::from(now.done - before.done) + failed;
        failed * 100 > ended * u64::from(self.budget.stop_at_percent)
    }
}

/// What became of an order whose run an item was to bring to an end; `None` while that is open.
fn ending(record: &Record, item: &ReplayItem) -> Option<(ItemState, String)> {
    if record.generation > item.generation {
        return Some((ItemState::Failed, format!("run {} has begun since", record.generation)));
    }
    if record.generation < item.generation {
        return None;
    }
    match (&record.hold, record.phase) {
        (Some(hold), _) if item.hold.as_ref() == Some(&hold.id) => None,
        (Some(hold), _) => Some((ItemState::Failed, format!("held at {}: {}", hold.step, hold.reason))),
        (None, Phase::Done) => Some((ItemState::Done, String::new())),
        (None, Phase::Undone) => Some((ItemState::Failed, undone(record))),
        (None, Phase::Run | Phase::Comp) => None,
    }
}

fn undone(record: &Record) -> String {
    let Some(cause) = &record.cause else { return "undone".into() };
    let code = cause.code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default();
    format!("undone: {} at {}{code}", cause.class.as_str(), cause.step)
}

fn progress(items: &[ReplayItem]) -> Progress {
    let mut progress = Progress::default();
    for item in items {
        *match item.state {
            ItemState::Waiting => &mut progress.waiting,
            ItemState::Begun => &mut progress.begun,
            ItemState::Done => &mut progress.done,
            ItemState::Failed => &mut progress.failed,
            ItemState::Refused => &mut progress.refused,
        } += 1;
    }
    progress
}

fn now() -> Millis {
    Timestamp::now().as_millisecond()
}
