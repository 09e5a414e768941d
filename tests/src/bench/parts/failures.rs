//! The same backlog while services refuse 5 % of the orders, and while 5 % of the answers are lost.

use std::sync::Arc;

use serde_json::json;

use super::e2e;
use crate::bench::{Line, Target, run::Bench};

const PART: &str = "failures";
/// Of the throughput without failures at least.
const SHARE_MIN: f64 = 0.85;

/// Rates of each, compared with those without failures.
///
/// # Errors
/// When an order is not worked.
pub(in crate::bench) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let (bodies, workers) = (Arc::clone(&bench.small), bench.options.workers);
    let refused = json!({ "service": "fulfilment", "refuse": true, "share": 0.05 });
    let unknown = json!({ "service": "accounting", "lost_reply": true, "share": 0.05 });
    let faults = [("none", Vec::new()), ("5 % refused", vec![refused]), ("5 % unknown", vec![unknown])];
    let (mut rates, mut costs) = (vec![Vec::new(); faults.len()], vec![Vec::new(); faults.len()]);
    for round in 0..bench.options.rounds {
        // In turn: whoever comes next finds the machine as the one before has left it.
        for at in (0..faults.len()).map(|turn| (turn + usize::from(round)) % faults.len()) {
            let (name, rules) = &faults[at];
            let drained = e2e::work(bench, PART, &bodies, workers, rules).await?.drained;
            bench.say(format!("{PART}: {name} {:.0}/s", drained.rate));
            rates[at].push(drained.rate);
            costs[at].push(drained.cost);
        }
    }
    for (at, (name, _)) in faults.iter().enumerate() {
        bench.cost(PART, format!("small orders, {name}, worked alone"), &costs[at]);
        if at > 0 {
            let line = Line::new(
                PART,
                format!("small orders, {name} (bare: none)"),
                "orders/s",
                &rates[0],
                &rates[at],
            );
            bench.line(line.target(Target::at_least(SHARE_MIN).as_ratio()));
        }
    }
    Ok(())
}
