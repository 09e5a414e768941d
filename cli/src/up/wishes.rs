//! Who says how many workers there should be: an operator, else the signal, else the start.

use orderfleet_operations::scaling::Bounds;

use super::autoscaler::Decisions;
use super::folder::Folder;
use super::scaling::{self, Asked};

/// Whoever has a say, from the last to the first.
#[derive(Debug)]
pub(super) struct Wishes {
    bounds: Bounds,
    decisions: Option<Decisions>,
}

/// How many, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) workers: u16,
    pub(super) reason: String,
    pub(super) fixed_by_operator: bool,
}

impl Wishes {
    /// So many, unless an operator asks for others.
    pub(super) fn fixed(workers: u16) -> Self {
        Self { bounds: Bounds { min: workers, max: workers }, decisions: None }
    }

    /// As many as the signal asks for within these bounds, unless an operator asks for a number.
    pub(super) fn by_signal(bounds: Bounds, decisions: Decisions) -> Self {
        Self { bounds, decisions: Some(decisions) }
    }

    /// Whether the backlog decides, unless an operator does.
    pub(super) fn is_range(&self) -> bool {
        self.decisions.is_some()
    }

    /// What the fleet was started with: `4` or `0..8`.
    pub(super) fn range(&self) -> String {
        if self.is_range() { self.bounds.to_string() } else { self.bounds.max.to_string() }
    }

    /// What counts now, where so many were wanted until now.
    pub(super) fn wish(&self, folder: &Folder, before: Option<u16>) -> Wish {
        let wish = self.now(folder, before);
        if let Some(decisions) = &self.decisions {
            decisions.tell(wish.workers);
        }
        wish
    }

    fn now(&self, folder: &Folder, before: Option<u16>) -> Wish {
        let wish =
            |workers, reason: &str| Wish { workers, reason: reason.to_owned(), fixed_by_operator: false };
        if let Some(Asked::Fixed(workers)) = scaling::asked(folder) {
            let reason = "an operator's number; `orderfleet fleet scale auto` ends it";
            return Wish { fixed_by_operator: true, ..wish(workers, reason) };
        }
        let Some(decisions) = &self.decisions else {
            return wish(self.bounds.max, "as it was started");
        };
        match decisions.newest() {
            Some(decision) => wish(decision.workers, &decision.reason),
            None => wish(before.unwrap_or(self.bounds.min), "nothing was seen yet"),
        }
    }

    /// Waits until the signal says something else.
    pub(super) async fn changed(&mut self) {
        match &mut self.decisions {
            Some(decisions) => decisions.changed().await,
            None => std::future::pending().await,
        }
    }
}
