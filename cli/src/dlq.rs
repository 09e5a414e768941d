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

use orderfleet_operations::dead_letters::{Asked, DeadLetterError, DeadLetters};

use crate::exit::{Failure, NOTHING_MATCHED};
use crate::fleet::{Fleet, operator};
use crate::output::Output;

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
    let error = anyhow::Error::from(error);
    let next = "look at the database, then repeat the command; with a large selection, narrow it: --where";
    Failure::of_database(&error, next).map_or(error, Into::into)
}

/// So many, in words.
fn letters_of(count: u64) -> String {
    if count == 1 { "1 dead letter".into() } else { format!("{count} dead letters") }
}

/// There is nothing that the command could be about.
fn nothing(what: &str) -> ExitCode {
    eprintln!("{what}");
    NOTHING_MATCHED.into()
}
