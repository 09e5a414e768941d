//! One item of a replay: its dead letter leased, its message published, its dead letter closed.

use jiff::Timestamp;
use orderfleet_domain::saga::Millis;
use orderfleet_storage::{Content, Ended, How, ItemState, Leased, Letter, ReplayItem, StoreError};
use tokio::time::Interval;

use crate::replay::{
    Course, Nothing, Planned, Replaying, RunError,
    course::CANCEL,
    ending::is_still_to_come,
    judging::judge,
    publish::{correction, outgoing, publish},
};

/// How long a dead letter belongs to a replay that takes it: well above the time a publish may take.
const LEASE_MS: Millis = 120_000;
/// What is known for longer than this, since the process was held up, is not acted on: somebody may have decided meanwhile.
const KNOWN_MS_MAX: Millis = 30_000;

/// What is done about an item.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Publish,
    /// What was published before an interruption has come about.
    Close,
    /// Nothing is left to do: the dead letter is closed.
    Settle(String),
    /// The dead letter stays.
    Refuse(String),
}

impl Replaying {
    /// Publishes for one item what was planned for it, if that is still what its order needs. The item is recorded as begun
    /// before, and its dead letter closed after.
    pub(super) async fn begin_item(
        &self,
        item: &mut ReplayItem,
        pace: &mut Interval,
    ) -> Result<(), RunError> {
        while !self.try_item(item, pace).await? {}
        Ok(())
    }

    /// False where it took too long: everything is to be looked at once more.
    async fn try_item(&self, item: &mut ReplayItem, pace: &mut Interval) -> Result<bool, RunError> {
        let known_at = now();
        let Some((letter, content)) = self.take(item, known_at).await? else { return Ok(true) };
        let Planned { letter, course } = judge(&self.store, letter).await?;
        item.is_cancel = letter.kind == CANCEL;
        match step(item, &course) {
            Step::Publish => {
                pace.tick().await;
                return self.publish_for(item, &letter, &content, &course, known_at).await;
            }
            Step::Close => {
                if self.arrivals(item).await? == item.arrivals {
                    self.close(item).await?;
                } else {
                    item.is_letter_left = true;
                    self.store.release_letter(&item.letter, &self.replay.id).await?;
                }
                self.published(item, "published before").await?;
            }
            Step::Settle(why) => {
                self.close(item).await?;
                self.refuse(item, &why).await?;
            }
            Step::Refuse(why) => {
                self.store.release_letter(&item.letter, &self.replay.id).await?;
                self.refuse(item, &why).await?;
            }
        }
        Ok(true)
    }

    /// Leases the dead letter; `None` where nothing can be done about it.
    async fn take(
        &self,
        item: &mut ReplayItem,
        now: Millis,
    ) -> Result<Option<(Letter, Content)>, StoreError> {
        let lease = self.store.lease_letter(&item.letter, &self.replay.id, now, now + LEASE_MS);
        match lease.await? {
            Leased::Yes => match self.store.letter(&item.letter).await {
                Err(StoreError::Malformed { .. }) => self.leave_unreadable(item).await?,
                found => {
                    let found = found?;
                    if found.is_none() {
                        self.refuse(item, "the dead letter is gone").await?;
                    }
                    return Ok(found);
                }
            },
            Leased::By { .. } if is_seen_to(item) => {}
            Leased::By { holder, .. } => {
                self.refuse(item, &format!("another operator has it in hand: {holder}")).await?;
            }
            Leased::Missing => self.refuse(item, "the dead letter is gone").await?,
            Leased::Ended => self.ended(item).await?,
        }
        Ok(None)
    }

    /// What a newer build has kept with the dead letter must not be in the way of all others.
    async fn leave_unreadable(&self, item: &mut ReplayItem) -> Result<(), StoreError> {
        self.store.release_letter(&item.letter, &self.replay.id).await?;
        if is_seen_to(item) {
            return Ok(());
        }
        self.refuse(item, "this build cannot read the dead letter; replay it with the newest").await
    }

