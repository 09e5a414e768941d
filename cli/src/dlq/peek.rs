//! `orderfleet dlq peek`: one queue of dead letters, what of it is parked and what still waits in the broker.

use std::process::ExitCode;

use orderfleet_domain::saga::DeadLetterQueue;
use orderfleet_messaging::{Inspector, Topology};
use orderfleet_storage::{Condition, Letter, LetterFilter, LetterPage, queue_of_word, queue_word};
use serde::Serialize;

use super::{dead_letters, failed, listed, nothing};
use crate::exit::{DEPENDENCY_DOWN, Failure};
use crate::fleet::{Fleet, FleetArgs, unusable_broker};
use crate::output::{Output, Row as _, table};

const EXAMPLES: &str = "\
Examples:
  orderfleet dlq peek poison
  orderfleet dlq peek fulfilment --limit 5 --output json

Nothing is consumed: messages that still wait in the broker are counted, not read, and stay in
their order, uncharged. The dead letters shown are those that workers have parked in the database.

Exit codes: 0, 3 where this build cannot read some, 4 where it is empty in both,
5 where they refuse the user, 6 where broker or database do not answer";

/// Look into a queue of dead letters without taking anything out
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A step, or poison, held, conflict
    #[arg(value_name = "QUEUE")]
    queue: String,
    /// Show at most so many, the oldest
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    #[command(flatten)]
    fleet: FleetArgs,
}

#[derive(Serialize)]
struct Peeked<'a> {
    queue: &'a str,
    /// Messages in the broker that no worker has parked yet.
    waiting: u32,
    /// Workers that take from it.
    consumers: u32,
    /// Open dead letters in the database.
    parked: u64,
    letters: &'a [Letter],
}

/// Prints the oldest parked letters; on stderr how many wait in the broker.
///
/// # Errors
/// There is no such queue, or broker or database do not answer.
pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let fleet = args.fleet.resolve()?;
    let topology = fleet.topology()?;
    let queue = known_queue(&args.queue, &topology)?;
    let name = topology.dead_letter_queue(&queue);
    let counts = counts(&fleet, topology, &name).await?;
    let letters = dead_letters(&fleet).await?;
    let filter = LetterFilter::With(Condition::Queue(queue.clone()));
    let parked = letters.count(&filter).await.map_err(failed)?;
    let LetterPage { letters: oldest, unreadable, .. } =
        letters.page(&filter, None, args.limit).await.map_err(failed)?;
    let (waiting, consumers) = (counts.ready, counts.consumers);
    let word = queue_word(&queue);
    let rows = table(Letter::HEADER, oldest.iter().map(Letter::cells));
    output.print(&Peeked { queue: word, waiting, consumers, parked, letters: &oldest }, &rows)?;
    if waiting == 0 && parked == 0 {
        return Ok(nothing(&format!("{name} is empty, in the broker and in the database")));
    }
    eprintln!(
        "{name}: {parked} parked, the oldest {} shown; {waiting} more wait in the broker, counted and not read{}",
        oldest.len(),
        if waiting > 0 && consumers == 0 { ": no worker of the role `park` takes them" } else { "" }
    );
    Ok(listed(oldest.len() + waiting as usize, &unreadable))
}

fn known_queue(word: &str, topology: &Topology) -> anyhow::Result<DeadLetterQueue> {
    let names: Vec<_> = topology.queue_names().collect();
    let is_known = |queue: &DeadLetterQueue| names.contains(&topology.dead_letter_queue(queue).as_str());
    queue_of_word(word).filter(is_known).ok_or_else(|| {
        let known = names.iter().filter_map(|name| name.split_once("orders.dead."));
        let known: Vec<_> = known.filter_map(|(_, word)| queue_of_word(word)).collect();
        let words: Vec<_> = known.iter().map(queue_word).collect();
        let next = format!("name one of {}", words.join(", "));
        Failure::usage(format!("there is no queue of dead letters {word:?}"), next).into()
    })
}

async fn counts(
    fleet: &Fleet,
    topology: Topology,
    name: &str,
) -> anyhow::Result<orderfleet_messaging::Counts> {
    let connected = Inspector::connect(&fleet.broker, topology, "orderfleet dlq peek").await;
    let inspector = connected.map_err(|error| unusable_broker(&fleet.broker, &error))?;
    let counts = inspector.counts(name).await;
    inspector.close().await;
    counts.map_err(|error| {
        let next = "look at the broker; what is parked: orderfleet dlq list --where queue=NAME";
        let what = format!("what waits in {name} cannot be counted: {:#}", anyhow::Error::from(error));
        Failure { what, next: next.into(), code: DEPENDENCY_DOWN }.into()
    })
}
