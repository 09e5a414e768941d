//! What a worker takes and handles, counted by queue for its heartbeats.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use orderfleet_domain::saga::Millis;
use orderfleet_messaging::{Control, Subscription};
use orderfleet_storage::WorkedQueue;

use crate::pauses::Pausable;

/// No message has told its age.
const UNKNOWN: i64 = -1;

/// The queues of a worker. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Load(Arc<[Taken]>);

/// One queue's figures.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) queue: WorkedQueue,
    control: Control,
    handled: AtomicU64,
    age_ms: AtomicI64,
}

impl Load {
    /// That of these subscriptions.
    pub(crate) fn new<A, B>(orders: &[Subscription<A>], dead_letters: &[Subscription<B>]) -> Self
    where
        WorkedQueue: for<'a> From<&'a A> + for<'a> From<&'a B>,
    {
        let orders = orders.iter().map(|one| Taken::new(WorkedQueue::from(&one.lane), &one.control));
        let dead = dead_letters.iter().map(|one| Taken::new(WorkedQueue::from(&one.lane), &one.control));
        Self(orders.chain(dead).collect())
    }

    /// What pauses each queue.
    pub(crate) fn pausable(&self) -> Vec<Pausable> {
        let pausable =
            |taken: &Taken| Pausable { queue: taken.queue.clone(), control: taken.control.clone() };
        self.0.iter().map(pausable).collect()
    }

    /// Every queue.
    pub(crate) fn queues(&self) -> &[Taken] {
        &self.0
    }

    /// A delivery was taken from a queue, in which it had waited for so long, where it tells.
    pub(crate) fn taken(&self, queue: &WorkedQueue, waited: Option<Millis>) {
        if let Some(taken) = self.of(queue) {
            taken.age_ms.store(waited.map_or(UNKNOWN, |waited| waited.max(0)), Ordering::Relaxed);
        }
    }

    /// A delivery of a queue has been handled.
    pub(crate) fn handled(&self, queue: &WorkedQueue) {
        if let Some(taken) = self.of(queue) {
            taken.handled.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn of(&self, queue: &WorkedQueue) -> Option<&Taken> {
        self.0.iter().find(|taken| taken.queue == *queue)
    }
}

impl Taken {
    fn new(queue: WorkedQueue, control: &Control) -> Self {
        Self { queue, control: control.clone(), handled: AtomicU64::new(0), age_ms: AtomicI64::new(UNKNOWN) }
    }

    pub(crate) fn in_hand(&self) -> u64 {
        u64::try_from(self.control.in_hand()).unwrap_or(u64::MAX)
    }

    pub(crate) fn handled_total(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    /// How long the last message had waited when it was taken, where it tells; told once, as it says nothing about later.
    pub(crate) fn age_ms(&self) -> Option<u64> {
        u64::try_from(self.age_ms.swap(UNKNOWN, Ordering::Relaxed)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_what_was_taken_is_told_once() {
        let load = Load(Arc::new([Taken::new(WorkedQueue::Retry, &Control::default())]));
        let told = || load.queues()[0].age_ms();
        assert_eq!(told(), None);
        load.taken(&WorkedQueue::Retry, Some(1_500));
        assert_eq!((told(), told()), (Some(1_500), None));
    }
}
