//! `orderfleet fleet drain`: takes no fresh orders, and waits until everything that was begun is over.

use std::process::ExitCode;
use std::time::Duration;

use orderfleet_operations::fleet::{InFlight, until_drained};
use orderfleet_operations::pause::{Paused, Pauses};
use orderfleet_storage::PauseTarget;
use serde::Serialize;
use tokio::time::Instant;

use super::progress::Progress;
use super::{asked, failed, pause_length, tell_of_replaced, watch};
use crate::exit::{Failure, INTERRUPTED, TIMED_OUT};
use crate::fleet::FleetArgs;
use crate::orders::time::duration;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  orderfleet fleet drain --reason 'broker update'
  orderfleet fleet drain --for 4h --timeout 30m --reason 'moving the database'

Pauses queue:new, then waits until no message is in another lane or a wait tier, no delivery is in
the hand of a worker, and no order is under way but those that wait for a person. Producers go on
accepting orders, which wait in their queues. Ctrl-C ends the waiting, not the pause. A pause of
queue:new that is in force and lasts longer keeps its end.

Exit codes:
    0  nothing is in flight
    1  too many pauses, or the reason is too long
    2  --timeout is not shorter than --for: fresh orders would be taken again before it is up
    6  the database does not answer; the same command again does no harm
    9  something is still in flight after --timeout; fresh orders stay paused
  130  interrupted; the same command again goes on waiting";

/// Take no fresh orders, and wait until nothing is in flight
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Why; shown to operators who look, and recorded in the operator log
    #[arg(long, value_name = "TEXT", value_parser = crate::fleet::reason)]
    reason: String,
    /// How long fresh orders are paused, at most 7 days
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = pause_length)]
    length: Duration,
    /// How long to wait, less than --for
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    fleet: FleetArgs,
}

#[derive(Serialize)]
struct Drained<'a> {
    #[serde(flatten)]
    paused: &'a Paused,
    /// Whether nothing is in flight.
    drained: bool,
    /// What still is.
    in_flight: &'a [InFlight],
}

/// Pauses fresh orders and waits.
///
/// # Errors
/// The times do not fit, the database does not answer, or the operator log refuses the record: then nothing is paused.
pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let Args { reason, length, timeout, fleet } = args;
    if timeout >= length {
        let what = "fresh orders would be taken again before the time to wait is up";
        return Err(Failure::usage(what, "--timeout shorter than --for: --for 4h --timeout 30m").into());
    }
    let asked = asked(reason)?;
    let fleet = fleet.resolve()?;
    let pauses = Pauses::new(fleet.store().await?);
    let mut watch = watch(&fleet)?;
    let pausing = pauses.pause_at_least(&asked, "fleet.drain", &PauseTarget::NewOrders, length);
    let paused = pausing.await.map_err(failed)?;
    tell_of_replaced(paused.replaced.as_ref());
    eprintln!("no fresh orders are taken until {:.0}", paused.pause.until);
    for other in pauses.in_force().await.map_err(failed)? {
        if other.target != PauseTarget::NewOrders {
            eprintln!("{} is paused, too: orders that wait for it do not drain", other.target);
        }
    }

    let mut progress = Progress::new();
    let left = tokio::select! {
        left = until_drained(&mut watch, Instant::now() + timeout, |left| progress.tell(&waiting(left))) => Some(left),
        _ = tokio::signal::ctrl_c() => None,
    };
    drop(progress);
    let Some(left) = left else {
        eprintln!("interrupted; fresh orders stay paused");
        say_how_to_go_on();
        return Ok(INTERRUPTED.into());
    };
    let text = if left.is_empty() { "drained: nothing is in flight".to_owned() } else { waiting(&left) };
    output.print(&Drained { paused: &paused, drained: left.is_empty(), in_flight: &left }, &text)?;
    say_how_to_go_on();
    Ok(if left.is_empty() { ExitCode::SUCCESS } else { TIMED_OUT.into() })
}

fn waiting(left: &[InFlight]) -> String {
    if left.is_empty() {
        return "nothing is in flight; looking once more".to_owned();
    }
    format!("in flight: {}", left.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

fn say_how_to_go_on() {
    eprintln!("next:  orderfleet fleet resume {} --reason TEXT", PauseTarget::NewOrders);
}
