//! `orderfleet dlq import`: puts exported dead letters back.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressBarIter};
use orderfleet_operations::dead_letters::Imported;
use serde::Serialize;

use super::{asked, dead_letters, failed, letters_of, nothing, progress_of_bytes};
use crate::fleet::FleetArgs;
use crate::output::{Output, table};

const EXAMPLES: &str = "\
Examples:
  orderfleet dlq import letters.jsonl
  orderfleet dlq import letters.jsonl --yes --reason 'moved from the old cluster'

Without --yes the file is checked and counted, and nothing is done. A dead letter that is there
stays as it is, so that the same file can be imported again.

Exit codes:
  0  imported, or checked and counted
  1  the file cannot be read, or a line is no exported dead letter
  4  the file holds none
  5  the database refuses the user
  6  the database does not answer";

/// Put exported dead letters into this fleet's database
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The file that `orderfleet dlq export` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Do it
    #[arg(long, requires = "reason")]
    yes: bool,
    /// Why, for the operator log
    #[arg(long, value_name = "TEXT", value_parser = crate::fleet::reason)]
    reason: Option<String>,
    #[command(flatten)]
    fleet: FleetArgs,
}

#[derive(Serialize)]
struct Outcome {
    #[serde(flatten)]
    imported: Imported,
    /// Whether it was done, or only planned.
    is_done: bool,
}

/// Prints what the file holds; with --yes, imports it.
///
/// # Errors
/// A line is no exported letter, the database does not answer, or the operator log refuses the record.
pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let fleet = args.fleet.resolve()?;
    let letters = dead_letters(&fleet).await?;
    let database = &fleet.database.name;
    let (mut lines, bar) = open(&args.file)?;
    let planned = letters.plan_import(&mut lines).await;
    bar.finish_and_clear();
    let planned = planned.map_err(failed)?;
    let (true, Some(reason)) = (args.yes, args.reason) else {
        print(output, planned, false)?;
        if planned == Imported::default() {
            return Ok(nothing("the file holds no dead letter"));
        }
        let new = letters_of(planned.new);
        eprintln!("{new} would be new in the database {database}; nothing is done");
        eprintln!("next:  the same command with --yes --reason TEXT");
        return Ok(ExitCode::SUCCESS);
    };
    let source = args.file.display().to_string();
    let asked = asked(reason)?;
    let (mut lines, bar) = open(&args.file)?;
    let tell = |Imported { new, known }: &Imported| bar.set_message(format!("new {new} known {known}"));
    let imported = letters.import(&mut lines, &source, &asked, tell).await;
    bar.finish_and_clear();
    let imported = imported.map_err(failed)?;
    print(output, imported, true)?;
    if imported == Imported::default() {
        return Ok(nothing("the file holds no dead letter"));
    }
    eprintln!("{} imported into the database {database}", letters_of(imported.new));
    Ok(ExitCode::SUCCESS)
}

/// The file, and a bar that moves on as it is read.
fn open(path: &Path) -> anyhow::Result<(BufReader<ProgressBarIter<File>>, ProgressBar)> {
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    let (bytes, file) = opened.with_context(|| format!("reading {}", path.display()))?;
    let bar = progress_of_bytes(bytes);
    Ok((BufReader::new(bar.wrap_read(file)), bar))
}

fn print(output: Output, imported: Imported, is_done: bool) -> anyhow::Result<()> {
    let Imported { new, known } = imported;
    let rows = table(&["NEW", "KNOWN"], [vec![new.to_string(), known.to_string()]]);
    output.print(&Outcome { imported, is_done }, &rows)
}
