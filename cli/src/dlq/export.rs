//! `orderfleet dlq export`: dead letters as JSON lines.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::ProgressDrawTarget;
use serde::Serialize;

use super::selection::Selection;
use super::{asked, dead_letters, failed, letters_of, listed, progress_bar};
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
  3  written, but for dead letters that this build cannot read; stderr names them
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
    /// At most so many, the oldest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Yes, with personal data
    #[arg(long, required = true)]
    reveal: bool,
    /// Why, for the operator log
    #[arg(long, value_name = "TEXT", required = true, value_parser = crate::fleet::reason)]
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
    let all = letters.count(&chosen.filter).await.map_err(failed)?;
    let bar = progress_bar(args.limit.map_or(all, |limit| all.min(limit.into())));
    let mut target = Target::open(args.file)?;
    if matches!(target, Target::Stdout(_)) && std::io::stdout().is_terminal() {
        // Lines that run past on the same terminal would tear the bar apart.
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let tell = |written| bar.set_position(written);
    let exported = letters.export(&chosen.filter, args.limit, &chosen.text, &asked, &mut target, tell).await;
    bar.finish_and_clear();
    let exported = exported.map_err(failed)?;
    let (count, file) = (exported.letters, target.close(exported.letters)?);
    let code = listed(usize::try_from(count)?, &exported.unreadable);
    if count == 0 {
        return Ok(code);
    }
    let told = letters_of(count);
    if let Some(file) = &file {
        output.print(&Exported { letters: count, file }, &format!("{told} in {}", file.display()))?;
    }
    eprintln!("{told} written, with the personal data of customers");
    Ok(code)
}
