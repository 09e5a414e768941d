//! End to end: a backlog lies in the queue, then workers are started. The bare pipeline does as much durable work without any
//! of the care.

use std::sync::Arc;

use anyhow::Context as _;
use serde_json::Value;

use crate::bench::{
    Line, Target,
    bodies::Bodies,
    drain::{self, Drained},
    load::{Pace, count},
    run::Bench,
    usage::{self, Cost, Usage},
};

const PART: &str = "e2e";
/// Connections over which a backlog is posted.
const CONNECTIONS: u32 = 64;
/// Orders of a first backlog, which is not measured.
pub(in crate::bench) const FIRST: u32 = 500;
/// Of the fleet, orders per second at least: small ones, by one worker and all else on one machine.
const RATE_MIN: f64 = 4_000.0;
/// Of the bare pipeline at least.
const SHARE_MIN: f64 = 0.9;
/// CPU seconds per 1,000 orders at most, from the POST to the end, of all processes.
const COST_MAX: f64 = 0.5;

/// A backlog as the fleet has posted and worked it.
#[derive(Debug)]
pub(in crate::bench) struct Backlog {
    /// Orders accepted per second while it was posted, without workers.
    pub(in crate::bench) posted_per_s: f64,
    /// What posting has cost.
    posting: Cost,
    /// How it was worked.
    pub(in crate::bench) drained: Drained,
    /// The most memory that one worker has had, in MB.
    pub(in crate::bench) worker_peak_mb: f64,
}

impl Backlog {
    /// What orders have cost from the POST to the end.
    pub(in crate::bench) fn cost(&self) -> Cost {
        let mut cost = self.posting.clone();
        for (process, more) in &self.drained.cost {
            *cost.entry(process).or_insert(0.0) += more;
        }
        cost
    }
}

/// Small and real orders, the fleet beside the bare pipeline.
///
/// # Errors
/// When an order is not worked.
pub(in crate::bench) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let judged = bench.options.writes.clone();
    let variants = match bench.options.quick {
        true => vec![judged.clone()],
        false => ["1", "2", "3", "4"].map(str::to_owned).to_vec(),
    };
    for bodies in [Arc::clone(&bench.small), Arc::clone(&bench.real)] {
        let mut bare: Vec<(Vec<f64>, Vec<Cost>)> = vec![Default::default(); variants.len()];
        let (mut fleet, mut costs, mut working) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..bench.options.rounds {
            // In turn: whoever comes second finds the machine as the first has left it.
            for fleets_turn in [round % 2 == 1, round % 2 == 0] {
                if fleets_turn {
                    let backlog = work(bench, PART, &bodies, bench.options.workers, &[]).await?;
                    bench.say(format!("{PART}: {} orders, fleet {:.0}/s", bodies.name, backlog.drained.rate));
                    fleet.push(backlog.drained.rate);
                    costs.push(backlog.cost());
                    working.push(backlog.drained.cost);
                    continue;
                }
                for (writes, (rates, costs)) in variants.iter().zip(&mut bare) {
                    let drained = work_bare(bench, &bodies, writes).await?;
                    bench.say(format!(
                        "{PART}: {} orders, bare, {writes} writes {:.0}/s",
                        bodies.name, drained.rate
                    ));
                    rates.push(drained.rate);
                    costs.push(drained.cost);
                }
            }
        }
        for (writes, (rates, costs)) in variants.iter().zip(&bare) {
            let what = format!("{} orders, bare pipeline with {writes} writes", bodies.name);
            bench.cost(PART, &what, costs);
            let is_judged = *writes == judged;
            let mut line = Line::new(PART, what, "orders/s", rates, if is_judged { &fleet } else { &[] });
            if is_judged {
                line = line.target(Target::at_least(SHARE_MIN).as_ratio());
                if bodies.name == bench.small.name {
                    line = line.target(Target::at_least(RATE_MIN));
                }
            }
            bench.line(line);
        }
        bench.cost(PART, format!("{} orders, fleet, worked alone", bodies.name), &working);
        bench.cost(PART, format!("{} orders, fleet, from the POST", bodies.name), &costs);
        let totals: Vec<f64> = costs.iter().map(|cost| cost.values().sum()).collect();
        let what = format!("{} orders, CPU per 1,000 from the POST", bodies.name);
        bench.line(Line::new(PART, what, "s", &[], &totals).target(Target::at_most(COST_MAX)));
    }
    Ok(())
}

