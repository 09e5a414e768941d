//! `orderfleet fleet`: the whole fleet at one look; and pausing, scaling and draining it.

mod drain;
mod pause;
mod pauses;
pub(crate) mod progress;
mod resume;
mod scale;
mod signal;
mod status;
mod view;

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use orderfleet_operations::dead_letters::Asked;
use orderfleet_operations::fleet::Watch;
use orderfleet_operations::log::LogError;
use orderfleet_operations::pause::{PAUSE_MAX, PauseError};
use orderfleet_storage::{Pause, StoreError};

use crate::exit::{DEPENDENCY_DOWN, FAILED, Failure, NOTHING_MATCHED};
use crate::fleet::{Fleet, operator};
use crate::orders::time::{duration, length};
use crate::output::{Output, visible};

/// Shown in the lists of the broker and the database.
const APP_NAME: &str = "orderfleet fleet";

const EXAMPLES: &str = "\
Examples:
  orderfleet fleet status
  orderfleet fleet status --once --output json | jq '.queues[] | select(.ready > 0)'
  orderfleet fleet signal
  orderfleet fleet pause downstream:accounting --for 30m --reason 'the bank is away'
  orderfleet fleet pauses
  orderfleet fleet resume downstream:accounting --reason 'the bank is back'
  orderfleet fleet scale 4 --reason 'sale begins'
  orderfleet fleet drain --reason 'broker update'";

/// Look at the fleet as a whole; pause, resume, scale and drain it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Status(status::Args),
    Pause(pause::Args),
    Resume(resume::Args),
    Pauses(pauses::Args),
    Signal(signal::Args),
    Scale(scale::Args),
    Drain(drain::Args),
}

/// Runs the command.
///
/// # Errors
/// As each of them says.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Status(args) => status::run(args, output).await,
        Command::Pause(args) => pause::run(args, output).await,
        Command::Resume(args) => resume::run(args, output).await,
        Command::Pauses(args) => pauses::run(args, output).await,
        Command::Signal(args) => signal::run(args, output).await,
        Command::Scale(args) => scale::run(args, output).await,
        Command::Drain(args) => drain::run(args, output).await,
    }
}

/// A place to look at the fleet from.
pub(crate) fn watch(fleet: &Fleet) -> anyhow::Result<Watch> {
    let (topology, policy) = (fleet.topology()?, fleet.policy()?);
    Ok(Watch::new(fleet.broker.clone(), fleet.database.clone(), topology, policy, APP_NAME))
}

/// The person at the keyboard, with a reason.
fn asked(reason: String) -> anyhow::Result<Asked> {
    Ok(Asked { who: operator()?, why: reason })
}

/// Reads how long a pause is to last.
fn pause_length(text: &str) -> Result<Duration, String> {
    let length = duration(text)?;
    if (Duration::from_secs(1)..=PAUSE_MAX).contains(&length) {
        Ok(length)
    } else {
        Err("a pause lasts for 1s to 168h (7 days)".to_owned())
    }
}

/// How long a pause goes on: `29m`.
fn left_of(pause: &Pause) -> String {
    length(pause.until.duration_since(Timestamp::now()))
}

/// Says whose pause is not in force any more.
fn tell_of_replaced(before: Option<&Pause>) {
    if let Some(before) = before {
        let (left, reason) = (left_of(before), visible(&before.reason));
        eprintln!("in place of {}'s pause, which had {left} left: {reason}", before.owner);
    }
}

/// A failure with its next step.
fn failed(error: PauseError) -> anyhow::Error {
    let (next, code) = match &error {
        PauseError::Store(
            StoreError::Call { .. } | StoreError::Timeout { .. } | StoreError::Unreachable { .. },
        )
        | PauseError::Log(LogError::Append(_) | LogError::Read(_)) => {
            let next = "bring the database back, then the same command again: it does no harm";
            (next.to_owned(), DEPENDENCY_DOWN)
        }
        PauseError::NotHere { known, .. } => (format!("one of {}", known.join(", ")), NOTHING_MATCHED),
        PauseError::TooMany => ("orderfleet fleet pauses; resume some".to_owned(), FAILED),
        PauseError::BadLength => ("--for 30m".to_owned(), FAILED),
        PauseError::LongReason => ("say it in fewer words".to_owned(), FAILED),
        PauseError::Log(LogError::BadReason) => ("--reason TEXT: say why".to_owned(), FAILED),
        PauseError::Store(_) | PauseError::Log(_) => ("orderfleet doctor".to_owned(), FAILED),
    };
    Failure { what: format!("{:#}", anyhow::Error::new(error)), next, code }.into()
}
