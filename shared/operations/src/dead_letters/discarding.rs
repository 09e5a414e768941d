//! Giving dead letters up: planned, shown, then done to exactly those that were planned.

use data_encoding::HEXLOWER;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use orderfleet_domain::saga::Millis;
use orderfleet_storage::{Condition, Ended, How, Leased, LetterFilter, LetterGroup, StoreError};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::{Asked, DeadLetterError, DeadLetters};

/// Most letters of one plan: narrow the selection, or go in parts.
pub const DISCARDED_MAX: u32 = 100_000;
const PLAN_ID_BYTES: usize = 5;
/// Letters given up at once.
const AT_ONCE: usize = 16;
/// Well above the time that giving one up takes.
const LEASE_MS: Millis = 60_000;

/// What would be given up.
#[derive(Debug, Clone)]
pub struct DiscardPlan {
    /// Names this plan: other letters give another.
    pub id: String,
    /// The letters, by what failed.
    pub groups: Vec<LetterGroup>,
    /// How many they are.
    pub count: u64,
    /// What was asked for, as text for the record.
    pub selection: String,
    letters: Vec<String>,
}

/// How far giving up has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Discarded {
    /// Given up, now.
    pub discarded: u64,
    /// Left alone: another operator has them in hand.
    pub in_other_hands: u64,
    /// Left open: their messages have come again meanwhile.
    pub came_again: u64,
    /// Replayed or discarded by somebody else meanwhile, or gone.
    pub ended_meanwhile: u64,
    /// Whether it was told to stop before it was through.
    pub is_interrupted: bool,
}

impl DeadLetters {
    /// The open letters that a filter chooses now, `limit` at most, oldest first. Those that are parked later are never part of
    /// the plan. A hundred bytes of memory for each.
    ///
    /// # Errors
    /// The database failed, or more than [`DISCARDED_MAX`] match.
    pub async fn plan_discard(
        &self,
        filter: LetterFilter,
        limit: Option<u32>,
        selection: &str,
    ) -> Result<DiscardPlan, DeadLetterError> {
        // What is stored by now was stored before the next millisecond, unless by a clock that is fast.
        let filter = filter.and(LetterFilter::With(Condition::Before(next_millisecond()))).open();
        let most = limit.map_or(DISCARDED_MAX + 1, |limit| limit.min(DISCARDED_MAX));
        let letters = self.store.letter_ids(&filter, most).await?;
        let count = letters.len() as u64;
        if count > DISCARDED_MAX.into() {
            return Err(DeadLetterError::TooMany);
        }
        let stats = self.store.letter_stats(&filter, limit, Timestamp::now().as_millisecond()).await?;
        let (id, selection) = (plan_id(&letters), selection.to_owned());
        Ok(DiscardPlan { id, groups: stats.groups, count, selection, letters })
    }

    /// Gives up what was planned, each letter once, and records it; tells how far it has come. What another operator has in
    /// hand is left to him, and what comes again just then is left open. The orders are not touched: one that is HELD stays so.
    ///
    /// A crash, or `stop`, leaves some letters given up and the others open: plan again for those. One that was in hand then
    /// is free a minute later.
    ///
    /// # Errors
    /// The database failed, or the operator log refused the record; then nothing was done.
    pub async fn discard(
        &self,
        plan: &DiscardPlan,
        asked: &Asked,
        stop: &CancellationToken,
        tell: impl FnMut(&Discarded),
    ) -> Result<Discarded, DeadLetterError> {
        let letters = if plan.count == 1 { "dead letter" } else { "dead letters" };
        let target = format!("{} {letters}: {}", plan.count, plan.selection);
        let act = self.log.begin(&Self::act(asked, "dlq.discard", target)).await?;
        let discarding = Discarding { letters: self, asked, job: act.as_str(), stop };
        let done = discarding.run(&plan.letters, tell).await;
        let result = match &done {
            Ok(done) => format!(
                "{} discarded, {} in other hands, {} came again, {} ended meanwhile{}",
                done.discarded,
                done.in_other_hands,
                done.came_again,
                done.ended_meanwhile,
                if done.is_interrupted { "; interrupted" } else { "" }
            ),
            Err(error) => format!("broke off: {error}"),
        };
        self.log.end(&act, &result).await?;
        Ok(done?)
    }
}

/// What became of one letter.
enum End {
    Discarded,
    InOtherHands,
    CameAgain,
    EndedMeanwhile,
}

struct Discarding<'a> {
    letters: &'a DeadLetters,
    asked: &'a Asked,
    job: &'a str,
    stop: &'a CancellationToken,
}

impl Discarding<'_> {
    async fn run(
        &self,
        letters: &[String],
        mut tell: impl FnMut(&Discarded),
    ) -> Result<Discarded, StoreError> {
        let mut done = Discarded::default();
        let mut ends =
            stream::iter(letters).map(|id| async move { self.discard(id).await }).buffer_unordered(AT_ONCE);
        while let Some(end) = ends.try_next().await? {
            *match end {
                End::Discarded => &mut done.discarded,
                End::InOtherHands => &mut done.in_other_hands,
                End::CameAgain => &mut done.came_again,
                End::EndedMeanwhile => &mut done.ended_meanwhile,
            } += 1;
            tell(&done);
            if self.stop.is_cancelled() {
                done.is_interrupted = true;
                break;
            }
        }
        Ok(done)
    }

    async fn discard(&self, id: &str) -> Result<End, StoreError> {
        if let Some(end) = self.take(id).await? {
            return Ok(end);
        }
        let ended = Ended {
            how: How::Discarded,
            by: self.asked.who.to_string(),
            why: self.asked.why.clone(),
            at: Timestamp::now(),
            job: Some(self.job.to_owned()),
        };
        let store = &self.letters.store;
        if store.end_letter(id, self.job, &ended).await? {
            return Ok(End::Discarded);
        }
        // It was taken out of hand. One that can be had once more has come again, and is another than the one that was shown.
        if let Some(end) = self.take(id).await? {
            return Ok(end);
        }
        store.release_letter(id, self.job).await?;
        Ok(End::CameAgain)
    }

    /// Takes an open letter in hand; what has become of it where that cannot be.
    async fn take(&self, id: &str) -> Result<Option<End>, StoreError> {
        let now = Timestamp::now().as_millisecond();
        Ok(match self.letters.store.lease_letter(id, self.job, now, now + LEASE_MS).await? {
            Leased::Yes => None,
            Leased::By { .. } => Some(End::InOtherHands),
            Leased::Ended | Leased::Missing => Some(End::EndedMeanwhile),
        })
    }
}

/// A few characters over which letters they are.
fn plan_id(letters: &[String]) -> String {
    let mut hash = Sha256::new();
    for id in letters {
        hash.update(format!("{id}\0"));
    }
    HEXLOWER.encode(&hash.finalize()[..PLAN_ID_BYTES])
}

fn next_millisecond() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond() + 1).unwrap_or(now)
}
