//! `orderfleet dlq edit`: corrects the order behind a dead letter before it is replayed.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, ensure};
use clap::builder::NonEmptyStringValueParser;
use orderfleet_domain::Order;
use orderfleet_operations::correction::{self, CorrectionError};
use serde::Serialize;
use similar::{ChangeTag, TextDiff};

use crate::exit::{Failure, NOTHING_MATCHED};
use crate::fleet::{FleetArgs, operator};
use crate::output::{Output, visible};

const EXAMPLES: &str = "\
Examples:
  orderfleet dlq edit ID --reason 'country was missing'              # in $VISUAL or $EDITOR
  orderfleet dlq edit ID --file order.json --yes --reason 'country was missing'

The order is opened as JSON, personal data included, in a file that only you can read and that is
removed afterwards. What comes back is checked as if it was posted, and shown as a difference. It is
kept beside the dead letter, and the next run works on it once the dead letter is replayed; what was
posted, and its fingerprint, stay as they are. The look at it is recorded in the operator log, too,
whether anything is kept or not.

Exit codes:
    0  kept; or nothing was changed, or you said no
    1  not kept; stderr says why
    4  no such open dead letter
    5  the database refuses the user
    6  the database does not answer";

/// Correct the order behind a dead letter before it is replayed
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The dead letter
    id: String,
    /// Why, for the operator log
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: String,
    /// Take the corrected order from this file instead of an editor
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Keep it without asking
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

#[derive(Serialize)]
struct Kept<'a> {
    letter: &'a str,
    kept: bool,
}

/// Opens, checks, shows and keeps.
///
/// # Errors
/// No such dead letter, no editor, an order that breaks a rule, or a database that does not answer.
pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let who = operator()?;
    let store = args.fleet.resolve()?.store().await?;
    let edit = correction::begin(&store, &args.id, who, args.reason).await.map_err(failed)?;
    match corrected(edit.order(), args.file.as_deref(), args.yes) {
        Ok(Some(order)) => edit.keep(&order).await.map_err(failed)?,
        Ok(None) => {
            edit.leave().await.map_err(failed)?;
            return kept(output, &args.id, false);
        }
        Err(error) => {
            edit.leave().await.map_err(failed)?;
            return Err(error);
        }
    }
    eprintln!("kept for the next run\nnext:  orderfleet dlq replay --where id={}", args.id);
    kept(output, &args.id, true)
}

/// What a person makes of an order; `None` where it is to stay as it is.
fn corrected(posted: &Order, file: Option<&Path>, yes: bool) -> anyhow::Result<Option<Order>> {
    let before = serde_json::to_string_pretty(posted)? + "\n";
    let after = match file {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?,
        None => edited(&before)?,
    };
    let order: Order = serde_json::from_str(&after).map_err(|error| refused(&error))?;
    if order == *posted {
        eprintln!("nothing was changed");
        return Ok(None);
    }
    show(&before, &(serde_json::to_string_pretty(&order)? + "\n"))?;
    if yes || confirmed()? {
        return Ok(Some(order));
    }
    eprintln!("not kept");
    Ok(None)
}

fn kept(output: Output, letter: &str, kept: bool) -> anyhow::Result<ExitCode> {
    output.print(&Kept { letter, kept }, letter)?;
    Ok(ExitCode::SUCCESS)
}

/// What the person's editor makes of a text.
fn edited(text: &str) -> anyhow::Result<String> {
    let mut named = ["VISUAL", "EDITOR"].iter().filter_map(|name| std::env::var(name).ok());
    let editor = named.find(|name| !name.trim().is_empty()).ok_or_else(|| {
        Failure::new("there is no editor", "set EDITOR, or give the corrected order: --file FILE")
    })?;
    // Readable by its owner alone, and removed when it goes out of scope.
    let mut draft = tempfile::Builder::new().prefix("order-").suffix(".json").tempfile()?;
    draft.write_all(text.as_bytes())?;
    draft.flush()?;
    open(&editor, draft.path())?;
    Ok(std::fs::read_to_string(draft.path())?)
}

/// By way of the shell, since the variable may hold options, too.
fn open(editor: &str, path: &Path) -> anyhow::Result<()> {
    let script = format!("{editor} \"$1\"");
    let status = Command::new("sh").args(["-c", &script, "sh"]).arg(path).status();
    let status = status.with_context(|| format!("starting the editor {editor:?}"))?;
    ensure!(status.success(), "the editor {editor:?} failed: {status}; nothing was changed");
    Ok(())
}

fn show(before: &str, after: &str) -> anyhow::Result<()> {
    let mut talk = std::io::stderr().lock();
    for change in TextDiff::from_lines(before, after).iter_all_changes() {
        let sign = match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => continue,
        };
        writeln!(talk, "{sign} {}", visible(change.value().trim_end()))?;
    }
    Ok(())
}

fn confirmed() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new("nobody is there to confirm", "add --yes").into());
    }
    eprint!("keep this for the next run? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The parser's message names the field and repeats no value of it.
fn refused(error: &serde_json::Error) -> anyhow::Error {
    Failure::new(format!("the corrected order breaks a rule: {error}"), "edit again; nothing was changed")
        .into()
}

fn failed(error: CorrectionError) -> anyhow::Error {
    let what = error.to_string();
    match error {
        CorrectionError::Missing(_) => {
            let next = "orderfleet dlq list shows the open ones".into();
            Failure { what, next, code: NOTHING_MATCHED }.into()
        }
        CorrectionError::NotToRun(_) => {
            Failure::new(what, "orderfleet dlq show ID says how it stands").into()
        }
        CorrectionError::InOtherHands(_) => Failure::new(what, "try again in a minute").into(),
        other => {
            let error = anyhow::Error::from(other);
            let next = "bring the database back, then see whether it was kept: orderfleet dlq show ID";
            Failure::of_database(&error, next).map_or(error, Into::into)
        }
    }
}
