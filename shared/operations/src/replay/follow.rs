//! The orders of a batch, watched until they have ended.

use std::time::Duration;

use orderfleet_domain::saga::Record;
use orderfleet_storage::{ItemState, ReplayItem, StoreError};
use tokio::time::{Instant, sleep};

use crate::replay::{
    Outcome, Progress, Replaying, RunError,
    ending::{cancel_ending, ending},
    items::Items,
};

/// What was planned where the message itself is published again.
const AGAIN: &str = "again";
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
        let order = match self.store.order_for_operator(order_id).await {
            // A newer build works it: this one would wait in vain.
            Err(StoreError::Unreadable { .. }) => {
                return Ok(Some((ItemState::Failed, "this build cannot read its order any more".into())));
            }
            order => order?,
        };
        if item.is_cancel {
            return self.cancel_ending(item, order.map(|order| order.record).as_ref()).await;
        }
        let ended = order.as_ref().and_then(|order| {
            let corrected_in = order.correction.as_ref().map(|(generation, _)| *generation);
            ending(&order.record, corrected_in, item)
        });
        if ended.is_none() && hangs_on_message(item, order.map(|order| order.record).as_ref()) {
            return self.came_back(item).await;
        }
        Ok(ended)
    }

    /// Once it is published, a cancel waits for an order that is not there for a day anew. That is not waited for here.
    async fn cancel_ending(
        &self,
        item: &ReplayItem,
        order: Option<&Record>,
    ) -> Result<Option<(ItemState, String)>, StoreError> {
        let came_back = self.came_back(item).await?;
        if came_back.is_some() {
            return Ok(came_back);
        }
        match order {
            Some(record) => Ok(cancel_ending(record)),
            None => Ok(Some((ItemState::Done, "the cancel is published; it waits for its order".into()))),
        }
    }

    async fn came_back(&self, item: &ReplayItem) -> Result<Option<(ItemState, String)>, StoreError> {
        let came_back = self.arrivals(item).await? > item.arrivals;
        Ok(came_back.then(|| (ItemState::Failed, "its message is a dead letter again".into())))
    }
}

/// Whether the order does nothing until it gets the message that was published: should that crash workers, nothing else tells.
fn hangs_on_message(item: &ReplayItem, order: Option<&Record>) -> bool {
    let Some(order) = order else { return true };
    let is_held = order.hold.as_ref().is_some_and(|hold| item.hold.as_ref() == Some(&hold.id));
    is_held || order.generation < item.generation || item.planned == AGAIN
}

#[cfg(test)]
mod tests {
    use orderfleet_domain::saga::{CauseClass, Phase};

    use super::*;
    use crate::replay::fixtures::{held, item, record, undone};

    #[test]
    fn an_order_hangs_on_the_message_that_creates_it_runs_it_again_or_releases_it() {
        let run = ReplayItem { generation: 2, planned: "run 2".into(), ..item(0, ItemState::Begun) };
        let release = ReplayItem {
            generation: 1,
            hold: Some("h1".into()),
            planned: "release h1".into(),
            ..item(0, ItemState::Begun)
        };
        assert!(hangs_on_message(&run, None));
        assert!(hangs_on_message(&run, Some(&undone(CauseClass::AttemptsExhausted, None))));
        assert!(hangs_on_message(&release, Some(&held(Phase::Run, "h1"))));
        assert!(!hangs_on_message(&release, Some(&record(Phase::Run))), "it is released, and under way");
    }
}
