//! Five times as many orders as the producer can take, with workers running: what is accepted is accepted soon, the rest is
//! told to come again, and nobody grows.

use std::sync::Arc;

use super::e2e;
use crate::bench::{
    Line,
    load::{Pace, count, percentile_ms},
    run::Bench,
    schedule::Schedule,
    usage,
};

const PART: &str = "overload";
const TIMES: f64 = 5.0;
/// Twice what a producer works on at once.
const CONNECTIONS: u32 = 2_048;

/// One producer under too much load.
///
/// # Errors
/// When an accepted order is not worked.
pub(in crate::bench) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let (bodies, workers) = (Arc::clone(&bench.small), bench.options.workers);
    let most = e2e::work(bench, PART, &bodies, workers, &[]).await?.posted_per_s;
    let running = bench.stage.workers(PART, workers.into()).await?;
    let mut rows: [Vec<f64>; 6] = Default::default();
    let mut memory: [[Vec<f64>; 2]; 2] = Default::default();
    for _ in 0..bench.options.rounds {
        let before = resident()?;
        let posting = bench.stage.posting(&bodies);
        let schedule = Schedule::of(most * TIMES, bench.options.load_seconds());
        let answers = posting.run(CONNECTIONS, Pace::Open(schedule)).await;
        let after = resident()?;
        let seconds = answers.took.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "numbers of orders are far below 2^52")]
        let (sent, told_to_wait) = (
            answers.sent() as f64,
            [429, 503].iter().filter_map(|status| answers.others.get(status)).sum::<u64>() as f64,
        );
        let measured = [
            sent / seconds,
            count(answers.accepted.len()) / seconds,
            told_to_wait / sent * 100.0,
            percentile_ms(&answers.service, 0.5),
            percentile_ms(&answers.service, 0.99),
            percentile_ms(&answers.latency, 0.99),
        ];
        bench.say(format!(
            "{PART}: {:.0}/s of {:.0}/s sent, {:.0}/s accepted, p99 {:.0} ms, {:.1} % told to wait",
            measured[0], schedule.rate, measured[1], measured[4], measured[2]
        ));
        rows.iter_mut().zip(measured).for_each(|(row, value)| row.push(value));
        for (process, row) in memory.iter_mut().enumerate() {
            row[0].push(before[process]);
            row[1].push(after[process]);
        }
        bench.account(PART, &[(&posting, &answers)]).await?;
    }
    running.stop().await?;
    bench.stage.drop_database(PART).await?;
    let names = [
        ("orders sent, clients' own limit included", "orders/s"),
        ("202s", "orders/s"),
        ("answered 429 or 503", "%"),
        ("of the accepted, from the request to the 202, p50", "ms"),
        ("of the accepted, from the request to the 202, p99", "ms"),
        ("of the accepted, from the intended moment, p99", "ms"),
    ];
    bench.note(format!(
        "overload: {:.0} orders/s were intended, over {CONNECTIONS} connections",
        most * TIMES
    ));
    for ((name, unit), row) in names.into_iter().zip(rows) {
        bench.line(Line::new(PART, name, unit, &[], &row));
    }
    for (name, [before, after]) in ["producer", "worker"].into_iter().zip(memory) {
        let what = format!("resident memory of the {name} (bare: before)");
        bench.line(Line::new(PART, what, "MB", &before, &after));
    }
    Ok(())
}

/// Of the producer and of the largest worker, in MB.
fn resident() -> anyhow::Result<[f64; 2]> {
    let most = |of| {
        let memory = usage::memory(of)?;
        anyhow::Ok(memory.iter().map(|memory| memory.resident).fold(0.0, f64::max))
    };
    Ok([most("producer")?, most("workers")?])
}