    async fn publish_for(
        &self,
        item: &mut ReplayItem,
        letter: &Letter,
        content: &Content,
        course: &Course,
        known_at: Millis,
    ) -> Result<bool, RunError> {
        let before = item.clone();
        let corrected = correction(&self.store, letter, content, course).await?;
        item.is_corrected = corrected.is_some();
        let Some(message) = outgoing(letter, content, course, corrected, &self.reason()) else {
            self.store.release_letter(&item.letter, &self.replay.id).await?;
            self.refuse(item, "no message can be made for its order").await?;
            return Ok(true);
        };
        let arrivals = self.arrivals(item).await?;
        if before.state == ItemState::Begun && arrivals > before.arrivals {
            // It is a dead letter again: whoever follows the item says so.
            self.store.release_letter(&item.letter, &self.replay.id).await?;
            return Ok(true);
        }
        if is_outdated(known_at) {
            return Ok(false);
        }
        item.generation = course.generation().unwrap_or_default();
        item.hold = course.hold().map(str::to_owned);
        item.is_undoing = course.is_undoing();
        item.arrivals = arrivals;
        let note = course.to_string();
        self.record(item, ItemState::Begun, &note).await?;
        if is_outdated(known_at) {
            if before.state == ItemState::Waiting {
                // Nothing was published, and the next look must not take it for that.
                *item = before;
                self.record(item, ItemState::Waiting, "").await?;
            }
            return Ok(false);
        }
        publish(&self.publisher, &message).await.map_err(RunError::NotConfirmed)?;
        self.close(item).await?;
        self.published(item, &note).await?;
        Ok(true)
    }

    /// What was published is followed from here on.
    async fn published(&self, item: &mut ReplayItem, note: &str) -> Result<(), StoreError> {
        if item.is_letter_left {
            self.record(item, ItemState::Begun, note).await?;
        }
        Ok(())
    }

    /// The dead letter is closed: by this replay, before it was interrupted, or by somebody else.
    async fn ended(&self, item: &mut ReplayItem) -> Result<(), StoreError> {
        let how = match self.store.letter(&item.letter).await {
            // A newer build has kept something with it. That does not matter any more.
            Err(StoreError::Malformed { .. }) => None,
            found => found?.and_then(|(letter, _)| letter.ended).map(|ended| ended.how),
        };
        match (how, item.state) {
            (Some(How::Discarded), _) => self.refuse(item, "it was discarded meanwhile").await,
            (_, ItemState::Begun) => {
                item.is_letter_left = false;
                Ok(())
            }
            _ => self.refuse(item, "it was replayed meanwhile").await,
        }
    }

    async fn close(&self, item: &mut ReplayItem) -> Result<(), StoreError> {
        let ended = Ended {
            how: How::Replayed,
            by: self.asked.who.to_string(),
            why: self.asked.why.clone(),
            at: Timestamp::now(),
            job: Some(self.replay.id.clone()),
        };
        item.is_letter_left = !self.store.end_letter(&item.letter, &self.replay.id, &ended).await?;
        Ok(())
    }

    /// Another process may carry the same replay on: what that has recorded stays.
    async fn refuse(&self, item: &mut ReplayItem, why: &str) -> Result<(), StoreError> {
        match self.store.replay_item(&self.replay.id, item.seq).await? {
            Some(known) if known.state != item.state => *item = known,
            _ => self.record(item, ItemState::Refused, why).await?,
        }
        Ok(())
    }

    /// How often messages of the item's order, cancels if it is one, have come to `orders.dead.poison`.
    pub(super) async fn arrivals(&self, item: &ReplayItem) -> Result<u64, StoreError> {
        match &item.order_id {
            Some(order_id) => self.store.poison_arrivals(order_id, item.is_cancel).await,
            None => Ok(0),
        }
    }
}

