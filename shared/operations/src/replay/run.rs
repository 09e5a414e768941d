//! A replay at work: batch after batch, each released only when the orders of the one before have ended.

use std::time::Duration;

use jiff::Timestamp;
use orderfleet_messaging::Publisher;
use orderfleet_storage::{ItemState, Replay, ReplayItem, Store, StoreError};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    dead_letters::Asked,
    replay::{Progress, Ramp, items::Items},
};

/// Added to what is told of an item.
const LEFT: &str = "its dead letter was not closed: it has come again, or is in other hands";

/// What a replay may cost.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Messages per second, at least 1.
    pub rate_per_s: u32,
    /// Stop when more than so many in a hundred orders have failed again since the replay was begun, or had stopped for that,
    /// 0 to 100.
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
    /// Who carries it on, and why.
    pub asked: Asked,
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
        tell(&items.progress());
        if items.progress().is_over() {
            self.store.end_replay(&self.replay.id).await?;
            return Ok(Outcome::Ended);
        }
        let mut ramp = ramp(&self.replay, self.budget.batch_max, items.progress());
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
            let followed = self.follow(&mut items, &batch, &mut tell).await?;
            let Progress { done, failed, .. } = items.progress();
            if is_spent(&self.replay, items.progress(), self.budget.stop_at_percent) {
                self.store.stop_replay(&self.replay.id, done, failed).await?;
                return Ok(Outcome::Stopped);
            }
            if let Some(outcome) = followed {
                return Ok(outcome);
            }
            batch = match self.release(&mut items, ramp.take(), &mut pace, &mut tell).await? {
                None => return Ok(Outcome::Interrupted),
                Some(batch) if batch.is_empty() => {
                    self.store.end_replay(&self.replay.id).await?;
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

    /// For the orders that are released.
    pub(super) fn reason(&self) -> String {
        format!("{} (replay {} by {})", self.asked.why, self.replay.id, self.asked.who)
    }

    pub(super) async fn record(
        &self,
        item: &mut ReplayItem,
        state: ItemState,
        note: &str,
    ) -> Result<(), StoreError> {
        item.state = state;
        item.note = told(note, item.is_letter_left);
        self.store.record_item(&self.replay.id, item, Timestamp::now().as_millisecond()).await
    }
}

/// For an item's note.
fn told(note: &str, is_letter_left: bool) -> String {
    match (note, is_letter_left) {
        (note, false) => note.to_owned(),
        ("", true) => LEFT.to_owned(),
        (note, true) => format!("{note}; {LEFT}"),
    }
}

/// Where the batches go on. After a stop they begin with one order again: what is thought to be mended may not be.
fn ramp(replay: &Replay, largest: u32, now: Progress) -> Ramp {
    let (done, failed) = since_stop(replay, now);
    Ramp::after(largest, done + failed)
}

/// Whether too large a share has failed again.
fn is_spent(replay: &Replay, now: Progress, stop_at_percent: u32) -> bool {
    let (done, failed) = since_stop(replay, now);
    u64::from(failed) * 100 > (u64::from(done) + u64::from(failed)) * u64::from(stop_at_percent)
}

/// How many are done, and how many have failed, without what had ended when the replay stopped: somebody has looked at that
/// and resumed it. An interruption is no such look.
fn since_stop(replay: &Replay, now: Progress) -> (u32, u32) {
    (now.done.saturating_sub(replay.done_at_stop), now.failed.saturating_sub(replay.failed_at_stop))
}

#[cfg(test)]
mod tests {
    use orderfleet_storage::ReplayState;

    use super::*;

    fn ended(done: u32, failed: u32) -> Progress {
        Progress { done, failed, refused: 1_000, waiting: 7, begun: 0 }
    }

    /// A replay that had come so far when it stopped last.
    fn stopped_at(done: u32, failed: u32) -> Replay {
        let [id, who, why, selection] = ["r1", "jo", "mended", "all"].map(str::to_owned);
        Replay {
            id,
            who,
            why,
            selection,
            items: 9,
            state: ReplayState::Open,
            done_at_stop: done,
            failed_at_stop: failed,
            began_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn batches_go_on_with_what_has_ended_and_begin_anew_after_a_stop() {
        for (stopped, done, size) in [(0, 0, 1), (0, 8, 10), (8, 8, 1), (8, 16, 10)] {
            let found = ramp(&stopped_at(stopped, 0), 200, ended(done, 0)).take();
            assert_eq!(found, size, "stopped at {stopped}; what was refused has tried nothing");
        }
    }

    #[test]
    fn a_replay_stops_above_its_share_of_failures_and_not_at_it() {
        for (done, failed, percent, stops) in [
            (0, 1, 10, true),
            (0, 1, 100, false),
            (9, 1, 10, false),
            (8, 1, 10, true),
            (1_000, 1, 0, true),
            (0, 0, 0, false),
        ] {
            let spent = is_spent(&stopped_at(0, 0), ended(done, failed), percent);
            assert_eq!(spent, stops, "{failed} of {} at {percent}", done + failed);
        }
    }

    #[test]
    fn what_had_ended_when_a_replay_stopped_does_not_count_any_more() {
        let stopped = stopped_at(0, 10);
        assert!(!is_spent(&stopped, ended(9, 11), 10));
        assert!(is_spent(&stopped, ended(8, 11), 10));
        assert!(!is_spent(&stopped_at(1_000, 0), ended(1_000, 0), 0));
    }

    #[test]
    fn a_dead_letter_that_could_not_be_closed_is_told_of() {
        assert_eq!(told("undone", false), "undone");
        assert_eq!(told("", true), LEFT);
        assert!(told("undone", true).starts_with("undone; its dead letter"));
    }
}
