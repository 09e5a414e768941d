//! The words of a ledger: one record per call, what became of it, and the counts over all of them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::call::{Refusal, StepInstance, Verb};

/// One line of the ledger.
#[derive(Serialize, Deserialize)]
pub(crate) struct Record<A> {
    pub(crate) time: Timestamp,
    pub(crate) seq: usize,
    #[serde(flatten)]
    pub(crate) instance: StepInstance,
    pub(crate) verb: Verb,
    pub(crate) key: String,
    pub(crate) fence: u64,
    #[serde(flatten)]
    pub(crate) outcome: Outcome<A>,
}

/// What became of a call.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Outcome<A> {
    Effect { amounts: A },
    Repeat,
    Refused { refused: Refusal },
    Cancelled,
    Tombstone,
    StaleFence { highest: u64 },
    KeyMismatch,
}

/// How often each outcome was decided.
#[derive(Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) r#do: u64,
    pub(crate) undo: u64,
    pub(crate) repeats: u64,
    pub(crate) refused: u64,
    pub(crate) cancelled: u64,
    pub(crate) tombstones: u64,
    pub(crate) stale_fence: u64,
    pub(crate) key_mismatch: u64,
    /// Instances that are done and not undone.
    pub(crate) net_done: u64,
}

impl Counts {
    pub(crate) fn count<A>(&mut self, record: &Record<A>) {
        let count = match (&record.outcome, record.verb) {
            (Outcome::Effect { .. }, Verb::Do) => &mut self.r#do,
            (Outcome::Effect { .. }, Verb::Undo) => &mut self.undo,
            (Outcome::Repeat, _) => &mut self.repeats,
            (Outcome::Refused { .. }, _) => &mut self.refused,
            (Outcome::Cancelled, _) => &mut self.cancelled,
            (Outcome::Tombstone, _) => &mut self.tombstones,
            (Outcome::StaleFence { .. }, _) => &mut self.stale_fence,
            (Outcome::KeyMismatch, _) => &mut self.key_mismatch,
        };
        *count += 1;
        self.net_done = self.r#do - self.undo;
    }
}
