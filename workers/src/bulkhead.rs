//! Bulkhead: at most so many calls of one step in flight, so that a service that hangs cannot occupy a whole worker.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

/// Longest wait for a place. A healthy service that is a little short of places frees one within it.
const WAIT: Duration = Duration::from_millis(500);

/// The places of one step.
#[derive(Debug)]
pub(crate) struct Bulkhead {
    places: Semaphore,
    /// A wait was in vain and no call has ended since: the next one would be, too.
    stuck: AtomicBool,
}

impl Bulkhead {
    pub(crate) fn new(places: usize) -> Self {
        Self { places: Semaphore::new(places), stuck: AtomicBool::new(false) }
    }

    /// Takes a place until it is dropped. Waits a little while calls come and go, and not at all while none ends: whoever
    /// waits occupies a slot of the worker that others could use.
    pub(crate) async fn enter(&self) -> Option<Place<'_>> {
        let permit = if self.stuck.load(Ordering::Relaxed) {
            self.places.try_acquire().ok()?
        } else if let Ok(permit) = timeout(WAIT, self.places.acquire()).await {
            permit.ok()?
        } else {
            self.stuck.store(true, Ordering::Relaxed);
            return None;
        };
        Some(Place { bulkhead: self, _permit: permit })
    }
}

/// A place that is taken.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    bulkhead: &'a Bulkhead,
    _permit: SemaphorePermit<'a>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.bulkhead.stuck.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn who_finds_it_full_waits_a_little_for_a_place() {
        let bulkhead = Bulkhead::new(1);
        let first = bulkhead.enter().await.unwrap();
        let mut second = Box::pin(bulkhead.enter());
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        assert!(second.await.is_some());
    }

    #[tokio::test]
    async fn while_no_call_ends_only_the_first_one_waits() {
        let bulkhead = Bulkhead::new(1);
        let hanging = bulkhead.enter().await.unwrap();
        assert!(bulkhead.enter().await.is_none());
        assert!(matches!(bulkhead.enter().now_or_never(), Some(None)));
        drop(hanging);
        let next = bulkhead.enter().await.unwrap();
        assert!(bulkhead.enter().now_or_never().is_none(), "a call has ended: waiting is worth while again");
        drop(next);
    }
}
