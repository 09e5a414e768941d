//! The orders of a batch, watched until they have ended.

use std::time::Duration;

use orderfleet_storage::{ItemState, LetterFilter, ReplayItem, StoreError};
use tokio::time::{Instant, sleep};

use crate::replay::{Outcome, Progress, Replaying, RunError, ending::ending, items::Items};

const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Replaying {
    /// Waits until the orders of a batch have ended; `None` when all have.
    pub(super) async fn follow(
        &self,
        items: &mut Items,
        batch: &[usize],
        tell: &mut impl FnMut(&Progress),
    ) -> Result<Option<Outcome>, RunError> {
        let deadline = Instant::now() + self.budget.batch_timeout;
        loop {
            let mut is_open = false;
            for index in batch {
                let mut item = items.get(*index).clone();
                if item.state == ItemState::Begun {
                    match self.ending(&item).await? {
                        Some((state, note)) => self.record(&mut item, state, &note).await?,
                        None => is_open = true,
                    }
                    items.put(*index, item);
                }
            }
            tell(&items.progress());
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
        match self.store.order_for_operator(order_id).await {
            Ok(Some(view)) => Ok(ending(&view.record, item)),
            Ok(None) => {
                let came_back = self.came_back(item).await?;
                Ok(came_back.then(|| (ItemState::Failed, "its message is a dead letter again".into())))
            }
            // A newer build works it: this one would wait in vain.
            Err(StoreError::Unreadable { .. }) => {
                Ok(Some((ItemState::Failed, "this build cannot read its order any more".into())))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the dead letter of an order that nobody knows was opened again: a message that fails again comes under its old
    /// id.
    async fn came_back(&self, item: &ReplayItem) -> Result<bool, StoreError> {
        let open = LetterFilter::ids([item.letter.clone()]);
        let found = self.store.list_letters(&open, None, 1).await?;
        Ok(found.iter().any(|letter| letter.lease.is_none()))
    }
}
