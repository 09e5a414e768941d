//! `orderfleet orders resolve`: a person's decision about an order that is held.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use orderfleet_domain::{Decision, OrderId};
use orderfleet_operations::orders::{HeldOrder, ListedOrder};
use orderfleet_storage::Store;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::time::{age, duration};
use super::{failure, publisher};
use crate::exit::{Failure, TIMED_OUT};
use crate::fleet::{FleetArgs, operator};
use crate::output::{Output, visible};

const LOOK_EVERY: Duration = Duration::from_millis(250);

const EXAMPLES: &str = "\
Examples:
  orderfleet orders list --status held
  orderfleet orders resolve eu1-… --decision release --reason 'the warehouse is back' --wait
  orderfleet orders resolve eu1-… --decision settle --reason 'parcel fetched by hand'
  orderfleet orders resolve eu1-… --decision settle --reason 'parcel fetched by hand' --yes

Decisions:
  release  the step is tried again; where it fails again for good, the order is held again
  settle   the step counts as undone by hand, and the order goes on; needs --yes
  discard  the order is given up and ends UNDONE for good; needs --yes

Settle and discard say what would happen, and do it with --yes. The decision names the hold that
was shown: a hold that came later is not touched by it.

Exit codes:
  0  asked for, and with --wait applied; without a --yes that is needed: shown, nothing done
  4  the order is not stored, or not held
  5  the database or the broker refuses the user
  6  the database or the broker does not answer; again does no harm
  9  with --wait: asked for, and not applied within --timeout";

/// Decide about an order that waits for a person
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The order
    #[arg(value_name = "ORDER")]
    order_id: OrderId,
    /// release, settle or discard
    #[arg(long, value_name = "DECISION", value_parser = decision)]
    decision: Decision,
    /// Why; recorded in the operator log
    #[arg(long, value_name = "TEXT", value_parser = crate::fleet::reason)]
    reason: String,
    /// Settle or discard, and do not only say what would happen
    #[arg(long)]
    yes: bool,
    /// Wait until a worker has applied the decision
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = duration, requires = "wait")]
    timeout: Duration,
    #[command(flatten)]
    fleet: FleetArgs,
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    held: &'a HeldOrder,
    decision: Decision,
    consequence: String,
    /// Whether the message was published.
    requested: bool,
    /// Where the order stands once the decision was applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<ListedOrder>,
}

/// Resolves a hold.
///
/// # Errors
/// When the order is not held, or the database or the broker does not answer.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let Args { order_id, decision, reason, yes, wait, timeout, fleet } = args;
    let who = operator()?;
    let fleet = fleet.resolve()?;
    let store = fleet.store().await?;
    let held = HeldOrder::read(&store, &order_id).await.map_err(failure)?;
    let consequence = held.consequence(decision);
    show(&held, &consequence);
    let requested = yes || decision == Decision::Release;
    let mut answer = Answer { held: &held, decision, consequence, requested, applied: None };
    if !requested {
        output.print(&answer, "nothing was done")?;
        eprintln!("next:  the same command with --yes");
        return Ok(ExitCode::SUCCESS);
    }
    let publisher = publisher(&fleet).await?;
    held.resolve(decision, &store, &publisher, &who, &reason).await.map_err(failure)?;
    if wait {
        let Some(order) = until_applied(&held, &store, timeout).await? else {
            output.print(&answer, "requested, not applied yet")?;
            let what = format!("no worker applied the decision within {} s", timeout.as_secs());
            let next = format!("see that workers run, then: orderfleet orders watch {order_id}");
            return Err(Failure { what, next, code: TIMED_OUT }.into());
        };
        let text = format!("applied: {} is {}", order.order_id, order.status.as_str());
        answer.applied = Some(order);
        output.print(&answer, &text)?;
    } else {
        output.print(&answer, "requested")?;
    }
    eprintln!("next:  orderfleet orders watch {order_id}");
    Ok(ExitCode::SUCCESS)
}

fn show(held: &HeldOrder, consequence: &str) {
    let HeldOrder { order_id, account, hold, .. } = held;
    let (held_for, reason) = (age(hold.at, Timestamp::now()), visible(&hold.reason));
    eprintln!("order {order_id} of {account} is held at {}, for {held_for}: {reason}", hold.step);
    eprintln!("decided: {consequence}");
}

/// `None` where the time is up.
async fn until_applied(
    held: &HeldOrder,
    store: &Store,
    timeout: Duration,
) -> anyhow::Result<Option<ListedOrder>> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(order) = held.applied(store).await.map_err(failure)? {
            return Ok(Some(order));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        sleep(LOOK_EVERY).await;
    }
}

fn decision(text: &str) -> Result<Decision, String> {
    match text {
        "release" => Ok(Decision::Release),
        "settle" => Ok(Decision::Settle),
        "discard" => Ok(Decision::Discard),
        _ => Err("one of release, settle, discard".into()),
    }
}
