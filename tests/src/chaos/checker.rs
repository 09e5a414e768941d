//! Judges a run from outside: pure functions from evidence to a verdict.

mod effects;
mod endings;
mod messages;
mod reasons;
#[cfg(test)]
mod tests;
mod verdict;

use verdict::Report as _;
pub use verdict::{Class, Counts, Verdict, Violation};

use crate::chaos::Evidence;

/// Checks every promise against the evidence. The same evidence always gives the same verdict.
#[must_use]
pub fn judge(evidence: &Evidence) -> Verdict {
    let mut violations = Vec::new();
    let counts = endings::check(evidence, &mut violations);
    effects::check(evidence, &mut violations);
    reasons::check(evidence, &mut violations);
    messages::check(evidence, &mut violations);
    for exit in &evidence.exits {
        violations.found(Class::Unexpected, "no process ends that nobody harmed", "", exit);
    }
    Verdict::new(counts, violations)
}
