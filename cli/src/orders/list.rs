//! `orderfleet orders list`: orders by where they stand.

use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use jiff::Timestamp;
use orderfleet_domain::saga::CauseClass;
use orderfleet_domain::{AccountId, Region, StepName};
use orderfleet_operations::orders::{self, Listing, OrderFilter, OrderStatus, Span};

use super::rows::{Narrow, Wide};
use super::time::duration;
use super::{list_failure, listed};
use crate::fleet::FleetArgs;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  orderfleet orders list
  orderfleet orders list --status held --account shop-1 --step accounting --older-than 1h
  orderfleet orders list --status undone --cause attempts_exhausted --younger-than 24h --wide
  orderfleet orders list --account shop-1 --region eu1
  orderfleet orders list --conflict --output jsonl | jq -r .order_id

Exit codes:
  0  listed
  3  listed, but documents that match cannot be read by this build; stderr names them
  4  no order matches
  5  the database refuses the user
  6  the database does not answer";

const CAUSES: [CauseClass; 6] = [
    CauseClass::Refused,
    CauseClass::Cancelled,
    CauseClass::AttemptsExhausted,
    CauseClass::DeadlinePassed,
    CauseClass::Tombstone,
    CauseClass::Discarded,
];

/// List orders of all accounts by where they stand
///
/// Every condition must hold. AGE counts from when a worker took the order from its queue.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// run, comp, held, done or undone
    #[arg(long, value_name = "STATUS")]
    status: Option<OrderStatus>,
    /// Whose they are
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<AccountId>,
    /// The home region of their accounts; on a sharded cluster only its shards are asked, with --account only the account's
    #[arg(long, value_name = "REGION")]
    region: Option<Region>,
    /// The step in hand; of orders that have ended, the one that failed
    #[arg(long, value_name = "STEP")]
    step: Option<StepName>,
    /// Why they turned back: refused, cancelled, attempts_exhausted, deadline_passed, tombstone or discarded
    #[arg(long, value_name = "CLASS", value_parser = cause)]
    cause: Option<CauseClass>,
    /// Only orders older than this
    #[arg(long, value_name = "TIME", value_parser = duration)]
    older_than: Option<Duration>,
    /// Only orders younger than this
    #[arg(long, value_name = "TIME", value_parser = duration)]
    younger_than: Option<Duration>,
    /// What their age counts from
    #[arg(long, value_enum, value_name = "WHAT", default_value = "created")]
    by: By,
    /// Only those under whose key another body was posted
    #[arg(long)]
    conflict: bool,
    /// Only those whose customer asked to cancel
    #[arg(long)]
    cancel_requested: bool,
    /// Only those that get no further run
    #[arg(long = "final")]
    is_final: bool,
    /// From the oldest on, and not from the newest back
    #[arg(long)]
    oldest_first: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// All columns
    #[arg(long)]
    wide: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum By {
    /// When a worker took the order from its queue
    Created,
    /// When the order was last written
    Updated,
}

/// Lists orders.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let filter = args.filter();
    let store = args.fleet.resolve()?.store().await?;
    let listing =
        orders::list(&store, &filter, !args.oldest_first, args.limit).await.map_err(list_failure)?;
    let Listing { orders, unreadable, more } = listing;
    let found = orders.len();
    if args.wide {
        output.print_rows(&orders.into_iter().map(Wide).collect::<Vec<_>>())?;
    } else {
        output.print_rows(&orders.into_iter().map(Narrow).collect::<Vec<_>>())?;
    }
    if more {
        eprintln!("there may be more: --limit {}", args.limit.saturating_mul(10).min(10_000));
    }
    Ok(listed(found, &unreadable, "no order matches"))
}

impl Args {
    fn filter(&self) -> OrderFilter {
        let now = Timestamp::now();
        let ago = |age: Option<Duration>| age.map(|age| now.checked_sub(age).unwrap_or(Timestamp::MIN));
        let span = Span { since: ago(self.younger_than), before: ago(self.older_than) };
        let (created, updated) = match self.by {
            By::Created => (span, Span::default()),
            By::Updated => (Span::default(), span),
        };
        OrderFilter {
            status: self.status,
            account: self.account.clone(),
            region: self.region.clone(),
            step: self.step.clone(),
            cause: self.cause,
            created,
            updated,
            conflict: self.conflict,
            cancel: self.cancel_requested,
            is_final: self.is_final,
        }
    }
}

fn cause(text: &str) -> Result<CauseClass, String> {
    let found = CAUSES.into_iter().find(|class| class.as_str() == text);
    found.ok_or_else(|| format!("one of {}", CAUSES.map(CauseClass::as_str).join(", ")))
}
