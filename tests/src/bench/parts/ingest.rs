//! Posting alone, as fast as answers come, over as many connections to a bare ingest and to the producer. No worker runs.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::bench::{
    Line, Target,
    load::{Answers, Pace, Posting, count, percentile_ms},
    run::Bench,
    usage::{Cost, Usage},
};

const PART: &str = "ingest";
/// Of the bare ingest at least.
const SHARE_MIN: f64 = 0.8;
/// Times the bare ingest's at most.
const P99_MAX: f64 = 2.0;
/// Orders before, which are not measured: caches and pools are warm then.
const WARM_UP: u32 = 500;

#[derive(Debug, Default)]
struct Side {
    rates: Vec<f64>,
    p99s: Vec<f64>,
    costs: Vec<Cost>,
}

/// 64 and 256 connections.
///
/// # Errors
/// When an accepted order is not worked afterwards.
pub(in crate::bench) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let bodies = Arc::clone(&bench.small);
    let mut ingest = bench.stage.bare("ingest", &[]);
    let address = ingest.addresses().await.listen.unwrap();
    for connections in if bench.options.quick { vec![64] } else { vec![64, 256] } {
        let (mut bare, mut fleet) = (Side::default(), Side::default());
        for round in 0..bench.options.rounds {
            for fleets_turn in [round % 2 == 1, round % 2 == 0] {
                if fleets_turn {
                    let posting = bench.stage.posting(&bodies);
                    let answers = fleet.load(bench, &posting, connections).await?;
                    bench.account_queued(&posting, &answers).await?;
                } else {
                    let posting = bench.stage.posting_to(address, &bodies);
                    bare.load(bench, &posting, connections).await?;
                    bench.stage.clear_bare().await?;
                }
            }
            let last = |side: &Side| side.rates.last().copied().unwrap_or_default();
            bench.say(format!(
                "{PART}: {connections} connections, bare {:.0}/s, fleet {:.0}/s",
                last(&bare),
                last(&fleet)
            ));
        }
        let what = |text: &str| format!("{connections} connections, {text}");
        let rates = Line::new(PART, what("202s"), "orders/s", &bare.rates, &fleet.rates);
        bench.line(rates.target(Target::at_least(SHARE_MIN).as_ratio()));
        let p99s = Line::new(PART, what("p99"), "ms", &bare.p99s, &fleet.p99s);
        bench.line(p99s.target(Target::at_most(P99_MAX).as_ratio()));
        bench.cost(PART, what("bare"), &bare.costs);
        bench.cost(PART, what("fleet"), &fleet.costs);
    }
    Ok(())
}

impl Side {
    async fn load(
        &mut self,
        bench: &mut Bench,
        posting: &Posting,
        connections: u32,
    ) -> anyhow::Result<Answers> {
        let warm = posting.run(connections, Pace::Closed { orders: WARM_UP, until: None }).await;
        let posting = Posting { first: WARM_UP, ..posting.clone() };
        let until = Instant::now() + Duration::from_secs_f64(bench.options.load_seconds());
        let before = Usage::now()?;
        let mut answers =
            posting.run(connections, Pace::Closed { orders: u32::MAX, until: Some(until) }).await;
        let after = Usage::now()?;
        bench.others(after.others_since(&before));
        self.costs.push(after.cost_since(&before, count(answers.accepted.len())));
        self.rates.push(answers.rate());
        self.p99s.push(percentile_ms(&answers.latency, 0.99));
        answers.accepted.extend(warm.accepted);
        Ok(answers)
    }
}
