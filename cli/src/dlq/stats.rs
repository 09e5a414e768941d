//! `orderfleet dlq stats`: what fails, how often, since when.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use orderfleet_messaging::Inspector;
use orderfleet_storage::{GROUPS_MAX, LetterGroup};
use tokio::time::timeout;

use super::selection::{Selection, place};
use super::{dead_letters, failed, letters_of, nothing};
use crate::exit::PARTLY;
use crate::fleet::{Fleet, FleetArgs};
use crate::orders::time::age;
use crate::output::{Output, Row};

/// Of an answer in a table.
const ANSWER_CHARS: usize = 40;
/// The statistics wait no longer for what the broker can add to them.
const BROKER_PATIENCE: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "\
Examples:
  orderfleet dlq stats
  orderfleet dlq stats --where 'age<1h'                   # what is failing now
  orderfleet dlq stats --where is:any --output json       # the replayed and discarded ones, too

A fingerprint stands for a step, a kind of failure and an answer without its numbers, ids and
quoted texts; it is the same in every build. HOUR counts those that came in the last hour, BEFORE
those of the hour before, replayed and discarded ones among them: whether it grows. BUILD is the
first one that gave an order up for this, NEWEST and AGE are those of the newest and the oldest
dead letter. What waits in a queue and is not parked yet is told on stderr, if the broker answers.

Exit codes:
  0  counted
  3  counted, but for dead letters that this build cannot read
  4  nothing matches
  5  the database refuses the user
  6  the database does not answer";

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
        &["FINGERPRINT", "QUEUE", "CLASS", "COUNT", "HOUR", "BEFORE", "BUILD", "ANSWER", "NEWEST", "AGE"];

    fn cells(&self) -> Vec<String> {
        let now = Timestamp::now();
        vec![
            self.fingerprint.to_string(),
            place(&self.queue, self.step.as_ref()),
            self.class.clone(),
            self.count.to_string(),
            self.last_hour.to_string(),
            self.hour_before.to_string(),
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
    let fleet = args.fleet.resolve()?;
    let letters = dead_letters(&fleet).await?;
    let (stats, waiting) = tokio::join!(letters.stats(&chosen.filter), waiting(&fleet));
    let stats = stats.map_err(failed)?;
    output.print_rows(&stats.groups)?;
    if stats.groups.len() >= GROUPS_MAX as usize {
        eprintln!("only the {GROUPS_MAX} largest groups are shown; narrow them with --where");
    }
    for (queue, count) in waiting.iter().flatten() {
        eprintln!("{} in {queue}, not parked yet: orderfleet doctor", letters_of((*count).into()));
    }
    Ok(match (stats.unreadable, stats.groups.len()) {
        (0, 0) if waiting.is_none() => nothing(
            "no dead letter that is parked matches; the broker does not tell what waits in its queues",
        ),
        (0, 0) => nothing("no dead letter that is parked matches"),
        (0, _) => ExitCode::SUCCESS,
        (unreadable, _) => {
            eprintln!("{} more cannot be read by this build", letters_of(unreadable));
            PARTLY.into()
        }
    })
}

/// The queues of dead letters that something waits in, with how many; `None` where the broker does not tell in time.
async fn waiting(fleet: &Fleet) -> Option<Vec<(String, u32)>> {
    let topology = fleet.topology().ok()?;
    let start = format!("{}orders.dead.", fleet.broker.prefix);
    let queues: Vec<_> =
        topology.queue_names().filter(|name| name.starts_with(&start)).map(str::to_owned).collect();
    let asked = async {
        let inspector = Inspector::connect(&fleet.broker, topology, "orderfleet dlq stats").await.ok()?;
        let mut waiting = Vec::new();
        for queue in queues {
            let ready = inspector.counts(&queue).await.ok()?.ready;
            waiting.extend((ready > 0).then_some((queue, ready)));
        }
        inspector.close().await;
        Some(waiting)
    };
    timeout(BROKER_PATIENCE, asked).await.ok().flatten()
}

/// A foreign text in a table: its beginning.
pub(super) fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(ANSWER_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    if short.is_empty() { "-".into() } else { short }
}
