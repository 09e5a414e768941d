//! From the intended moment of a POST to the end of the order, at steady rates, with workers running.

use std::{sync::Arc, time::Duration};

use super::e2e;
use crate::bench::{
    Line, Target,
    bodies::Bodies,
    events::Ends,
    load::{Pace, count, percentile_ms},
    run::Bench,
    schedule::Schedule,
    stage::Stage,
    usage::{Cost, Usage},
};

const PART: &str = "latency";
const RATES: [f64; 2] = [100.0, 1_000.0];
/// Of the most that fleet and clients reach together on this machine.
const SHARE_OF_MAX: f64 = 0.8;
const CONNECTIONS: u32 = 64;
const WARM_UP: u32 = 300;
/// With no order ended for so long, something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Rate {
    name: String,
    per_s: f64,
    targets: Vec<(&'static str, f64)>,
    ended: [Vec<f64>; 3],
    accepted: [Vec<f64>; 2],
    costs: Vec<Cost>,
}

/// 100 and 1,000 orders per second, and four fifths of the most.
///
/// # Errors
/// When an order does not end.
pub(in crate::bench) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let bodies = Arc::clone(&bench.small);
    let mut rates = vec![
        Rate::new("100/s", RATES[0], &[("p50", 4.0), ("p99", 10.0)]),
        Rate::new("1,000/s", RATES[1], &[("p99", 25.0)]),
    ];
    if !bench.options.quick {
        let most = most(bench, &bodies).await?;
        bench.note(format!("latency: the most is taken as {most:.0} orders/s, posting and working together"));
        rates.push(Rate::new("80 % of the most", most * SHARE_OF_MAX, &[]));
    }
    let workers = bench.stage.workers(PART, bench.options.workers.into()).await?;
    let ends = Ends::subscribe(&bench.stage.amqp_url).await?;
    for round in 0..=bench.options.rounds {
        for rate in &mut rates {
            // Round 0 warms up.
            rate.measure(bench, &bodies, &ends, round == 0).await?;
        }
    }
    workers.stop().await?;
    bench.stage.drop_database(PART).await?;
    for Rate { name, per_s, targets, ended, accepted, costs } in rates {
        let what = |text: &str| format!("{name} ({per_s:.0}/s), {text}");
        for (quantile, values) in ["p50", "p99", "p99.9"].into_iter().zip(&ended) {
            let mut line = Line::new(PART, what(&format!("to the end, {quantile}")), "ms", &[], values);
            for (_, max) in targets.iter().filter(|(of, _)| *of == quantile) {
                line = line.target(Target::at_most(*max));
            }
            bench.line(line);
        }
        for (quantile, values) in ["p50", "p99"].into_iter().zip(&accepted) {
            bench.line(Line::new(PART, what(&format!("to the 202, {quantile}")), "ms", &[], values));
        }
        bench.cost(PART, what("all"), &costs);
    }
    Ok(())
}

impl Rate {
    fn new(name: &str, per_s: f64, targets: &[(&'static str, f64)]) -> Self {
        Self { name: name.to_owned(), per_s, targets: targets.to_vec(), ..Self::default() }
    }

    async fn measure(
        &mut self,
        bench: &mut Bench,
        bodies: &Arc<Bodies>,
        ends: &Ends,
        is_warm_up: bool,
    ) -> anyhow::Result<()> {
        let posting = bench.stage.posting(bodies);
        let before = Usage::now()?;
        let schedule = match is_warm_up {
            true => Schedule { orders: WARM_UP, ..Schedule::of(self.per_s, 1.0) },
            false => Schedule::of(self.per_s, bench.options.load_seconds()),
        };
        let answers = posting.run(CONNECTIONS, Pace::Open(schedule)).await;
        let id =
            |number: &u32| anyhow::Ok((Stage::order_id(&posting.key(*number))?, schedule.intended(*number)));
        let orders: Vec<_> = answers.accepted.iter().map(id).collect::<Result<_, _>>()?;
        let ended = ends.latencies(orders, PATIENCE).await?;
        let after = Usage::now()?;
        let cost = after.cost_since(&before, count(answers.accepted.len()));
        bench.account(PART, &[(&posting, &answers)]).await?;
        if is_warm_up {
            return Ok(());
        }
        let of = |quantile| percentile_ms(&ended, quantile);
        bench.say(format!(
            "{PART}: {} p50 {:.1} ms, p99 {:.1} ms, 202 p99 {:.1} ms",
            self.name,
            of(0.5),
            of(0.99),
            percentile_ms(&answers.latency, 0.99)
        ));
        for (values, quantile) in self.ended.iter_mut().zip([0.5, 0.99, 0.999]) {
            values.push(of(quantile));
        }
        for (values, quantile) in self.accepted.iter_mut().zip([0.5, 0.99]) {
            values.push(percentile_ms(&answers.latency, quantile));
        }
        bench.others(after.others_since(&before));
        self.costs.push(cost);
        Ok(())
    }
}

/// What posting and working reach together when they share the processors: each order costs the time of one after the other.
async fn most(bench: &mut Bench, bodies: &Arc<Bodies>) -> anyhow::Result<f64> {
    let backlog = e2e::work(bench, PART, bodies, bench.options.workers, &[]).await?;
    Ok(1.0 / (1.0 / backlog.posted_per_s + 1.0 / backlog.drained.rate))
}
