//! `orderfleet dlq edit`: corrects the order behind a dead letter before it is replayed.

mod draft;

use std::cell::Cell;
use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use orderfleet_domain::Order;
use orderfleet_operations::correction::{self, CorrectionError};
use serde::Serialize;
use similar::{ChangeTag, TextDiff};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::exit::{Failure, INTERRUPTED, NOTHING_MATCHED};
use crate::fleet::{FleetArgs, operator};
use crate::output::{Output, visible};
use draft::Draft;

const EXAMPLES: &str = "\
Examples:
  orderfleet dlq edit ID --reason 'country was missing'              # in $VISUAL or $EDITOR
  orderfleet dlq edit ID --file order.json --yes --reason 'country was missing'

The order is opened as JSON, personal data included: what the next run would work on as things
stand. The file is one that only you can read, and is removed afterwards; if it cannot be kept for
the next run, stderr names the file with what you have written. What comes back is checked as if it
was posted, and shown as a difference. It is kept beside the dead letter, and the next run works on
it once the dead letter is replayed; what was posted, and its fingerprint, stay as they are. The
look at it is recorded in the operator log, too, whether anything is kept or not.

Exit codes:
    0  kept; or nothing was changed, or you said no
    1  not kept; stderr says why
    4  no such open dead letter
    5  the database refuses the user
    6  the database does not answer
  130  interrupted; nothing was changed";

/// Correct the order behind a dead letter before it is replayed
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The dead letter
    id: String,
    /// Why, for the operator log
    #[arg(long, value_name = "TEXT", value_parser = crate::fleet::reason)]
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
    let mut signals = Signals::listen()?;
    let edit = correction::begin(&store, &args.id, who, args.reason).await.map_err(failed)?;
    let (mut draft, is_editing, mut is_interrupted) = (None, Cell::new(false), false);
    let corrected = tokio::select! {
        biased;
        () = signals.ended(&is_editing) => {
            is_interrupted = true;
            Ok(None)
        }
        corrected = corrected(edit.order(), args.file.as_deref(), args.yes, &mut draft, &is_editing) => corrected,
    };
    let kept = match corrected {
        Ok(Some(order)) => edit.keep(&order).await.map_err(failed).map(|()| true),
        Ok(None) => edit.leave().await.map_err(failed).map(|()| false),
        Err(error) => edit.leave().await.map_err(failed).and(Err(error)),
    };
    let is_kept = kept.map_err(|error| with_draft(error, draft.take(), &args.id))?;
    if is_interrupted {
        eprintln!("interrupted; nothing was changed");
        return Ok(INTERRUPTED.into());
    }
    if is_kept {
        eprintln!("kept for the next run\nnext:  orderfleet dlq replay --where id={}", args.id);
    }
    output.print(&Kept { letter: &args.id, kept: is_kept }, &args.id)?;
    Ok(ExitCode::SUCCESS)
}

/// What a person makes of an order; `None` where it is to stay as it is.
async fn corrected(
    posted: &Order,
    file: Option<&Path>,
    yes: bool,
    draft: &mut Option<Draft>,
    is_editing: &Cell<bool>,
) -> anyhow::Result<Option<Order>> {
    let before = serde_json::to_string_pretty(posted)? + "\n";
    let order = match file {
        Some(file) => {
            parsed(&fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?)?
        }
        None => edited(draft.insert(Draft::new(&before)?), is_editing).await?,
    };
    if order == *posted {
        eprintln!("nothing was changed");
        return Ok(None);
    }
    show(&before, &(serde_json::to_string_pretty(&order)? + "\n"))?;
    if yes || confirmed("keep this for the next run?").await? {
        return Ok(Some(order));
    }
    eprintln!("not kept");
    Ok(None)
}

/// What comes out of the editor, opened again over what breaks a rule if there is somebody to ask.
async fn edited(draft: &Draft, is_editing: &Cell<bool>) -> anyhow::Result<Order> {
    loop {
        let refused = match parsed(&draft.edit(is_editing).await?) {
            Ok(order) => return Ok(order),
            Err(refused) => refused,
        };
        if !std::io::stdin().is_terminal() {
            return Err(refused.into());
        }
        eprintln!("{refused}");
        if !confirmed("edit it again?").await? {
            return Err(refused.into());
        }
    }
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

async fn confirmed(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new("nobody is there to confirm", "add --yes").into());
    }
    eprint!("{question} [y/N] ");
    let (tell, told) = oneshot::channel();
    // A thread that nobody waits for: the process may be told to end before there is an answer.
    std::thread::spawn(move || {
        let mut answer = String::new();
        tell.send(std::io::stdin().read_line(&mut answer).map(|_| answer)).ok();
    });
    let answer = told.await.context("reading the answer")??;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The parser's message names the field and repeats no value of it.
fn parsed(text: &str) -> Result<Order, Failure> {
    serde_json::from_str(text).map_err(|error| {
        let what = format!("the corrected order breaks a rule: {error}");
        Failure::new(what, "edit again; nothing was changed")
    })
}

/// A failure that does not cost what was written.
fn with_draft(error: anyhow::Error, draft: Option<Draft>, letter: &str) -> anyhow::Error {
    let Some(path) = draft.and_then(Draft::keep) else { return error };
    let Failure { what, next, code } =
        error.downcast().unwrap_or_else(|error| Failure::new(format!("{error:#}"), "mend that"));
    let again = format!("orderfleet dlq edit {letter} --file {} --reason TEXT", path.display());
    let next = format!("{next}; what you have written is kept, remove it afterwards:\n       {again}");
    Failure { what, next, code }.into()
}

/// Requests to end this process, which may have personal data in a file.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for one that is meant for this process: while an editor runs, Ctrl-C is a key of the editor.
    async fn ended(&mut self, is_editing: &Cell<bool>) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => if !is_editing.get() { return },
                _ = self.terminate.recv() => return,
                _ = self.hang_up.recv() => return,
            }
        }
    }
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
