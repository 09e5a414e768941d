//! `orderfleet fleet pauses`: what is paused, by whom, for how long, and why.

use std::process::ExitCode;

use jiff::Timestamp;
use orderfleet_operations::pause::Pauses;
use orderfleet_storage::Pause;
use serde::Serialize;

use super::{failed, left_of};
use crate::exit::NOTHING_MATCHED;
use crate::fleet::FleetArgs;
use crate::orders::time::age;
use crate::output::{Output, Row};

const EXAMPLES: &str = "\
Examples:
  orderfleet fleet pauses
  orderfleet fleet pauses --output json | jq -r '.[].target'

Exit codes:
  0  something is paused
  4  nothing is
  6  the database does not answer";

/// List what is paused
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    fleet: FleetArgs,
}

/// A pause as a row.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct PauseRow(pub(super) Pause);

impl Row for PauseRow {
    const HEADER: &'static [&'static str] = &["TARGET", "BY", "LEFT", "REASON", "AGE"];

    fn cells(&self) -> Vec<String> {
        let Pause { target, owner, reason, at, .. } = &self.0;
        vec![target.to_string(), owner.clone(), left_of(&self.0), reason.clone(), age(*at, Timestamp::now())]
    }
}

/// Lists the pauses in force.
///
/// # Errors
/// The database does not answer.
pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let pauses = Pauses::new(args.fleet.resolve()?.store().await?);
    let rows: Vec<_> = pauses.in_force().await.map_err(failed)?.into_iter().map(PauseRow).collect();
    output.print_rows(&rows)?;
    if rows.is_empty() {
        eprintln!("nothing is paused");
        return Ok(NOTHING_MATCHED.into());
    }
    Ok(ExitCode::SUCCESS)
}
