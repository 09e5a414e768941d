//! Faults of processes.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use mongodb::{
    Database,
    bson::{Document, doc},
};
use tokio::time::sleep;

use crate::chaos::{Load, Part, Stage, supervised::Supervised};

const HOUR_MS: i64 = 3_600_000;
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How much longer than planned a clock stays wrong by which no order was worked on yet.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a crashing order may go without another abort: its message may wait for the end of another fault.
const ABORTS_WITHIN: Duration = Duration::from_secs(90);
/// For the supervisors to see the last abort.
const SEEN_WITHIN: Duration = Duration::from_secs(2);

/// One of the processes of a kind.
pub(super) fn target(stage: &Stage, part: Part, draw: usize) -> &Supervised {
    let parts = &stage.parts;
    match part {
        Part::Producer => &parts.producers[draw % parts.producers.len()],
        Part::Worker => &parts.workers[draw % parts.workers.len()],
        Part::Query => &parts.query,
    }
}

/// One of the processes of a kind, once it is ready.
pub(super) async fn ready(stage: &Stage, part: Part, draw: usize) -> anyhow::Result<&Supervised> {
    let target = target(stage, part, draw);
    stage.until_one_is_ready(target).await?;
    Ok(target)
}

/// A worker is stopped with orders in hand; its deliveries go to others, since the broker's connections are reset; then it
/// wakes and goes on.
pub(super) async fn zombie(stage: &Stage, draw: usize, hold: Duration) -> anyhow::Result<String> {
    let worker = ready(stage, Part::Worker, draw).await?;
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

/// An order over which every worker aborts, until it is held. One that ends otherwise, for another fault's sake, is followed
/// by the next. The evidence is aborts. As long as there are more of them, it goes on; whether the order is held at last is
/// for the checker to say.
pub(super) async fn crashing_body(stage: &Stage, load: &Load) -> anyhow::Result<String> {
    stage.parts.crashing.fetch_add(1, Ordering::Relaxed);
    let (evidence, is_over) = until_held(stage, load).await?;
    if is_over {
        sleep(SEEN_WITHIN).await;
        stage.parts.crashing.fetch_sub(1, Ordering::Relaxed);
    }
    Ok(evidence)
}

/// The evidence, and whether nobody can abort over the order any more.
async fn until_held(stage: &Stage, load: &Load) -> anyhow::Result<(String, bool)> {
    let aborts = || stage.parts.workers.iter().map(Supervised::aborts).sum::<u32>();
    let (before, mut last, mut progress) = (aborts(), aborts(), Instant::now());
    let mut id = load.order_crashing().await.context("the order was not accepted")?;
    loop {
        match crashing_order(stage, &id).await? {
            Some(Crashing::Held(hold)) => {
                let aborted = aborts() - before;
                ensure!(aborted > 0, "no worker aborted over {id}, which is held: {hold}");
                return Ok((format!("{id}: {aborted} workers aborted, then it was held: {hold}"), true));
            }
            Some(Crashing::Ended) => {
                id = load.order_crashing().await.context("the order was not accepted")?;
                progress = Instant::now();
            }
            None => {}
        }
        if aborts() > last {
            (last, progress) = (aborts(), Instant::now());
        }
        if progress.elapsed() > ABORTS_WITHIN {
            ensure!(last > before, "no worker aborted over {id}");
            return Ok((format!("{id}: {} workers aborted, not held yet", last - before), false));
        }
        sleep(LOOK_EVERY).await;
    }
}

enum Crashing {
    Held(String),
    Ended,
}

async fn crashing_order(stage: &Stage, id: &str) -> anyhow::Result<Option<Crashing>> {
    let find = |database: Database| {
        let orders = database.collection::<Document>("orders");
        let filter = doc! { "_id": id };
        async move { orders.find_one(filter).await.context("find the crashing order") }
    };
    let Some(order) = stage.witness.ask(find).await? else { return Ok(None) };
    Ok(match (order.get_document("hold"), order.get_str("phase")) {
        (Ok(hold), _) => Some(Crashing::Held(hold.to_string())),
        (_, Ok("DONE" | "UNDONE")) => Some(Crashing::Ended),
        _ => None,
    })
}
