//! The parts of the benchmark, one file each.

pub(super) mod batches;
pub(super) mod e2e;
pub(super) mod failures;
pub(super) mod ingest;
pub(super) mod latency;
pub(super) mod overload;
pub(super) mod raw;
pub(super) mod start;
pub(super) mod stored;
pub(super) mod workers;
