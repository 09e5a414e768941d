//! Growing batches: a mistake is found out with one order, not with a thousand.

/// Sizes of the batches of a replay: 1, 2, 5, 10, 20, 50, … up to a largest one.
#[derive(Debug, Clone)]
pub struct Ramp {
    next: u32,
    largest: u32,
}

impl Ramp {
    /// Begins with one; `largest` is at least 1.
    #[must_use]
    pub fn new(largest: u32) -> Self {
        Self { next: 1, largest: largest.max(1) }
    }

    /// Begins where a replay stands of which so many are over: as if it had never stopped.
    #[must_use]
    pub fn after(largest: u32, over: u32) -> Self {
        let mut ramp = Self::new(largest);
        let mut passed = 0_u32;
        while passed.saturating_add(ramp.next.min(ramp.largest)) <= over && ramp.next < ramp.largest {
            passed = passed.saturating_add(ramp.take());
        }
        ramp
    }

    /// The size of the next batch.
    pub fn take(&mut self) -> u32 {
        let size = self.next.min(self.largest);
        let leading = self.next / 10_u32.pow(self.next.ilog10());
        self.next = match leading {
            2 => self.next.saturating_mul(5) / 2,
            _ => self.next.saturating_mul(2),
        };
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(mut ramp: Ramp, count: usize) -> Vec<u32> {
        (0..count).map(|_| ramp.take()).collect()
    }

    #[test]
    fn batches_grow_to_the_largest() {
        assert_eq!(sizes(Ramp::new(150), 9), [1, 2, 5, 10, 20, 50, 100, 150, 150]);
        assert_eq!(sizes(Ramp::new(0), 2), [1, 1]);
    }

    #[test]
    fn a_replay_that_is_resumed_goes_on_with_the_size_it_had_reached() {
        assert_eq!(sizes(Ramp::after(150, 0), 2), [1, 2]);
        assert_eq!(sizes(Ramp::after(150, 8), 2), [10, 20]);
        assert_eq!(sizes(Ramp::after(150, 100_000), 1), [150]);
    }
}
