//! `orderfleet fleet signal`: how many workers the fleet needs, once or for whatever scales them.

mod metrics;
mod serve;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use orderfleet_operations::fleet::Unseen;
use orderfleet_operations::scaling::{Bounds, Decision, Parts, Sample, Sampler, Scaler, Size};
use serde::Serialize;

use super::watch;
use crate::exit::DEPENDENCY_DOWN;
use crate::fleet::FleetArgs;
use crate::orders::time::duration;
use crate::output::{Output, visible};
use crate::workers::Workers;

const EXAMPLES: &str = "\
Examples:
  orderfleet fleet signal
  orderfleet fleet signal --workers 0..20 --output json | jq .workers_wanted
  orderfleet fleet signal --listen 127.0.0.1:9095 --workers 0..20
  curl http://127.0.0.1:9095/signal

With --listen it looks every second until SIGTERM or Ctrl-C and serves

  GET /signal    the same as JSON; 503 while a needed part is unknown: a missing signal never
                 reads as zero
  GET /metrics   for Prometheus: queues, orders, workers and the signal; what is unknown is absent
  GET /healthz   whether it still looks
  GET /readyz    whether all that is needed is known

to whoever reaches the address, without a key: give it one that only the operators' network reaches.
It remembers what it has seen: workers are taken away only after a while with less to do. One look
alone adds workers and takes none away. docs/OPERATIONS.md, \"Scaling\", says how it decides.

Exit codes:
  0  looked, and all that is needed is known; with --listen: stopped
  1  the address cannot be listened on
  6  a part is unknown; what is known is shown";

/// Tell how many workers the fleet needs, and why
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Fewest and most workers
    #[arg(long, value_name = "MIN..MAX", default_value = "0..64")]
    workers: Workers,
    /// How long there must have been nothing to do before the fewest are left
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration)]
    idle_after: Duration,
    /// Serve the signal here, such as 127.0.0.1:9095
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// What is told of one look.
#[derive(Debug, Clone, Serialize)]
struct Told {
    /// When, by the clock of whoever looks.
    at: Timestamp,
    workers_wanted: u16,
    reason: String,
    /// Whether everything that is needed is known; otherwise nothing may be scaled by it.
    valid: bool,
    workers_live: Option<u64>,
    bounds: Bounds,
    parts: Parts,
    unknown: Vec<Unseen>,
    /// What holds orders up.
    limits: Vec<String>,
}

/// Looks once, or again and again.
///
/// # Errors
/// The settings cannot be used, or the address is taken.
pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let fleet = args.fleet.resolve()?;
    let mut sampler = Sampler::new(watch(&fleet)?);
    let size = Size { bounds: args.workers.0, idle_after: args.idle_after };
    if let Some(listen) = args.listen {
        return serve::run(sampler, watch(&fleet)?, size, listen).await;
    }
    let sample = sampler.sample().await;
    let current = sample.signal.workers_live.unwrap_or(0);
    let current = u16::try_from(current).unwrap_or(u16::MAX);
    let decision = Scaler::new(size).decide(sample.at, &sample.signal, current);
    let told = told(&sample, size.bounds, decision);
    output.print(&told, &text(&told))?;
    Ok(if told.valid { ExitCode::SUCCESS } else { DEPENDENCY_DOWN.into() })
}

fn told(sample: &Sample, bounds: Bounds, decision: Decision) -> Told {
    let signal = &sample.signal;
    Told {
        at: sample.status.at,
        workers_wanted: decision.workers,
        reason: decision.reason,
        valid: signal.is_known(),
        workers_live: signal.workers_live,
        bounds,
        parts: signal.parts.clone(),
        unknown: signal.unknown.clone(),
        limits: signal.limits.iter().map(ToString::to_string).collect(),
    }
}

fn text(told: &Told) -> String {
    let Parts { ready, in_flight, to_park, due, owed, oldest_age_s, per_second, drain_predicted_s } =
        told.parts;
    let count = |part: Option<u64>| part.map_or_else(|| "unknown".to_owned(), |part| part.to_string());
    let figure = |part: Option<f64>, unit: &str| {
        part.map_or_else(|| "unknown".to_owned(), |part| format!("{part:.1}{unit}"))
    };
    let mut lines = vec![
        format!(
            "workers wanted  {} of {}, {} live",
            told.workers_wanted,
            told.bounds,
            count(told.workers_live)
        ),
        format!("because         {}", visible(&told.reason)),
        format!("ready           {}, the oldest {}", count(ready), figure(oldest_age_s, " s")),
        format!("in flight       {}", count(in_flight)),
        format!("to park         {}", count(to_park)),
        format!("due             {}", count(due)),
        format!("owed            {}", count(owed)),
        format!(
            "handled         {}, drained in {}",
            figure(per_second, "/s"),
            figure(drain_predicted_s, " s")
        ),
    ];
    lines.extend(told.limits.iter().map(|limit| format!("limited         {}", visible(limit))));
    let unknown = told.unknown.iter();
    lines.extend(unknown.map(|it| format!("{} is unknown: {}", it.what, visible(&it.why))));
    lines.join("\n")
}
