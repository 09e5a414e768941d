//! Faults of processes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use mongodb::bson::{Document, doc};
use tokio::time::sleep;

use crate::chaos::{Load, Part, Stage, supervised::Supervised};

const HOUR_MS: i64 = 3_600_000;
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How much longer than planned a clock stays wrong by which no order was worked on yet.
const PATIENCE: Duration = Duration::from_secs(15);
/// An order that crashes workers does so until the delivery limits, and a start takes a second each time.
const HELD_WITHIN: Duration = Duration::from_secs(100);

/// One of the processes of a kind.
pub(super) fn target(stage: &Stage, part: Part, draw: usize) -> &Supervised {
    let parts = &stage.parts;
    match part {
        Part::Producer => &parts.producers[draw % parts.producers.len()],
        Part::Worker => &parts.workers[draw % parts.workers.len()],
        Part::Query => &parts.query,
    }
}

/// A worker is stopped with orders in hand; its deliveries go to others, since the broker's connections are reset; then it
/// wakes and goes on.
pub(super) async fn zombie(stage: &Stage, draw: usize, hold: Duration) -> anyhow::Result<String> {
    let worker = target(stage, Part::Worker, draw);
    let reset = stage.links.reset("worker-broker");
    worker.freeze(hold, reset).await.map(|evidence| format!("{evidence}; connections reset meanwhile"))
}

/// A worker's clock is an hour fast or slow. The evidence: orders with an entry in their history, by the worker's clock, that
/// is far from the time of their last write, by the database's.
pub(super) async fn clock_step(stage: &Stage, draw: usize, hold: Duration) -> anyhow::Result<String> {
    let worker = draw % stage.parts.workers.len();
    let error_ms = if (draw / stage.parts.workers.len()).is_multiple_of(2) { HOUR_MS } else { -HOUR_MS };
    let before = worked_by_a_wrong_clock(stage).await;
    stage.parts.set_clock(worker, error_ms)?;
    let started = Instant::now();
    sleep(hold).await;
    let mut worked = worked_by_a_wrong_clock(stage).await;
    while worked.as_ref().ok() <= before.as_ref().ok() && started.elapsed() < hold + PATIENCE {
        sleep(LOOK_EVERY).await;
        worked = worked_by_a_wrong_clock(stage).await;
    }
    stage.parts.set_clock(worker, 0)?;
    let worked = worked?.saturating_sub(before?);
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
    let orders = stage.mongodb().collection::<Document>("orders");
    orders.count_documents(filter).await.context("count orders of a wrong clock")
}

/// An order over which every worker aborts, until it is held. One that ends otherwise, for another fault's sake, is followed
/// by the next.
pub(super) async fn crashing_body(stage: &Stage, load: &Load) -> anyhow::Result<String> {
    let _alone = stage.misbehaving.lock().await;
    let aborts = || stage.parts.workers.iter().map(Supervised::aborts).sum::<u32>();
    let (started, before) = (Instant::now(), aborts());
    let mut order_id = load.order_crashing().await;
    loop {
        let id = order_id.as_deref().context("the order was not accepted")?;
        let order = stage.mongodb().collection::<Document>("orders").find_one(doc! { "_id": id }).await;
        if let Ok(Some(order)) = order {
            if let Ok(hold) = order.get_document("hold") {
                let aborted = aborts() - before;
                ensure!(aborted > 0, "no worker aborted over {id}");
                return Ok(format!("{id}: {aborted} workers aborted, then it was held: {hold}"));
            }
            if matches!(order.get_str("phase"), Ok("DONE" | "UNDONE")) {
                order_id = load.order_crashing().await;
            }
        }
        ensure!(started.elapsed() < HELD_WITHIN, "{order_id:?} is not held; {} aborts", aborts() - before);
        sleep(LOOK_EVERY).await;
    }
}
