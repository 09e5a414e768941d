//! `orderfleet dlq export`: dead letters as JSON lines.

use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;

use super::selection::Selection;
use super::{asked, dead_letters, failed, nothing};
use crate::exit::Failure;
use crate::fleet::FleetArgs;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  orderfleet dlq export letters.jsonl --reveal --reason 'moving to another cluster'
  orderfleet dlq export --where 'queue=poison' --reveal --reason 'for the developers' | gzip > l.gz
  orderfleet dlq export all.jsonl --where is:any --reveal --reason backup

Each line holds a whole message: names, addresses and references of customers. Hence --reveal, a
reason that is recorded, and a file that only its owner can read. Nothing is changed by it.

Exit codes: 0, or 4 where nothing matches";

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
    #[arg(long, value_name = "TEXT", required = true)]
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
    let count = match args.file.filter(|path| path.as_os_str() != "-") {
        Some(path) => {
            let mut out = BufWriter::new(create(&path)?);
            let exported = letters.export(&chosen.filter, &chosen.text, &asked, &mut out).await;
            let count = exported.map_err(failed)?;
            out.get_ref().sync_all().with_context(|| format!("writing {}", path.display()))?;
            let told = format!("{count} dead letters in {}", path.display());
            output.print(&Exported { letters: count, file: &path }, &told)?;
            count
        }
        None => {
            let mut out = BufWriter::new(std::io::stdout());
            letters.export(&chosen.filter, &chosen.text, &asked, &mut out).await.map_err(failed)?
        }
    };
    if count == 0 {
        return Ok(nothing("no dead letter matches"));
    }
    eprintln!("{count} dead letters written, with the personal data of customers");
    Ok(ExitCode::SUCCESS)
}

/// A file for its owner alone, which nobody had before.
fn create(path: &Path) -> anyhow::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let created = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    created.map_err(|error| {
        let next = "name a file that does not exist, in a folder that you may write to";
        Failure::new(format!("{} cannot be created: {error}", path.display()), next).into()
    })
}
