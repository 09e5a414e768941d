//! Acknowledgements of one channel, gathered for a moment.
//!
//! Once everything that was delivered up to a tag has been handled, one acknowledgement of all up to it takes the broker a
//! fraction of what one for each takes. What is handled out of turn waits a little for what came before it, and is then
//! acknowledged alone, so that a slow order does not fill the prefetch.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lapin::{
    Channel,
    options::{BasicAckOptions, BasicNackOptions},
    types::DeliveryTag,
};
use tokio::sync::Mutex as AsyncMutex;

use crate::meters::{self, Open};

/// From an acknowledgement to the message that tells the broker, as exactly as a timer can.
const GATHER: Duration = Duration::from_millis(2);
/// How long what is handled out of turn waits for what came before it.
const HOLD: Duration = Duration::from_millis(20);
/// The share of a prefetch that may wait so: the broker sends nothing in its place.
const HELD_SHARE: usize = 4;

/// Those of one channel. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Acks(Arc<Gathered>);

#[derive(Debug)]
struct Gathered {
    channel: Channel,
    /// So many are held at most.
    held_max: usize,
    tags: Mutex<Tags>,
    /// Whoever tells the broker: what is told together must not overtake what is told alone.
    telling: AsyncMutex<()>,
}

/// The tags of a channel are the numbers from 1 on, whatever its consumers were (AMQP 0-9-1, "delivery-tag"). One that was never
/// handled, such as that of a delivery which was dropped, ends what can be acknowledged together: all after it go alone.
#[derive(Debug, Default)]
struct Tags {
    /// Highest that was handled or given back.
    highest: DeliveryTag,
    /// Below that, those that were not: as many as the broker waits for.
    open: BTreeSet<DeliveryTag>,
    /// Handled, since when, and not acknowledged yet.
    handled: BTreeMap<DeliveryTag, (Instant, Open)>,
    /// Somebody is about to tell the broker.
    is_gathering: bool,
}

/// What to tell the broker.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    /// All up to this one have been handled or given back.
    up_to: Option<DeliveryTag>,
    /// After that, these alone.
    alone: Vec<DeliveryTag>,
}

impl Acks {
    /// Those of a channel with this prefetch.
    pub(crate) fn new(channel: &Channel, prefetch: u16) -> Self {
        let held_max = usize::from(prefetch) / HELD_SHARE;
        let (channel, tags, telling) = (channel.clone(), Mutex::default(), AsyncMutex::default());
        Self(Arc::new(Gathered { channel, held_max, tags, telling }))
    }

    /// Has the broker told within some 25 ms that this one is handled.
    pub(crate) fn ack(&self, tag: DeliveryTag) {
        let mut tags = self.0.tags();
        tags.handle(tag, Instant::now());
        if !mem::replace(&mut tags.is_gathering, true) {
            tokio::spawn(Arc::clone(&self.0).tell());
        }
    }

    /// Gives one back. Only then can what came after it be acknowledged together with what came before.
    pub(crate) async fn give_back(&self, tag: DeliveryTag) {
        let requeue = BasicNackOptions { multiple: false, requeue: true };
        if self.0.channel.basic_nack(tag, requeue).await.is_ok() {
            self.0.tags().settle(tag);
        }
    }

    /// Tells the broker now of all that has been handled, for when the channel is closed next.
    pub(crate) async fn flush(&self) {
        self.0.send(Duration::ZERO).await;
    }
}

impl Gathered {
    /// Tells the broker until nothing handled is left.
    async fn tell(self: Arc<Self>) {
        loop {
            tokio::time::sleep(GATHER).await;
            {
                let mut tags = self.tags();
                if tags.handled.is_empty() {
                    tags.is_gathering = false;
                    return;
                }
            }
            self.send(HOLD).await;
        }
    }

    /// Tells the broker what is due.
    async fn send(&self, hold: Duration) {
        let _telling = self.telling.lock().await;
        let due = self.tags().due(Instant::now(), hold, self.held_max);
        let all = due.up_to.map(|tag| (tag, true));
        for (tag, multiple) in all.into_iter().chain(due.alone.into_iter().map(|tag| (tag, false))) {
            if let Err(error) = self.channel.basic_ack(tag, BasicAckOptions { multiple }).await {
                // The broker delivers it again, and whoever gets it finds the document as it is.
                tracing::debug!(%error, "ack on a lost channel; the deliveries will come again");
            }
        }
    }