fn step(item: &ReplayItem, course: &Course) -> Step {
    let is_begun = item.state == ItemState::Begun;
    match course {
        Course::Nothing(Nothing::UnderWay) | Course::Settled(_) if is_begun => Step::Close,
        Course::Nothing(why) => Step::Refuse(why.to_string()),
        Course::Settled(why) => Step::Settle(why.to_string()),
        _ if course.planned() == item.planned => Step::Publish,
        _ if is_begun && !is_still_to_come(item, course) => Step::Close,
        _ => Step::Refuse(format!("its order stands otherwise than planned: it {course}")),
    }
}

/// Whether what was known then is too old to act on. A clock that was set back tells nothing either.
fn is_outdated(known_at: Millis) -> bool {
    !(0..=KNOWN_MS_MAX).contains(&(now() - known_at))
}

fn now() -> Millis {
    Timestamp::now().as_millisecond()
}

/// Whether the order of what was begun shows what becomes of it, published or not. That of a cancel need not be there.
fn is_seen_to(item: &ReplayItem) -> bool {
    item.state == ItemState::Begun && !item.is_cancel
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::{Settled, fixtures::item};

    fn run(generation: u32) -> Course {
        Course::Run { generation, correction: None }
    }

    fn release(hold: &str) -> Course {
        Course::Release { hold: hold.into(), generation: 1, is_undoing: false }
    }

    /// An item for which this was planned.
    fn waiting(course: &Course) -> ReplayItem {
        ReplayItem { planned: course.planned(), ..item(0, ItemState::Waiting) }
    }

    /// One for which it was published, perhaps.
    fn begun(course: &Course) -> ReplayItem {
        let (generation, hold) = (course.generation().unwrap(), course.hold().map(str::to_owned));
        ReplayItem { state: ItemState::Begun, generation, hold, ..waiting(course) }
    }

    fn is_refused(step: &Step) -> bool {
        matches!(step, Step::Refuse(why) if why.contains("otherwise than planned"))
    }

    #[test]
    fn a_cancel_that_somebody_else_has_in_hand_is_not_taken_for_published() {
        let order = begun(&run(2));
        let cancel = ReplayItem { is_cancel: true, ..order.clone() };
        assert_eq!([order, cancel].map(|item| is_seen_to(&item)), [true, false]);
    }

    #[test]
    fn only_what_was_planned_is_published() {
        let settled = Course::Settled(Settled::LaterRun);
        for course in [run(2), release("h1"), Course::Again { generation: 1 }] {
            assert_eq!(step(&waiting(&course), &course), Step::Publish);
            assert_eq!(step(&begun(&course), &course), Step::Publish, "it may not have come about");
            assert!(is_refused(&step(&waiting(&settled), &course)), "nothing was planned");
            assert_eq!(step(&waiting(&course), &settled), Step::Settle(Settled::LaterRun.to_string()));
        }
        for (planned, found) in [(run(2), run(3)), (release("h1"), release("h2")), (run(2), release("h1"))] {
            assert!(is_refused(&step(&waiting(&planned), &found)), "{planned}: {found}");
            assert_eq!(step(&begun(&planned), &found), Step::Close, "{planned}: {found}");
        }
    }

    #[test]
    fn a_correction_that_came_after_the_plan_is_not_sent_by_it() {
        let fp = orderfleet_domain::Fingerprint::of(&crate::replay::fixtures::order());
        let correction = Some(crate::replay::Correction { letter: "a".into(), fp });
        let corrected = Course::Run { generation: 2, correction };
        for item in [waiting(&run(2)), begun(&run(2))] {
            assert!(is_refused(&step(&item, &corrected)));
        }
    }

    #[test]
    fn a_letter_whose_order_may_be_about_to_be_held_is_closed_only_by_a_replay_that_has_published_for_it() {
        let under_way = Course::Nothing(Nothing::UnderWay);
        assert_eq!(step(&begun(&release("h1")), &under_way), Step::Close);
        assert_eq!(step(&waiting(&release("h1")), &under_way), Step::Refuse(Nothing::UnderWay.to_string()));
    }
}
