//! `orderfleet orders`: what has become of orders, and what a person can ask for about one.

mod cancel;
mod get;
mod list;
mod resolve;
mod rows;
mod stuck;
pub(crate) mod time;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use orderfleet_domain::OrderId;
use orderfleet_messaging::Publisher;
use orderfleet_operations::orders::OrdersError;
use orderfleet_storage::StoreError;

use crate::exit::{DEPENDENCY_DOWN, FAILED, Failure, NOTHING_MATCHED, PARTLY};
use crate::fleet::Fleet;
use crate::output::{Output, visible};

/// A broker that is away is waited for without end by whoever connects to it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

const EXAMPLES: &str = "\
Examples:
  orderfleet orders get eu1-…
  orderfleet orders list --status held
  orderfleet orders stuck --older-than 5m
  orderfleet orders watch eu1-… --timeout 10m
  orderfleet orders cancel eu1-… --reason 'asked by phone'
  orderfleet orders resolve eu1-… --decision release --reason 'the warehouse is back'";

/// Look into orders; cancel one, or decide about one that is held
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Get(get::Args),
    List(list::Args),
    Stuck(stuck::Args),
    Watch(watch::Args),
    Cancel(cancel::Args),
    Resolve(resolve::Args),
}

/// Runs the command.
///
/// # Errors
/// When the fleet's database or broker cannot be used, or what was asked for cannot be.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Get(args) => get::run(args, output).await,
        Command::List(args) => list::run(args, output).await,
        Command::Stuck(args) => stuck::run(args, output).await,
        Command::Watch(args) => watch::run(args, output).await,
        Command::Cancel(args) => cancel::run(args, output).await,
        Command::Resolve(args) => resolve::run(args, output).await,
    }
}

/// Connects to the broker, and does not wait for it without end.
async fn publisher(fleet: &Fleet) -> anyhow::Result<Publisher> {
    tokio::time::timeout(CONNECT_TIMEOUT, fleet.publisher()).await.unwrap_or_else(|_| {
        let what = format!("the broker did not answer within {} s", CONNECT_TIMEOUT.as_secs());
        Err(Failure { what, next: BROKER.into(), code: DEPENDENCY_DOWN }.into())
    })
}

const BROKER: &str =
    "bring the broker back, or name another one: --config FILE; the same command again does no harm";
const DATABASE: &str =
    "bring the database back, or name another one: --config FILE; then the same command again";
const END_NOT_RECORDED: &str = "orderfleet log verify: it lists the act as one without an end";

/// An error with its next step.
fn failure(error: OrdersError) -> anyhow::Error {
    let (next, code) = next_step(&error);
    // The same command again would do it twice.
    let is_done = matches!(error, OrdersError::EndNotRecorded(_));
    let error = anyhow::Error::new(error);
    let of_database = Failure::of_database(&error, DATABASE).filter(|_| !is_done);
    of_database.unwrap_or_else(|| Failure { what: format!("{error:#}"), next, code }).into()
}

/// Where it is not the database that failed.
fn next_step(error: &OrdersError) -> (String, u8) {
    match error {
        OrdersError::Store(_) => {
            ("use the CLI of the newest build that works orders; what changed the document?".into(), FAILED)
        }
        OrdersError::NotStored(id) => (not_stored(id), NOTHING_MATCHED),
        OrdersError::NotOfAccount { order_id, .. } => (format!("orderfleet orders get {order_id}"), FAILED),
        OrdersError::NotHeld { order_id, .. } => {
            (format!("orderfleet orders get {order_id}"), NOTHING_MATCHED)
        }
        OrdersError::NotRecorded(_) => ("--reason TEXT: say why, in at most 1,000 bytes".into(), FAILED),
        OrdersError::NotConfirmed(_) => (BROKER.into(), DEPENDENCY_DOWN),
        OrdersError::EndNotRecorded(_) => (END_NOT_RECORDED.into(), FAILED),
    }
}

/// As [`failure`], for lists.
fn list_failure(error: StoreError) -> anyhow::Error {
    let next = "bring the database back; or, where much is stored and little matches, narrow the list: --status, --account, \
                --younger-than";
    let error = anyhow::Error::new(error);
    Failure::of_database(&error, next).map_or(error, Into::into)
}

/// Names documents that match and that this build cannot read, and says how a list went.
fn listed(found: usize, unreadable: &[String], none: &str) -> ExitCode {
    for id in unreadable {
        eprintln!("{} cannot be read by this build", visible(id));
    }
    match (found, unreadable.len()) {
        (0, 0) => {
            eprintln!("{none}");
            NOTHING_MATCHED.into()
        }
        (_, 0) => ExitCode::SUCCESS,
        _ => PARTLY.into(),
    }
}

fn not_stored(order_id: &OrderId) -> String {
    format!(
        "an accepted order is stored once a worker takes it from its queue: orderfleet orders watch {order_id}"
    )
}
