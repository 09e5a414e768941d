//! A replay at work: batch after batch, each released only when the orders of the one before have ended.

use std::time::Duration;

use jiff::Timestamp;
use orderfleet_messaging::Publisher;
use orderfleet_storage::{ItemState, Replay, ReplayItem, ReplayState, Store, StoreError};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::replay::{Progress, Ramp, items::Items};

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
    /// is published twice has one effect. Of two replays at once each dead letter is brought back by one, as it is leased; two
    /// processes that run the same replay may publish a message twice.
    ///
    /// # Errors
    /// The database or the broker failed. What is recorded stays so; resume when they are back.
    pub async fn run(&self, mut tell: impl FnMut(&Progress)) -> Result<Outcome, RunError> {
        let mut items = Items::read(&self.store, &self.replay.id).await?;
        let before = items.progress();
        tell(&before);
        let mut ramp = ramp(self.replay.state, self.budget.batch_max, before);
        let mut pace = interval(Duration::from_secs(1) / self.budget.rate_per_s.max(1));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What an earlier attempt began comes first, as a batch of its own.
        let mut batch = items.begun();
        for index in &batch {
            if self.stop.is_cancelled() {
                return Ok(Outcome::Interrupted);
            }
            self.begin(&mut items, *index, &mut pace).await?;
        }
        loop {
            if let Some(outcome) = self.follow(&mut items, &batch, &mut tell).await? {
                return Ok(outcome);
            }
            if is_spent(before, items.progress(), self.budget.stop_at_percent) {
                self.store.end_replay(&self.replay.id, ReplayState::Stopped).await?;
                return Ok(Outcome::Stopped);
            }
            batch = match self.release(&mut items, ramp.take(), &mut pace, &mut tell).await? {
                None => return Ok(Outcome::Interrupted),
                Some(batch) if batch.is_empty() => {
                    self.store.end_replay(&self.replay.id, ReplayState::Ended).await?;
                    return Ok(Outcome::Ended);
                }
                Some(batch) => batch,
            };
        }
    }

    /// Begins items until the orders of so many are under way or no item waits; `None` when it was told to stop.
    async fn release(
        &self,
        items: &mut Items,
        size: u32,
        pace: &mut Interval,
        tell: &mut impl FnMut(&Progress),
    ) -> Result<Option<Vec<usize>>, RunError> {
        let mut batch = Vec::new();
        while batch.len() < size as usize {
            let Some(index) = items.next_waiting() else { break };
            if self.stop.is_cancelled() {
                return Ok(None);
            }
            self.begin(items, index, pace).await?;
            tell(&items.progress());
            if items.get(index).state == ItemState::Begun {
                batch.push(index);
            }
        }
        Ok(Some(batch))
    }

    async fn begin(&self, items: &mut Items, index: usize, pace: &mut Interval) -> Result<(), RunError> {
        let mut item = items.get(index).clone();
        self.begin_item(&mut item, pace).await?;
        items.put(index, item);
        Ok(())
    }

    pub(super) async fn record(
        &self,
        item: &mut ReplayItem,
        state: ItemState,
        note: &str,
    ) -> Result<(), StoreError> {
        item.state = state;
        note.clone_into(&mut item.note);
        self.store.record_item(&self.replay.id, item, Timestamp::now().as_millisecond()).await
    }
}

/// Where the batches go on. After a stop they begin with one order again: what is thought to be mended may not be.
fn ramp(state: ReplayState, largest: u32, before: Progress) -> Ramp {
    match state {
        ReplayState::Stopped => Ramp::new(largest),
        ReplayState::Open | ReplayState::Ended => Ramp::after(largest, before.done + before.failed),
    }
}

/// Whether too large a share has failed again. What failed before a stop does not count any more once somebody has looked at
/// it and resumed.
fn is_spent(before: Progress, now: Progress, stop_at_percent: u32) -> bool {
    let failed = u64::from(now.failed.saturating_sub(before.failed));
    let ended = u64::from(now.done.saturating_sub(before.done)) + failed;
    failed * 100 > ended * u64::from(stop_at_percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(done: u32, failed: u32) -> Progress {
        Progress { done, failed, refused: 1_000, waiting: 7, begun: 0 }
    }

    #[test]
    fn batches_go_on_with_what_has_ended_and_begin_anew_after_a_stop() {
        for (state, done, size) in
            [(ReplayState::Open, 0, 1), (ReplayState::Open, 8, 10), (ReplayState::Stopped, 8, 1)]
        {
            assert_eq!(
                ramp(state, 200, ended(done, 0)).take(),
                size,
                "{state:?}; what was refused has tried nothing"
            );
        }
    }

    #[test]
    fn a_replay_stops_above_its_share_of_failures_and_not_at_it() {
        let none = Progress::default();
        for (done, failed, percent, stops) in [
            (0, 1, 10, true),
            (0, 1, 100, false),
            (9, 1, 10, false),
            (8, 1, 10, true),
            (1_000, 1, 0, true),
            (0, 0, 0, false),
        ] {
            let spent = is_spent(none, ended(done, failed), percent);
            assert_eq!(spent, stops, "{failed} of {} at {percent}", done + failed);
        }
    }

    #[test]
    fn what_ended_before_a_replay_was_resumed_does_not_count() {
        let before = ended(0, 10);
        assert!(!is_spent(before, ended(9, 11), 10));
        assert!(is_spent(before, ended(8, 11), 10));
        assert!(!is_spent(ended(1_000, 0), ended(1_000, 0), 0));
    }
}