/// Posts a backlog that takes about as long as a load, has it worked by so many workers, and accounts for it. The database is
/// dropped.
///
/// # Errors
/// When an order is not worked.
pub(in crate::bench) async fn work(
    bench: &mut Bench,
    database: &str,
    bodies: &Arc<Bodies>,
    workers: u16,
    faults: &[Value],
) -> anyhow::Result<Backlog> {
    let orders = enough(bench, database, bodies, workers).await?;
    let backlog = work_in(bench, database, bodies, orders, workers, faults).await?;
    bench.stage.drop_database(database).await?;
    Ok(backlog)
}

/// Orders of a backlog that takes about as long as a load; known once a few have been worked.
///
/// # Errors
/// When an order is not worked.
pub(in crate::bench) async fn enough(
    bench: &mut Bench,
    database: &str,
    bodies: &Arc<Bodies>,
    workers: u16,
) -> anyhow::Result<u32> {
    if bench.pace(bodies.name).is_none() {
        work_in(bench, database, bodies, FIRST, workers, &[]).await?;
    }
    Ok(bench.backlog(bodies.name))
}

/// As [`work`], and the database stays.
///
/// # Errors
/// When an order is not worked.
pub(in crate::bench) async fn work_in(
    bench: &mut Bench,
    database: &str,
    bodies: &Arc<Bodies>,
    orders: u32,
    workers: u16,
    faults: &[Value],
) -> anyhow::Result<Backlog> {
    let posting = bench.stage.posting(bodies);
    let before = Usage::now()?;
    let answers = posting.run(CONNECTIONS, Pace::Closed { orders, until: None }).await;
    let accepted = answers.accepted.len();
    let cost_of_posting = Usage::now()?.cost_since(&before, count(accepted));
    bench.stage.misbehave(faults).await?;
    let running = bench.stage.workers(database, workers.into()).await?;
    let drained = drain::follow(&bench.stage.http, &running.urls, accepted).await?;
    bench.keep_pace(bodies.name, drained.rate);
    bench.others(drained.others);
    let memory = usage::memory("workers")?;
    let worker_peak_mb = memory.iter().map(|memory| memory.peak).fold(0.0, f64::max);
    bench.account(database, &[(&posting, &answers)]).await?;
    running.stop().await?;
    bench.stage.misbehave(&[]).await?;
    Ok(Backlog { posted_per_s: answers.rate(), posting: cost_of_posting, drained, worker_peak_mb })
}

async fn work_bare(bench: &mut Bench, bodies: &Bodies, writes: &str) -> anyhow::Result<Drained> {
    let name = format!("{} bare {writes}", bodies.name);
    if bench.pace(&name).is_none() {
        let drained = work_bare_once(bench, bodies, FIRST, writes).await?;
        bench.keep_pace(&name, drained.rate);
    }
    let drained = work_bare_once(bench, bodies, bench.backlog(&name), writes).await?;
    bench.keep_pace(&name, drained.rate);
    bench.others(drained.others);
    Ok(drained)
}

async fn work_bare_once(
    bench: &Bench,
    bodies: &Bodies,
    orders: u32,
    writes: &str,
) -> anyhow::Result<Drained> {
    let stage = &bench.stage;
    stage.fill_bare(bodies, orders).await?;
    let tuned = bench.options.bare.iter().map(String::as_str);
    let arguments: Vec<_> = ["--writes", writes].into_iter().chain(tuned).collect();
    let mut pipeline = stage.bare("pipeline", &arguments);
    let url = format!("http://{}", pipeline.addresses().await.admin);
    let drained = drain::follow(&stage.http, &[url], orders as usize).await;
    let drained = drained.with_context(|| format!("the bare pipeline:\n{}", pipeline.last_lines()))?;
    pipeline.kill().await;
    stage.clear_bare().await?;
    Ok(drained)
}
