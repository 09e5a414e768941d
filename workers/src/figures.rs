//! What a worker has heard from one service between two heartbeats: whether more workers would be of any use there.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Counted since they were told last.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    calls: AtomicU64,
    took_us: AtomicU64,
    crowded_out: AtomicU64,
}

/// The figures of one heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) calls: u64,
    /// On average; none where no call has ended.
    pub(crate) latency_ms: Option<u64>,
    pub(crate) crowded_out: u64,
}

impl Figures {
    /// A call has ended, with or without an answer.
    pub(crate) fn ended(&self, took: Duration) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.took_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A call was not made: no place came free in time.
    pub(crate) fn crowded_out(&self) {
        self.crowded_out.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells the figures, once: they begin anew. A call that ends meanwhile may be counted in one half and timed in the other.
    pub(crate) fn tell(&self) -> Told {
        let take = |figure: &AtomicU64| figure.swap(0, Ordering::Relaxed);
        let (calls, took_us) = (take(&self.calls), take(&self.took_us));
        let latency_ms = took_us.checked_div(calls).map(|micros| micros / 1_000);
        Told { calls, latency_ms, crowded_out: take(&self.crowded_out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_heartbeat_tells_what_was_since_the_one_before() {
        let figures = Figures::default();
        for millis in [10, 30] {
            figures.ended(Duration::from_millis(millis));
        }
        figures.crowded_out();
        assert_eq!(figures.tell(), Told { calls: 2, latency_ms: Some(20), crowded_out: 1 });
        assert_eq!(figures.tell(), Told { calls: 0, latency_ms: None, crowded_out: 0 });
    }
}
