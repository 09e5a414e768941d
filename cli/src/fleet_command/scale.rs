//! `orderfleet fleet scale`: another number of workers for a fleet that `orderfleet up` runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use orderfleet_operations::log::{Act, OperatorLog};
use orderfleet_operations::pause::PauseError;
use tokio::time::{Instant, sleep};

use super::progress::Progress;
use super::{asked, failed};
use crate::exit::{INTERRUPTED, TIMED_OUT};
use crate::fleet::FleetArgs;
use crate::orders::time::duration;
use crate::output::Output;
use crate::up::scaling::{self, Asked, Workers};

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Written by `orderfleet up` in the folder it runs in.
const SETTINGS: &str = "orderfleet.toml";

const EXAMPLES: &str = "\
Examples:
  orderfleet fleet scale 4 --reason 'sale begins'
  orderfleet fleet scale 0 --reason 'idle'             # orders wait in their queues
  orderfleet fleet scale auto --reason 'sale is over'  # back to what the fleet was started with
  orderfleet fleet scale 4 --dir /srv/fleet --timeout 2m --reason 'sale begins'

A worker that is stopped takes nothing new and finishes the calls in hand, within 20 seconds; what it
could not finish goes to others. A number holds, whatever the backlog, until another one or `auto`:
back to the number or the range that `orderfleet up --workers` was given. Workers elsewhere, such as
in containers, are scaled by what runs them.

Exit codes:
    0  so many workers are ready, and no others run; with auto: the backlog decides again
    1  no fleet runs in the folder
    6  the database does not answer: the change could not be recorded, and nothing was done
    9  after --timeout it is not so yet; the fleet goes on with it
  130  interrupted; the fleet goes on with it";

/// Change the number of workers of a fleet on this machine, and wait until it is so
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// How many workers, or `auto`
    #[arg(value_name = "N|auto")]
    workers: Asked,
    /// Why; recorded in the operator log
    #[arg(long, value_name = "TEXT", value_parser = crate::fleet::reason)]
    reason: String,
    /// The fleet's folder, as given to `orderfleet up`
    #[arg(long, value_name = "DIR", default_value = ".orderfleet")]
    dir: PathBuf,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Scales and waits.
///
/// # Errors
/// No fleet runs in the folder, or the change cannot be recorded.
pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let Args { workers: wanted, reason, dir, timeout, fleet } = args;
    let asked = asked(reason)?;
    scaling::require_fleet(&dir)?;
    let before =
        scaling::told(&dir).map_or_else(|_| "?".to_owned(), |before| before.workers.wanted.to_string());
    let log = OperatorLog::new(fleet.resolve_at(&dir.join(SETTINGS))?.store().await?);
    let target = format!("workers of the fleet in {}: {before} to {wanted}", dir.display());
    let act = Act { who: asked.who, what: "fleet.scale".into(), why: asked.why, target };
    let act = log.begin(&act).await.map_err(|error| failed(PauseError::Log(error)))?;

    let scaled = scale(&dir, wanted, Instant::now() + timeout).await;
    let (result, code) = match &scaled {
        Ok(Some(workers)) if is_so(workers, wanted) => (shown(workers), ExitCode::SUCCESS),
        Ok(Some(workers)) => (format!("not yet: {}", shown(workers)), TIMED_OUT.into()),
        Ok(None) => ("asked for, and not waited for".to_owned(), INTERRUPTED.into()),
        Err(error) => (format!("broke off: {error}"), crate::exit::FAILED.into()),
    };
    log.end(&act, &result).await.map_err(|error| failed(PauseError::Log(error)))?;
    match scaled? {
        Some(workers) => output.print(&workers, &result)?,
        None => eprintln!("interrupted; the fleet goes on with it"),
    }
    Ok(code)
}

/// Asks, and waits until it is so or the time is up; `None` after Ctrl-C.
async fn scale(dir: &Path, wanted: Asked, deadline: Instant) -> anyhow::Result<Option<Workers>> {
    scaling::ask(dir, wanted)?;
    tokio::select! {
        workers = until_so(dir, wanted, deadline) => workers.map(Some),
        _ = tokio::signal::ctrl_c() => Ok(None),
    }
}

async fn until_so(dir: &Path, wanted: Asked, deadline: Instant) -> anyhow::Result<Workers> {
    let mut progress = Progress::new();
    loop {
        // A fleet that has just become ready has not said anything yet.
        let told = scaling::told(dir);
        let is_auto = told.as_ref().is_ok_and(|told| !told.fixed_by_operator);
        let workers = told.map(|told| told.workers);
        match workers {
            Ok(workers) if is_so(&workers, wanted) && is_auto == (wanted == Asked::Auto) => {
                return Ok(workers);
            }
            _ if Instant::now() >= deadline => return workers,
            Ok(workers) => progress.tell(&shown(&workers)),
            Err(_) => {}
        }
        scaling::require_fleet(dir)?;
        sleep(LOOK_EVERY).await;
    }
}

/// Whether there are as many as was asked for. How many the signal asks for may change at any time.
fn is_so(workers: &Workers, asked: Asked) -> bool {
    match asked {
        Asked::Fixed(wanted) => workers.are(wanted),
        Asked::Auto => true,
    }
}

fn shown(workers: &Workers) -> String {
    let Workers { ready, starting, stopping, given_up, .. } = workers;
    let mut text =
        if *ready == 1 { "1 worker is ready".to_owned() } else { format!("{ready} workers are ready") };
    for (count, what) in [(starting, "starting"), (stopping, "stopping"), (given_up, "given up")] {
        if *count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}
