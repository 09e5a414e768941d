//! `orderfleet dlq show`: one dead letter, with its order.

mod text;

use std::process::ExitCode;

use super::{asked, dead_letters, failed};
use crate::exit::{Failure, NOTHING_MATCHED};
use crate::fleet::FleetArgs;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  orderfleet dlq show ID
  orderfleet dlq show ID --output json | jq .order
  orderfleet dlq show ID --reveal --reason 'ticket 4711: which address?'

Personal data (names, addresses, references, descriptions, metadata) is left out unless --reveal
asks for it; that it was looked at is recorded in the operator log.

Exit codes: 0, 4 where there is no such dead letter,
5 where the database refuses the user, 6 where it does not answer";

/// Show a dead letter, what its message asks for, and how its order stands
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Its id, from `orderfleet dlq list`
    #[arg(value_name = "ID")]
    id: String,
    /// Show the whole message, personal data included; recorded
    #[arg(long, requires = "reason")]
    reveal: bool,
    /// Why, for the operator log
    #[arg(long, value_name = "TEXT", requires = "reveal", value_parser = crate::fleet::reason)]
    reason: Option<String>,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Prints it.
///
/// # Errors
/// There is no such letter, the database does not answer, or the operator log refuses the record.
pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let asked = args.reason.filter(|_| args.reveal).map(asked).transpose()?;
    let letters = dead_letters(&args.fleet.resolve()?).await?;
    let shown = letters.show(&args.id, asked.as_ref()).await.map_err(failed)?;
    let shown = shown.ok_or_else(|| Failure {
        what: format!("there is no dead letter {}", crate::output::visible(&args.id)),
        next: "orderfleet dlq list --where 'order=ORDER-ID and is:any'".into(),
        code: NOTHING_MATCHED,
    })?;
    output.print(&shown, &text::text(&shown))?;
    Ok(ExitCode::SUCCESS)
}
