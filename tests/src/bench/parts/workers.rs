//! The same backlog with 1, 2 and 4 workers.

use std::sync::Arc;

use super::e2e;
use crate::bench::{Line, run::Bench};

const PART: &str = "workers";
const COUNTS: [u16; 3] = [1, 2, 4];

/// Rates of each, compared with those of one worker.
///
/// # Errors
/// When an order is not worked.
pub(in crate::bench) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let bodies = Arc::clone(&bench.small);
    let (mut rates, mut costs) = (vec![Vec::new(); COUNTS.len()], vec![Vec::new(); COUNTS.len()]);
    for round in 0..bench.options.rounds {
        // In turn: whoever comes next finds the machine as the one before has left it.
        for at in (0..COUNTS.len()).map(|turn| (turn + usize::from(round)) % COUNTS.len()) {
            let workers = COUNTS[at];
            let drained = e2e::work(bench, PART, &bodies, workers, &[]).await?.drained;
            bench.say(format!("{PART}: {workers} workers {:.0}/s", drained.rate));
            rates[at].push(drained.rate);
            costs[at].push(drained.cost);
        }
    }
    for (at, workers) in COUNTS.into_iter().enumerate() {
        let what = format!("small orders, {workers} workers (bare: 1 worker)");
        bench.line(Line::new(PART, &*what, "orders/s", if at == 0 { &[] } else { &rates[0] }, &rates[at]));
        bench.cost(PART, format!("small orders, {workers} workers, worked alone"), &costs[at]);
    }
    Ok(())
}
