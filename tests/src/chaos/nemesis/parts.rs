//! Faults of processes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use mongodb::{
    Database,
    bson::{Document, doc},
};
use tokio::time::sleep;

use crate::chaos::{Build, Part, Stage, supervised::Supervised};

const HOUR_MS: i64 = 3_600_000;
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// What a service promises to take at most from SIGTERM to its exit, and some seconds for a busy machine.
const STOP_GRACE: Duration = Duration::from_secs(25);
/// How much longer than planned a clock stays wrong by which no order was worked on yet.
const PATIENCE: Duration = Duration::from_secs(15);

/// One of the processes of a kind, in whatever state it is: a kill or a stop may come while it starts, or waits for the
/// broker or the database.
pub(super) fn target(stage: &Stage, part: Part, draw: usize) -> &Supervised {
    let parts = &stage.parts;
    match part {
        Part::Producer => &parts.producers[draw % parts.producers.len()],
        Part::Worker => &parts.workers[draw % parts.workers.len()],
        Part::Query => &parts.query,
    }
}

/// A process ends in order and a build's own takes its place; the next one is not touched before it is ready.
pub(super) async fn replace(stage: &Stage, part: Part, build: Build, draw: usize) -> anyhow::Result<String> {
    let replaced = target(stage, part, draw);
    let evidence = replaced.replace(&stage.parts.program(part, build)?, STOP_GRACE).await?;
    stage.until_one_is_ready(replaced).await?;
    Ok(evidence)
}

/// Half of the workers, the larger one of an odd number, drain at once and are started again; the next ones are not touched before
/// all are ready.
pub(super) async fn drain_half(stage: &Stage, draw: usize) -> anyhow::Result<String> {
    let workers = &stage.parts.workers;
    let half = workers.len().div_ceil(2);
    let chosen =
        || (0..half).map(|number| &workers[draw.wrapping_mul(half).wrapping_add(number) % workers.len()]);
    let evidence = try_join_all(chosen().map(|worker| worker.restart(STOP_GRACE))).await?;
    try_join_all(chosen().map(|worker| stage.until_one_is_ready(worker))).await?;
    Ok(evidence.join("; "))
}

/// A worker that is ready is stopped with orders in hand; its deliveries go to others, since the broker's connections are
/// reset; then it wakes and goes on.
pub(super) async fn zombie(stage: &Stage, draw: usize, hold: Duration) -> anyhow::Result<String> {
    let worker = target(stage, Part::Worker, draw);
    stage.until_one_is_ready(worker).await?;
    let reset = stage.links.reset("worker-broker");
    worker.freeze(hold, reset).await.map(|evidence| format!("{evidence}; connections reset meanwhile"))
}

/// A worker's clock is an hour fast or slow. The evidence: orders with an entry in their history, by the worker's clock, that
/// is far from the time of their last write, by the database's.
pub(super) async fn clock_step(stage: &Stage, draw: usize, hold: Duration) -> anyhow::Result<String> {
    let worker = draw % stage.parts.workers.len();
    let error_ms = if (draw / stage.parts.workers.len()).is_multiple_of(2) { HOUR_MS } else { -HOUR_MS };
    let before = worked_by_a_wrong_clock(stage).await?;
    stage.parts.set_clock(worker, error_ms)?;
    let started = Instant::now();
    sleep(hold).await;
    let mut worked = worked_by_a_wrong_clock(stage).await;
    while worked.as_ref().is_ok_and(|worked| *worked <= before) && started.elapsed() < hold + PATIENCE {
        sleep(LOOK_EVERY).await;
        worked = worked_by_a_wrong_clock(stage).await;
    }
    stage.parts.set_clock(worker, 0)?;
    let worked = worked?.saturating_sub(before);
    ensure!(worked > 0, "worker-{worker} worked on no order within {:.1?}", started.elapsed());
    Ok(format!(
        "worker-{worker} {error_ms} ms off for {:.1?}, {worked} orders worked on so",
        started.elapsed()
    ))
}

async fn worked_by_a_wrong_clock(stage: &Stage) -> anyhow::Result<u64> {
    let apart = doc! { "$abs": { "$subtract": ["$updated_at", "$$at"] } };
    let apart = doc! { "$max": { "$map": { "input": "$history.at", "as": "at", "in": apart } } };
    let filter = doc! { "$expr": { "$gt": [apart, HOUR_MS / 2] } };
    let count = |database: Database| {
        let orders = database.collection::<Document>("orders");
        let filter = filter.clone();
        async move { orders.count_documents(filter).await.context("count orders of a wrong clock") }
    };
    stage.witness.ask(count).await
}
