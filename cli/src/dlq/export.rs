//! `orderfleet dlq export`: dead letters as JSON lines.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;

use super::selection::Selection;
use super::{asked, dead_letters, failed, letters_of, nothing};
use crate::export::Target;
use crate::fleet::FleetArgs;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  orderfleet dlq export letters.jsonl --reveal --reason 'moving to another cluster'
  orderfleet dlq export --where 'queue=poison' --reveal --reason 'for the developers' | gzip > l.gz
  orderfleet dlq export all.jsonl --where is:any --reveal --reason backup

Each line holds a whole message: names, addresses and references of customers. Hence --reveal, a
reason that is recorded, and a file that only its owner can read. Nothing is changed by it.

Exit codes:
  0  written
  1  the file is there already, or cannot be written
  4  nothing matches
  5  the database refuses the user
  6  the database does not answer";

/// Write dead letters to a file, or to stdout, complete enough to import them elsewhere
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A new file; without it, or with `-`, stdout
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    selection: Selection,
    /// Yes, with personal data
    #[arg(long, required = true)]
    reveal: bool,
    /// Why, for the operator log
    #[arg(long, value_name = "TEXT", required = true, value_parser = NonEmptyStringValueParser::new())]
    reason: String,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// What was written to a file.
#[derive(Serialize)]
struct Exported<'a> {
    letters: u64,
    file: &'a Path,
}

/// Writes them.
///
/// # Errors
/// The file exists or cannot be written, the database does not answer, or the operator log refuses the record. A file that was
/// begun is left, without its end.
pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let chosen = args.selection.resolve()?;
    let asked = asked(args.reason)?;
    let letters = dead_letters(&args.fleet.resolve()?).await?;
    let mut target = Target::open(args.file)?;
    let exported = letters.export(&chosen.filter, &chosen.text, &asked, &mut target).await;
    let count = exported.map_err(failed)?;
    let file = target.close(count)?;
    if count == 0 {
        return Ok(nothing("no dead letter matches"));
    }
    let told = letters_of(count);
    if let Some(file) = &file {
        output.print(&Exported { letters: count, file }, &format!("{told} in {}", file.display()))?;
    }
    eprintln!("{told} written, with the personal data of customers");
    Ok(ExitCode::SUCCESS)
}
