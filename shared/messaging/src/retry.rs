//! How long to wait before the next try: the only place that uses the `backoff` crate.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};

/// Growing, jittered delays without an end: doubled each time, ±50 %, up to a longest one.
#[derive(Debug)]
pub struct Delays {
    backoff: ExponentialBackoff,
    longest: Duration,
}

impl Delays {
    /// Delays from `first` to `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        let backoff = ExponentialBackoffBuilder::new()
            .with_initial_interval(first)
            .with_multiplier(2.0)
            .with_randomization_factor(0.5)
            .with_max_interval(longest)
            .with_max_elapsed_time(None)
            .build();
        Self { backoff, longest }
    }

    /// The next delay.
    pub fn next_delay(&mut self) -> Duration {
        self.backoff.next_backoff().unwrap_or(self.longest)
    }

    /// Starts over with the first delay, after a success.
    pub fn reset(&mut self) {
        self.backoff.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_longest_and_start_over() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut delays = Delays::new(first, longest);
        assert!(delays.next_delay() <= first * 3 / 2);
        for _ in 0..50 {
            delays.next_delay();
        }
        let late = delays.next_delay();
        assert!(late >= longest / 2 && late <= longest * 3 / 2, "{late:?}");
        delays.reset();
        assert!(delays.next_delay() <= first * 3 / 2);
    }
}
