//! `orderfleet orders watch`: changes of orders as they come, until they have ended.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use orderfleet_domain::{IdError, OrderId};
use orderfleet_operations::orders::{ListedOrder, WATCHED_MAX, Watch, Watched};
use orderfleet_storage::Store;
use tokio::time::{Instant, sleep, sleep_until};

use super::list_failure;
use super::rows::nothing;
use super::time::shown;
use crate::exit::{Failure, INTERRUPTED, NOTHING_MATCHED, PARTLY, TIMED_OUT};
use crate::fleet::FleetArgs;
use crate::output::{Output, visible};

const LOOK_EVERY: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  orderfleet orders watch eu1-vqhnbfvs-dw3nwqzm4jeqqutrep4bxjfyvskigkny
  orderfleet orders watch eu1-… eu1-… --timeout 10m
  orderfleet orders watch
  orderfleet orders list --conflict --output jsonl | jq -r .order_id | orderfleet orders watch -

With --output json or jsonl every change is a JSON value on a line of its own.

Exit codes:
    0  every order has ended, DONE or UNDONE
    3  what has not ended is held, and waits for a person, or cannot be read by this build
    4  none of the orders was stored within --timeout
    5  the database refuses the user
    6  the database does not answer at the start; later on it is waited for
    9  the time of --timeout is up, and some have not ended
  130  interrupted";

/// Print changes of orders as they come, until every one has ended
///
/// An order that is not stored yet is waited for. Without an id, the orders that are under way now are watched, the oldest
/// 1,000.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The orders, at most 1,000; `-` reads their ids from standard input
    #[arg(value_name = "ORDER")]
    orders: Vec<String>,
    /// How long to watch; without it until Ctrl-C
    #[arg(long, value_name = "TIME", value_parser = super::time::duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Watches orders.
///
/// # Errors
/// When an id is none, or the database does not answer at the start.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let Args { orders, timeout, fleet } = args;
    let named = ids(&orders)?;
    let store = fleet.resolve()?.store().await?;
    let ids = if orders.is_empty() { under_way(&store).await? } else { named };
    if ids.is_empty() {
        eprintln!("{}", if orders.is_empty() { "no order is under way" } else { "no order was named" });
        return Ok(NOTHING_MATCHED.into());
    }
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut watch = Watch::new(store, ids);
    tokio::select! {
        watched = follow(&mut watch, deadline, output) => Ok(exit_code(watched?)),
        _ = tokio::signal::ctrl_c() => Ok(INTERRUPTED.into()),
    }
}

fn ids(named: &[String]) -> anyhow::Result<Vec<OrderId>> {
    let input = if named == ["-"] { std::io::read_to_string(std::io::stdin())? } else { named.join("\n") };
    let parse = |id: &str| -> anyhow::Result<OrderId> {
        id.parse().map_err(|error: IdError| {
            let what = format!("{:?} is no order id: {error}", visible(id));
            Failure::usage(what, "orderfleet orders list").into()
        })
    };
    let ids: Vec<OrderId> = input.split_whitespace().map(parse).collect::<anyhow::Result<_>>()?;
    if ids.len() > WATCHED_MAX {
        let what = format!("{} orders are too many to watch", ids.len());
        return Err(Failure::new(what, format!("watch at most {WATCHED_MAX} at a time")).into());
    }
    Ok(ids)
}

async fn under_way(store: &Store) -> anyhow::Result<Vec<OrderId>> {
    let most = u32::try_from(WATCHED_MAX).unwrap_or(u32::MAX);
    let found = store.stuck_orders(Timestamp::now(), most).await.map_err(list_failure)?;
    for id in &found.unreadable {
        eprintln!("{} cannot be read by this build, and is not watched", visible(id));
    }
    Ok(found.orders.into_iter().map(|order| order.order_id).collect())
}

/// Ends when nothing that is watched can change any more without a person, or at the deadline.
async fn follow(watch: &mut Watch, deadline: Option<Instant>, output: Output) -> anyhow::Result<Watched> {
    let mut silent = false;
    loop {
        match watch.look().await {
            Ok(seen) => {
                seen.changed.iter().try_for_each(|order| print(order, output))?;
                for id in &seen.unreadable {
                    eprintln!("{id} cannot be read by this build, and is not watched");
                }
                silent = false;
            }
            Err(error) if error.is_refusal() => return Err(list_failure(error)),
            Err(error) if !silent => {
                eprintln!("the database does not answer, and is waited for: {error}");
                silent = true;
            }
            Err(_) => {}
        }
        let watched = watch.count();
        let is_over = watched.open == 0 && watched.absent == 0 && !silent;
        if is_over || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(watched);
        }
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
        }
    }
}

fn print(order: &ListedOrder, output: Output) -> anyhow::Result<()> {
    let line = match output {
        Output::Table => line(order),
        Output::Json | Output::Jsonl => serde_json::to_string(order)?,
    };
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}

/// The columns are as wide as an id, a status and most steps are, so that they stand below each other.
fn line(order: &ListedOrder) -> String {
    let step = order.step.as_ref().map_or_else(nothing, ToString::to_string);
    let (id, status, at) = (&order.order_id, order.status.as_str(), shown(order.updated_at));
    let line = format!("{id}  {status:<6}  {step:<12}  run {}  {at}  {}", order.generation, detail(order));
    visible(line.trim_end())
}

fn detail(order: &ListedOrder) -> String {
    let mut told = Vec::new();
    told.extend(order.hold.as_ref().map(|hold| format!("held at {}: {}", hold.step, hold.reason)));
    told.extend(order.cause.as_ref().map(|cause| format!("{} at {}", cause.class.as_str(), cause.step)));
    told.extend((order.attempts > 0).then(|| format!("{} failed attempts", order.attempts)));
    told.extend((order.waits > 0).then(|| "not sent, waits".to_owned()));
    told.extend(order.cancel_requested.then(|| "cancel requested".to_owned()));
    told.join("; ")
}

fn exit_code(watched: Watched) -> ExitCode {
    let Watched { ended, held, open, absent, unreadable } = watched;
    if std::io::stderr().is_terminal() || held + open + absent + unreadable > 0 {
        eprintln!("{ended} ended, {held} held, {open} under way, {absent} not stored");
    }
    match watched {
        Watched { held: 0, open: 0, absent: 0, unreadable: 0, .. } => ExitCode::SUCCESS,
        Watched { open: 0, absent: 0, .. } => {
            if held > 0 {
                eprintln!("next:  orderfleet orders list --status held");
            }
            PARTLY.into()
        }
        Watched { ended: 0, held: 0, open: 0, unreadable: 0, .. } => NOTHING_MATCHED.into(),
        _ => TIMED_OUT.into(),
    }
}
