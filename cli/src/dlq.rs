//! `orderfleet dlq`: dead letters, which workers of the role `park` have taken from their queues into the database.

mod discard;
mod edit;
mod export;
mod import;
mod list;
mod peek;
mod replay;
mod selection;
mod show;
mod stats;
mod watch;

use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use orderfleet_operations::dead_letters::{Asked, DISCARDED_MAX, DeadLetterError, DeadLetters};

use crate::exit::{Failure, NOTHING_MATCHED, PARTLY, PLAN_CHANGED};
use crate::fleet::{Fleet, operator};
use crate::output::{Output, visible};

const EXAMPLES: &str = "\
Examples:
  orderfleet dlq stats                                    # what fails, how often, since when?
  orderfleet dlq list --where 'step=fulfilment and age>1h'
  orderfleet dlq show ID                                  # one of them, with its order
  orderfleet dlq replay --where 'step=fulfilment' --forecast  # mended: would they work by now?
  orderfleet dlq replay --where 'step=fulfilment' --yes --reason 'carrier is back'
  orderfleet dlq discard --where 'fingerprint=abcd and age>30d'
  orderfleet dlq watch

Changes are planned and shown first; --yes makes them, and each is recorded with its --reason.";

/// Look at dead letters, and deal with them
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{}", orderfleet_operations::filter::HELP))]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Stats(stats::Args),
    List(list::Args),
    Show(show::Args),
    Peek(peek::Args),
    Watch(watch::Args),
    Replay(replay::Args),
    Edit(edit::Args),
    Discard(discard::Args),
    Export(export::Args),
    Import(import::Args),
}

/// Runs the command.
///
/// # Errors
/// As each of them says.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Stats(args) => stats::run(args, output).await,
        Command::List(args) => list::run(args, output).await,
        Command::Show(args) => show::run(args, output).await,
        Command::Peek(args) => peek::run(args, output).await,
        Command::Watch(args) => watch::run(args, output).await,
        Command::Replay(args) => replay::run(args, output).await,
        Command::Edit(args) => edit::run(args, output).await,
        Command::Discard(args) => discard::run(args, output).await,
        Command::Export(args) => export::run(args, output).await,
        Command::Import(args) => import::run(args, output).await,
    }
}

/// The dead letters of a fleet.
///
/// # Errors
/// Its database does not answer.
async fn dead_letters(fleet: &Fleet) -> anyhow::Result<DeadLetters> {
    Ok(DeadLetters::new(fleet.store().await?))
}

/// The person at the keyboard, with a reason.
///
/// # Errors
/// He has no name.
fn asked(reason: String) -> anyhow::Result<Asked> {
    Ok(Asked { who: operator()?, why: reason })
}

/// A failure with its next step.
fn failed(error: DeadLetterError) -> anyhow::Error {
    if let DeadLetterError::TooMany = error {
        let next = format!("narrow the selection with --where, or go in parts: --limit {DISCARDED_MAX}");
        return Failure::new(error.to_string(), next).into();
    }
    let error = anyhow::Error::from(error);
    let next = "look at the database, then repeat the command; with a large selection, narrow it: --where";
    Failure::of_database(&error, next).map_or(error, Into::into)
}

/// So many, in words.
fn letters_of(count: u64) -> String {
    if count == 1 { "1 dead letter".into() } else { format!("{count} dead letters") }
}

/// Refuses to go on where the plan is another one than `--expect` names, by its id or by the number of its dead letters.
///
/// # Errors
/// It is.
fn check_expected(expected: Option<&str>, plan: &str, count: u64) -> anyhow::Result<()> {
    if expected.is_none_or(|expected| expected == plan || expected == count.to_string()) {
        return Ok(());
    }
    let what = format!("the plan is {plan} by now, of {}; nothing was done", letters_of(count));
    let next = "look again without --yes, then give the plan's id that is shown".into();
    Err(Failure { what, next, code: PLAN_CHANGED }.into())
}

/// How far a command has come of so many things, how fast, and how long it will take. It is seen on a terminal only.
fn progress_bar(all: u64) -> ProgressBar {
    bar(all, "{bar:10} {pos}/{len} {msg} {per_sec} eta {eta}")
}

/// As [`progress_bar`], of so many bytes.
fn progress_of_bytes(all: u64) -> ProgressBar {
    bar(all, "{bar:10} {bytes}/{total_bytes} {msg} {bytes_per_sec} eta {eta}")
}

fn bar(all: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the templates are constant and well-formed");
    ProgressBar::new(all).with_style(style)
}

/// Names dead letters that match and that this build cannot read, and says how a command went that has found so many others.
fn listed(found: usize, unreadable: &[String]) -> ExitCode {
    for id in unreadable {
        eprintln!("{} cannot be read by this build", visible(id));
    }
    match (found, unreadable.len()) {
        (0, 0) => nothing("no dead letter matches"),
        (_, 0) => ExitCode::SUCCESS,
        _ => PARTLY.into(),
    }
}

/// There is nothing that the command could be about.
fn nothing(what: &str) -> ExitCode {
    eprintln!("{what}");
    NOTHING_MATCHED.into()
}