    fn tags(&self) -> MutexGuard<'_, Tags> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tags {
    fn handle(&mut self, tag: DeliveryTag, now: Instant) {
        self.settle(tag);
        self.handled.insert(tag, (now, meters::ack_waiting()));
    }

    /// This one is open no more.
    fn settle(&mut self, tag: DeliveryTag) {
        if tag > self.highest {
            self.open.extend(self.highest + 1..tag);
            self.highest = tag;
        } else {
            self.open.remove(&tag);
        }
    }

    /// Takes out what may be told: all before the first that is open, and of the others what has waited for `hold`, or all when
    /// they are too many.
    fn due(&mut self, now: Instant, hold: Duration, held_max: usize) -> Due {
        let first_open = self.open.first().copied().unwrap_or(DeliveryTag::MAX);
        let out_of_turn = self.handled.split_off(&first_open);
        let in_turn = mem::replace(&mut self.handled, out_of_turn);
        let hold = if self.handled.len() > held_max { Duration::ZERO } else { hold };
        let waited = self.handled.extract_if(.., |_, (since, _)| now.duration_since(*since) >= hold);
        Due { alone: waited.map(|(tag, _)| tag).collect(), up_to: in_turn.into_keys().next_back() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handled(tags: &[DeliveryTag], now: Instant) -> Tags {
        let mut all = Tags::default();
        tags.iter().for_each(|tag| all.handle(*tag, now));
        all
    }

    #[test]
    fn what_was_handled_in_turn_is_acknowledged_together() {
        let now = Instant::now();
        let mut tags = handled(&[2, 5, 1, 3], now);
        assert_eq!(tags.due(now, HOLD, 8), Due { up_to: Some(3), alone: vec![] });
        tags.handle(4, now);
        assert_eq!(tags.due(now, HOLD, 8), Due { up_to: Some(5), alone: vec![] });
    }

    #[test]
    fn what_waits_too_long_for_its_turn_is_acknowledged_alone() {
        let now = Instant::now();
        let mut tags = handled(&[2, 3], now);
        assert_eq!(tags.due(now + HOLD / 2, HOLD, 8), Due { up_to: None, alone: vec![] });
        assert_eq!(tags.due(now + HOLD, HOLD, 8), Due { up_to: None, alone: vec![2, 3] });
        tags.handle(1, now);
        tags.handle(4, now);
        assert_eq!(tags.due(now, HOLD, 8), Due { up_to: Some(4), alone: vec![] });
    }

    #[test]
    fn too_many_that_wait_for_their_turn_wait_no_longer() {
        let now = Instant::now();
        let mut tags = handled(&[2, 3, 4], now);
        assert_eq!(tags.due(now, HOLD, 2), Due { up_to: None, alone: vec![2, 3, 4] });
    }

    #[test]
    fn what_was_dropped_is_acknowledged_by_nothing() {
        let now = Instant::now();
        let mut tags = handled(&[1, 3, 5], now);
        assert_eq!(tags.due(now, Duration::ZERO, 8), Due { up_to: Some(1), alone: vec![3, 5] });
        tags.settle(2);
        tags.handle(6, now);
        assert_eq!(tags.due(now, HOLD, 8), Due { up_to: None, alone: vec![] }, "4 was dropped, 2 given back");
        assert_eq!(tags.open, [4].into());
    }

    #[test]
    fn each_is_acknowledged_once_it_is_handled_and_none_before_whatever_the_order() {
        let (now, mut random) = (Instant::now(), fastrand::Rng::with_seed(7));
        let (mut tags, mut in_hand, mut delivered) = (Tags::default(), Vec::new(), 0);
        let mut acknowledged = BTreeSet::new();
        while delivered < 5_000 || !in_hand.is_empty() {
            if random.bool() && in_hand.len() < 32 && delivered < 5_000 {
                delivered += 1;
                in_hand.push(delivered);
            } else if !in_hand.is_empty() {
                let tag = in_hand.swap_remove(random.usize(..in_hand.len()));
                tags.handle(tag, now);
            }
            let hold = if random.u8(..10) == 0 { Duration::ZERO } else { HOLD };
            let due = tags.due(now, hold, 8);
            acknowledged.extend((1..=due.up_to.unwrap_or(0)).chain(due.alone));
            assert!(in_hand.iter().all(|tag| !acknowledged.contains(tag)));
            assert!(tags.open.len() <= in_hand.len(), "bounded by what is in hand");
        }
        let due = tags.due(now, Duration::ZERO, 8);
        acknowledged.extend((1..=due.up_to.unwrap_or(0)).chain(due.alone));
        assert_eq!(acknowledged.len(), 5_000);
    }
}
