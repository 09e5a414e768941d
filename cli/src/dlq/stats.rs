//! `orderfleet dlq stats`: what fails, how often, since when.

use std::process::ExitCode;

use jiff::Timestamp;
use orderfleet_storage::{GROUPS_MAX, LetterGroup};

use super::selection::{Selection, place};
use super::{dead_letters, failed, nothing};
use crate::fleet::FleetArgs;
use crate::orders::time::age;
use crate::output::{Output, Row};

/// Of an answer in a table.
const ANSWER_CHARS: usize = 40;

const EXAMPLES: &str = "\
Examples:
  orderfleet dlq stats
  orderfleet dlq stats --where 'age<1h'                   # what is failing now
  orderfleet dlq stats --where is:any --output json       # the replayed and discarded ones, too

A fingerprint stands for a step, a kind of failure and an answer without its numbers, ids and
quoted texts; it is the same in every build. HOUR counts those of the last hour, BUILD is the
first one seen, NEWEST and AGE are those of the newest and the oldest dead letter.

Exit codes: 0, 4 where nothing matches,
5 where the database refuses the user, 6 where it does not answer";

/// Count dead letters by queue and failure fingerprint
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    fleet: FleetArgs,
}

impl Row for LetterGroup {
    const HEADER: &'static [&'static str] =
        &["FINGERPRINT", "QUEUE", "CLASS", "COUNT", "HOUR", "BUILD", "ANSWER", "NEWEST", "AGE"];

    fn cells(&self) -> Vec<String> {
        let now = Timestamp::now();
        vec![
            self.fingerprint.to_string(),
            place(&self.queue, self.step.as_ref()),
            self.class.clone(),
            self.count.to_string(),
            self.last_hour.to_string(),
            self.first_build.clone().unwrap_or_else(|| "-".into()),
            shortened(&self.answer),
            age(self.newest, now),
            age(self.oldest, now),
        ]
    }
}

/// Prints one row per queue and failure fingerprint, the largest group first.
///
/// # Errors
/// The database does not answer.
pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let chosen = args.selection.resolve()?;
    let letters = dead_letters(&args.fleet.resolve()?).await?;
    let groups = letters.stats(&chosen.filter).await.map_err(failed)?;
    output.print_rows(&groups)?;
    if groups.len() >= GROUPS_MAX as usize {
        eprintln!("only the {GROUPS_MAX} largest groups are shown; narrow them with --where");
    }
    Ok(if groups.is_empty() { nothing("no dead letter matches") } else { ExitCode::SUCCESS })
}

/// A foreign text in a table: its beginning.
pub(super) fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(ANSWER_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    if short.is_empty() { "-".into() } else { short }
}
