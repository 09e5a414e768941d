//! `orderfleet fleet status`: the whole fleet at one look.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use orderfleet_operations::fleet::{FleetStatus, Watch};
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use super::{view, watch};
use crate::exit::DEPENDENCY_DOWN;
use crate::fleet::FleetArgs;
use crate::output::Output;
use crate::up::scaling::{Scaling, require_fleet, told};

const EVERY: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  orderfleet fleet status
  orderfleet fleet status --once
  orderfleet fleet status --once --output json | jq '.workers[] | select(.stale)'

On a terminal it looks every second until Ctrl-C; elsewhere, with --once or with another --output it
looks once. Queues are as the broker counts them; what is in hand, rates, ages and circuits are what
workers say of themselves every two seconds. `unknown`, as JSON null, is what cannot be seen: it may
be none, and it may be much. AGE of a queue is how long what was taken from it last, within the last
two seconds, had waited in it; nothing is known of what nobody takes, as the broker does not say how
old that is. AGE of a worker is how long ago it was heard of. Of a fleet that `orderfleet up`
runs here it says, too, how many workers it should have and why; elsewhere `orderfleet fleet signal`.

Exit codes:
  0  looked
  6  the broker or the database does not answer; what can be seen is shown";

/// Show queues, workers, downstreams, database and dead letters
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Look once, also on a terminal
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// A look, as JSON.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    status: &'a FleetStatus,
    scaling: Option<&'a Scaling>,
}

/// Looks once, or on a terminal again and again.
///
/// # Errors
/// The settings cannot be used, or stdout cannot be written.
pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let folder = args.fleet.folder();
    let mut watch = watch(&args.fleet.resolve()?)?;
    if output == Output::Table && !args.once && std::io::stdout().is_terminal() {
        return live(&mut watch, &folder).await;
    }
    let (status, scaling) = (watch.look().await, scaling(&folder));
    output.print(
        &Shown { status: &status, scaling: scaling.as_ref() },
        &view::text(&status, scaling.as_ref()),
    )?;
    Ok(if is_down(&status) { DEPENDENCY_DOWN.into() } else { ExitCode::SUCCESS })
}

/// Of a fleet that runs on this machine: how many workers it should have, and why.
fn scaling(folder: &Path) -> Option<Scaling> {
    require_fleet(folder).ok()?;
    told(folder).ok()
}

async fn live(watch: &mut Watch, folder: &Path) -> anyhow::Result<ExitCode> {
    let screen = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout())
        .with_style(ProgressStyle::with_template("{msg}")?);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        let look = async {
            ticks.tick().await;
            watch.look().await
        };
        tokio::select! {
            status = look => {
                screen.set_message(view::text(&status, scaling(folder).as_ref()));
                screen.tick();
            }
            _ = &mut interrupted => {
                screen.abandon();
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

fn is_down(status: &FleetStatus) -> bool {
    !status.database.reachable || status.queues.iter().all(|queue| queue.ready.is_none())
}
