//! One item of a replay: its dead letter leased, its message published, its dead letter closed.

use std::slice;

use jiff::Timestamp;
use orderfleet_domain::saga::Millis;
use orderfleet_storage::{Ended, How, ItemState, Leased, Letter, Replay, ReplayItem, StoreError};
use tokio::time::Interval;

use crate::replay::{
    Course, Planned, Replaying, RunError,
    ending::is_still_to_come,
    judging::Orders,
    publish::{outgoing, publish},
};

/// How long a dead letter belongs to a replay that takes it: well above the time a publish may take.
const LEASE_MS: Millis = 120_000;

impl Replaying {
    /// Publishes for one item what its order needs now. The item is recorded as begun before, and its dead letter closed
    /// after.
    pub(super) async fn begin_item(
        &self,
        item: &mut ReplayItem,
        pace: &mut Interval,
    ) -> Result<(), RunError> {
        let now = Timestamp::now().as_millisecond();
        let lease = self.store.lease_letter(&item.letter, &self.replay.id, now, now + LEASE_MS);
        match lease.await? {
            Leased::Yes => {}
            // Published or not, the order shows what becomes of it.
            Leased::By { .. } if item.state == ItemState::Begun => return Ok(()),
            Leased::By { holder, .. } => {
                return self.refuse(item, &format!("another operator has it in hand: {holder}")).await;
            }
            Leased::Missing => return self.refuse(item, "the dead letter is gone").await,
            Leased::Ended => return self.ended(item).await,
        }
        let Some((letter, mut content)) = self.store.letter(&item.letter).await? else {
            return self.refuse(item, "the dead letter is gone").await;
        };
        let orders = Orders::of(&self.store, slice::from_ref(&letter)).await?;
        let Planned { letter, course } = orders.judge(&self.store, letter).await?;
        match (&course, course.generation()) {
            (Course::Nothing(why), _) => {
                self.store.release_letter(&item.letter, &self.replay.id).await?;
                return self.refuse(item, &why.to_string()).await;
            }
            // What this replay has published for it has come about.
            _ if item.state == ItemState::Begun && !is_still_to_come(item, &course) => {}
            (Course::Settled(why), _) => {
                self.close(&letter).await?;
                return self.refuse(item, &why.to_string()).await;
            }
            (_, Some(generation)) => {
                if let Some(other) = course.correction().filter(|kept_with| *kept_with != letter.id) {
                    content.correction =
                        self.store.letter(other).await?.and_then(|(_, content)| content.correction);
                }
                let Some(message) = outgoing(&self.replay, &letter, &content, &course) else {
                    self.store.release_letter(&item.letter, &self.replay.id).await?;
                    return self.refuse(item, "no message can be made for its order").await;
                };
                pace.tick().await;
                item.generation = generation;
                item.hold = course.hold().map(str::to_owned);
                item.is_undoing = course.is_undoing();
                self.record(item, ItemState::Begun, &course.to_string()).await?;
                publish(&self.publisher, &message).await.map_err(RunError::NotConfirmed)?;
            }
            (_, None) => {}
        }
        Ok(self.close(&letter).await?)
    }

    /// The dead letter is closed: by this replay, before it was interrupted, or by somebody else.
    async fn ended(&self, item: &mut ReplayItem) -> Result<(), RunError> {
        let known = self.store.letter(&item.letter).await?;
        let how = known.and_then(|(letter, _)| letter.ended).map(|ended| ended.how);
        match (how, item.state) {
            (Some(How::Discarded), _) => self.refuse(item, "it was discarded meanwhile").await,
            (_, ItemState::Begun) => Ok(()),
            _ => self.refuse(item, "it was replayed meanwhile").await,
        }
    }

    async fn close(&self, letter: &Letter) -> Result<(), StoreError> {
        let Replay { id, who, why, .. } = self.replay.clone();
        let ended = Ended { how: How::Replayed, by: who, why, at: Timestamp::now(), job: Some(id.clone()) };
        self.store.end_letter(&letter.id, &id, &ended).await.map(drop)
    }

    /// Another process may carry the same replay on: what that has recorded stays.
    async fn refuse(&self, item: &mut ReplayItem, why: &str) -> Result<(), RunError> {
        match self.store.replay_item(&self.replay.id, item.seq).await? {
            Some(known) if known.state != item.state => *item = known,
            _ => self.record(item, ItemState::Refused, why).await?,
        }
        Ok(())
    }
}
