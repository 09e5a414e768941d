//! `orderfleet fleet resume`: ends a pause.

use std::process::ExitCode;

use orderfleet_operations::pause::Pauses;
use orderfleet_storage::{Pause, PauseTarget};
use serde::Serialize;

use super::{asked, failed};
use crate::exit::NOTHING_MATCHED;
use crate::fleet::FleetArgs;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  orderfleet fleet resume queue:new --reason 'updated'
  orderfleet fleet resume downstream:accounting --reason 'the bank is back'

Workers obey within a second. A queue is taken from at once; an order that waited for a downstream,
an account or a failure is tried again when its wait is over, after at most 30 seconds.

Exit codes:
  0  resumed
  2  the target is none
  4  it is not paused; `orderfleet fleet pauses` lists what is
  6  the database does not answer; the same command again does no harm";

/// End a pause before its time
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// What to resume, as `orderfleet fleet pauses` shows it
    #[arg(value_name = "TARGET")]
    target: PauseTarget,
    /// Why; recorded in the operator log
    #[arg(long, value_name = "TEXT", value_parser = crate::fleet::reason)]
    reason: String,
    #[command(flatten)]
    fleet: FleetArgs,
}

#[derive(Serialize)]
struct Resumed<'a> {
    target: &'a PauseTarget,
    /// The pause that was ended; none where there was none.
    resumed: Option<&'a Pause>,
}

/// Resumes.
///
/// # Errors
/// The database does not answer, or the operator log refuses the record.
pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let Args { target, reason, fleet } = args;
    let asked = asked(reason)?;
    let pauses = Pauses::new(fleet.resolve()?.store().await?);
    let resumed = pauses.resume(&asked, &target).await.map_err(failed)?;
    let text = match &resumed {
        Some(pause) => {
            format!("{target} is resumed; it was paused by {} until {:.0}", pause.owner, pause.until)
        }
        None => format!("{target} is not paused"),
    };
    output.print(&Resumed { target: &target, resumed: resumed.as_ref() }, &text)?;
    if resumed.is_none() {
        eprintln!("next:  orderfleet fleet pauses");
        return Ok(NOTHING_MATCHED.into());
    }
    Ok(ExitCode::SUCCESS)
}
