//! The parts of the benchmark, one file each.

pub(super) mod e2e;
pub(super) mod failures;
pub(super) mod ingest;
pub(super) mod latency;
pub(super) mod overload;
pub(super) mod raw;
pub(super) mod start;
pub(super) mod stored;
pub(super) mod workers;

use super::{
    load::{Answers, Posting},
    run::Bench,
};

/// Has workers work what a load without any has left, unmeasured, and accounts for it.
async fn drain_posted(
    bench: &mut Bench,
    database: &str,
    loads: &[(&Posting, &Answers)],
) -> anyhow::Result<()> {
    let workers = bench.stage.workers(database, 2).await?;
    bench.account(database, loads).await?;
    workers.stop().await?;
    bench.stage.drop_database(database).await
}
