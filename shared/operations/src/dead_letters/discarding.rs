//! Giving dead letters up: planned, shown, then done to exactly those that were planned.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use orderfleet_domain::saga::Millis;
use orderfleet_storage::{
    Condition, Ended, How, LETTERS_MAX, Leased, LetterCursor, LetterFilter, LetterGroup, StoreError,
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Asked, DeadLetterError, DeadLetters};

/// Letters given up at once.
const AT_ONCE: usize = 16;
/// Well above the time that giving one up takes.
const LEASE_MS: Millis = 60_000;

/// What would be given up.
#[derive(Debug, Clone)]
pub struct DiscardPlan {
    /// The letters, by what failed.
    pub groups: Vec<LetterGroup>,
    /// How many they are.
    pub count: u64,
    /// What was asked for, as text for the record.
    pub selection: String,
    filter: LetterFilter,
}

/// How far giving up has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Discarded {
    /// Given up, now.
    pub discarded: u64,
    /// Left alone: another operator has them in hand.
    pub in_other_hands: u64,
    /// Replayed or discarded by somebody else meanwhile, or gone.
    pub ended_meanwhile: u64,
    /// Whether it was told to stop before it was through.
    pub is_interrupted: bool,
}

impl DeadLetters {
    /// The open letters that a filter chooses now. Those that are parked later are never part of the plan.
    ///
    /// # Errors
    /// The database failed.
    pub async fn plan_discard(
        &self,
        filter: LetterFilter,
        selection: &str,
    ) -> Result<DiscardPlan, DeadLetterError> {
        // What is stored by now was stored before the next millisecond, unless by a clock that is fast.
        let filter = filter.and(LetterFilter::With(Condition::Before(next_millisecond()))).open();
        let groups = self.stats(&filter).await?;
        let count = self.count(&filter).await?;
        Ok(DiscardPlan { groups, count, selection: selection.to_owned(), filter })
    }

    /// Gives up what was planned, each letter once, and records it; tells how far it has come. What another operator has in
    /// hand is left to him. The orders are not touched: one that is HELD stays so.
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
        let target = format!("{} dead letters: {}", plan.count, plan.selection);
        let act = self.log.begin(&Self::act(asked, "dlq.discard", target)).await?;
        let discarding = Discarding { letters: self, asked, job: act.as_str(), stop };
        let done = discarding.run(&plan.filter, tell).await;
        let result = match &done {
            Ok(done) => format!(
                "{} discarded, {} in other hands, {} ended meanwhile{}",
                done.discarded,
                done.in_other_hands,
                done.ended_meanwhile,
                if done.is_interrupted { "; interrupted" } else { "" }
            ),
            Err(error) => format!("broke off: {error}"),
        };
        self.log.end(&act, &result).await?;
        Ok(done?)
    }
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
        filter: &LetterFilter,
        mut tell: impl FnMut(&Discarded),
    ) -> Result<Discarded, StoreError> {
        let mut done = Discarded::default();
        let mut after: Option<LetterCursor> = None;
        loop {
            let letters = self.letters.store.list_letters(filter, after.as_ref(), LETTERS_MAX).await?;
            let Some(last) = letters.last() else { return Ok(done) };
            after = Some(last.cursor());
            let mut ends = stream::iter(letters.into_iter().map(|letter| letter.id))
                .map(|id| async move { self.discard(&id).await })
                .buffer_unordered(AT_ONCE);
            while let Some(end) = ends.try_next().await? {
                *match end {
                    Leased::Yes => &mut done.discarded,
                    Leased::By { .. } => &mut done.in_other_hands,
                    Leased::Ended | Leased::Missing => &mut done.ended_meanwhile,
                } += 1;
                tell(&done);
                if self.stop.is_cancelled() {
                    done.is_interrupted = true;
                    return Ok(done);
                }
            }
        }
    }

    async fn discard(&self, id: &str) -> Result<Leased, StoreError> {
        let store = &self.letters.store;
        let now = Timestamp::now();
        let until = now.as_millisecond() + LEASE_MS;
        let leased = store.lease_letter(id, self.job, now.as_millisecond(), until).await?;
        if leased != Leased::Yes {
            return Ok(leased);
        }
        let ended = Ended {
            how: How::Discarded,
            by: self.asked.who.to_string(),
            why: self.asked.why.clone(),
            at: now,
            job: Some(self.job.to_owned()),
        };
        let is_ended = store.end_letter(id, self.job, &ended).await?;
        Ok(if is_ended { Leased::Yes } else { Leased::Ended })
    }
}

fn next_millisecond() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond() + 1).unwrap_or(now)
}
