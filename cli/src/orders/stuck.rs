//! `orderfleet orders stuck`: orders that have not ended, and why they wait.

use std::process::ExitCode;
use std::time::Duration;

use orderfleet_operations::orders;

use super::rows::Stuck;
use super::time::duration;
use super::{list_failure, listed};
use crate::fleet::FleetArgs;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  orderfleet orders stuck
  orderfleet orders stuck --older-than 1h --limit 500
  orderfleet orders stuck --output jsonl | jq -r 'select(.waiting.for == \"nobody\") | .order_id'

What an order waits for:
  person       a decision: orderfleet orders resolve ORDER
  worker       the worker that has it in hand, for the rest of its lease
  paused       the end of a pause of its service, account or last failure, or of a queue that
               its message may be in, in so long: orderfleet fleet pauses
  next-try     its next try, for so long; the service failed or was not reached
  nobody-came  a worker: its next try was due so long ago. Do workers run?
  sweeper      a publish that is owed; workers of the role sweep make it
  message      its message, which is in a queue: of new orders, retries, replays or compensation

DEADLINE is when the step in hand is given up, if it goes on failing.

Exit codes:
  0  listed
  3  listed, but documents that match cannot be read by this build; stderr names them
  4  nothing is stuck
  5  the database refuses the user
  6  the database does not answer";

/// List orders that have not ended after some time, and what each waits for
///
/// Oldest first. JSON has all that is known of each: owner, lease, next try, attempts.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How long after they were taken from their queue
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    older_than: Duration,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Lists what is stuck.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let Args { older_than, limit, fleet } = args;
    let fleet = fleet.resolve()?;
    let policy = fleet.policy()?;
    let store = fleet.store().await?;
    let found = orders::stuck(&store, &policy, older_than, limit).await.map_err(list_failure)?;
    let rows: Vec<_> = found.orders.into_iter().map(Stuck).collect();
    output.print_rows(&rows)?;
    if rows.len() + found.unreadable.len() >= limit as usize {
        eprintln!("there may be more: --limit {}", limit.saturating_mul(10).min(10_000));
    }
    Ok(listed(rows.len(), &found.unreadable, "nothing is stuck"))
}
