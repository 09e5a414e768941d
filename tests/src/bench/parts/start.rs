//! A worker's start, from the call that starts its process to an order that has waited for it; and its memory.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use mongodb::bson::{Document, doc};
use tokio::time::sleep;

use super::e2e;
use crate::bench::{
    Line, Target,
    load::Pace,
    run::Bench,
    stage::{Stage, Workers},
    usage,
};

const PART: &str = "start";
const COLD_START_MAX_MS: f64 = 50.0;
const IDLE_MAX_MB: f64 = 20.0;
const LOADED_MAX_MB: f64 = 64.0;
/// After the first order, until memory is looked at.
const IDLE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(1);
const START_WITHIN: Duration = Duration::from_secs(30);

/// Starts a worker again and again, then loads one.
///
/// # Errors
/// When one does not start.
pub(in crate::bench) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let bodies = Arc::clone(&bench.small);
    // The first worker of a database creates its collections and indexes.
    bench.stage.workers(PART, 1).await?.stop().await?;
    let (mut consumed, mut done) = (Vec::new(), Vec::new());
    let (mut resident, mut proportional, mut private) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.options.rounds {
        let posting = bench.stage.posting(&bodies);
        let answers = posting.run(1, Pace::Closed { orders: 1, until: None }).await;
        let id = Stage::order_id(&posting.key(0))?;
        let begun = Instant::now();
        let worker = bench.stage.begin_worker(PART);
        consumed.push(until_phase(bench, &id, None, begun).await?);
        done.push(until_phase(bench, &id, Some("DONE"), begun).await?);
        bench.say(format!("{PART}: first order after {:.0} ms", consumed.last().unwrap_or(&0.0)));
        sleep(IDLE).await;
        for memory in usage::memory("workers")? {
            resident.push(memory.resident);
            proportional.push(memory.proportional);
            private.push(memory.private);
        }
        bench.account(PART, &[(&posting, &answers)]).await?;
        Workers::of(vec![worker]).stop().await?;
    }

    let real = Arc::clone(&bench.real);
    let loaded = e2e::work(bench, PART, &real, 1, &[]).await?.worker_peak_mb;
    let line = |what: &str, unit, values: &[f64]| Line::new(PART, what, unit, &[], values);
    bench.line(
        line("start to the first order consumed", "ms", &consumed).target(Target::at_most(COLD_START_MAX_MS)),
    );
    bench.line(line("start to the first order DONE", "ms", &done));
    bench.line(line("idle worker, resident (RSS)", "MB", &resident).target(Target::at_most(IDLE_MAX_MB)));
    bench.line(line("idle worker, proportional (PSS)", "MB", &proportional));
    bench.line(line("idle worker, private", "MB", &private));
    let what = "worker after a backlog of real orders, most resident (RSS)";
    bench.line(line(what, "MB", &[loaded]).target(Target::at_most(LOADED_MAX_MB)));
    Ok(())
}

/// Milliseconds until the order is in the database, in a certain phase if one is named.
async fn until_phase(bench: &Bench, id: &str, phase: Option<&str>, begun: Instant) -> anyhow::Result<f64> {
    let mut wanted = doc! { "_id": id };
    if let Some(phase) = phase {
        wanted.insert("phase", phase);
    }
    let orders = bench.stage.database(PART).collection::<Document>("orders");
    while orders.find_one(wanted.clone()).projection(doc! { "_id": 1 }).await?.is_none() {
        ensure!(begun.elapsed() < START_WITHIN, "the order that waits for a worker is not worked");
        sleep(LOOK_EVERY).await;
    }
    Ok(begun.elapsed().as_secs_f64() * 1_000.0)
}
