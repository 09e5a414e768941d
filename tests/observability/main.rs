//! What is shipped in `observability/` works: the dashboards show the fleet, the rules fire when something is wrong with it, and
//! whoever is called finds a runbook.
//!
//! The parts that take a real Prometheus are run by `make test-observability`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken expectation is a failed test")]

mod dashboards;
mod drills;
mod faults;
mod prometheus;
mod promtool;
mod rig;
mod rules;
mod runbooks;
mod stand_in;

use std::path::{Path, PathBuf};

/// A file of the repository.
pub(crate) fn shipped(path: &str) -> PathBuf {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    assert!(found.exists(), "{} is missing", found.display());
    found
}

/// The text of a file of the repository.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(shipped(path)).unwrap()
}
