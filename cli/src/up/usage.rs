//! How many workers ran for how long, against a fleet that always has as many as this one may have.

use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// Worker-seconds since the start: what running workers costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Seconds that each worker process has run, from its start to its end, added up.
    pub(crate) worker_seconds: f64,
    /// The same for a fleet that always has the most workers.
    pub(crate) worker_seconds_fixed: f64,
    /// Most worker processes at once.
    pub(crate) workers_peak: u16,
}

/// Counts it.
#[derive(Debug)]
pub(super) struct Counting {
    usage: Usage,
    most: u16,
    at: Instant,
    running: u16,
}

impl Counting {
    /// From this moment on, against a fleet of so many.
    pub(super) fn new(now: Instant, most: u16) -> Self {
        Self { usage: Usage::default(), most, at: now, running: 0 }
    }

    /// So many run now; until now as many ran as was said before.
    pub(super) fn on(&mut self, now: Instant, running: u16) -> Usage {
        let seconds = now.duration_since(self.at).as_secs_f64();
        self.usage.worker_seconds += f64::from(self.running) * seconds;
        self.usage.worker_seconds_fixed += f64::from(self.most) * seconds;
        self.usage.workers_peak = self.usage.workers_peak.max(running);
        (self.at, self.running) = (now, running);
        self.usage
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worker_seconds, worker_seconds_fixed, workers_peak } = self;
        let share =
            if *worker_seconds_fixed > 0.0 { worker_seconds / worker_seconds_fixed * 100.0 } else { 0.0 };
        write!(
            out,
            "{worker_seconds:.0} worker-seconds, {workers_peak} workers at most; a fixed fleet would have taken \
             {worker_seconds_fixed:.0} ({share:.0} %)"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn workers_are_counted_for_as_long_as_they_run() {
        let mut now = Instant::now();
        let mut counting = Counting::new(now, 4);
        for (running, seconds) in [(2, 10), (3, 1), (0, 9)] {
            counting.on(now, running);
            now += Duration::from_secs(seconds);
        }
        let usage = counting.on(now, 0);
        assert!((usage.worker_seconds - 23.0).abs() < 0.01 && usage.workers_peak == 3, "{usage:?}");
        assert_eq!(
            usage.to_string(),
            "23 worker-seconds, 3 workers at most; a fixed fleet would have taken 80 (29 %)"
        );
    }
}
