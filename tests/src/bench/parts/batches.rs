//! The same backlog with each do in a request of its own, and with those of the same moment in one.

use std::sync::Arc;

use super::e2e;
use crate::{
    SERVICES,
    bench::{Line, Target, run::Bench},
};

const PART: &str = "batches";
/// Dos of one request at most.
const BATCH_MAX: u16 = 32;
/// Of the fleet, orders per second at least: small ones, by one worker and all else on one machine.
const RATE_MIN: f64 = 10_000.0;

/// Rates and costs of both.
///
/// # Errors
/// When an order is not worked.
pub(in crate::bench) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let (bodies, workers) = (Arc::clone(&bench.small), bench.options.workers);
    let in_batches = (0..SERVICES.len()).map(|step| format!("steps[{step}].batch_max={BATCH_MAX}")).collect();
    let ways = [("each do alone", Vec::new()), ("dos in batches", in_batches)];
    let (mut rates, mut costs) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
    for round in 0..bench.options.rounds {
        // In turn: whoever comes second finds the machine as the first has left it.
        for at in [usize::from(round % 2), usize::from((round + 1) % 2)] {
            let (name, sets) = &ways[at];
            bench.stage.worker_sets.clone_from(sets);
            let backlog = e2e::work(bench, PART, &bodies, workers, &[]).await;
            bench.stage.worker_sets.clear();
            let drained = backlog?.drained;
            bench.say(format!("{PART}: {name} {:.0}/s", drained.rate));
            rates[at].push(drained.rate);
            costs[at].push(drained.cost);
        }
    }
    for (at, (name, _)) in ways.iter().enumerate() {
        bench.cost(PART, format!("small orders, {name}, worked alone"), &costs[at]);
    }
    let what = "small orders, dos in batches (bare: each alone)";
    bench.line(Line::new(PART, what, "orders/s", &rates[0], &rates[1]).target(Target::at_least(RATE_MIN)));
    Ok(())
}
