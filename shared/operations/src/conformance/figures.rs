//! What all calls of a check have in common: how many, how fast, how large.

use std::time::Duration;

use super::{
    answer::{Answer, Meaning},
    call::{Ask, Call},
};

/// Counted over all calls.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figures {
    pub(super) calls: u64,
    /// Calls that were not answered within the timeout.
    pub(super) timeouts: u64,
    /// Dos and undos as workers send them, with neither a definite answer nor a timeout.
    pub(super) unknown: u64,
    pub(super) result_bytes_max: usize,
    /// The longest of the answered calls.
    pub(super) slowest: Duration,
    /// All of them together.
    took: Duration,
}

impl Figures {
    pub(super) fn count(&mut self, call: &Call, answer: &Answer) {
        self.calls += 1;
        if answer.timed_out {
            self.timeouts += 1;
        } else if call.ask != Ask::Look && call.is_usual() && !answer.is_definite() {
            self.unknown += 1;
        }
        if answer.status.is_some() {
            self.slowest = self.slowest.max(answer.took);
            self.took += answer.took;
        }
        if call.ask != Ask::Look
            && let Meaning::Result(_, bytes) = answer.meaning
        {
            self.result_bytes_max = self.result_bytes_max.max(bytes);
        }
    }

    /// How long a call usually takes.
    pub(super) fn usual(&self) -> Duration {
        self.took / u32::try_from(self.calls.max(1)).unwrap_or(u32::MAX)
    }
}
