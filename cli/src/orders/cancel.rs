//! `orderfleet orders cancel`: what the customer could ask for, asked for by an operator.

use std::process::ExitCode;

use orderfleet_domain::{AccountId, OrderId};
use orderfleet_operations::orders::{CancelPlan, Outlook};
use serde::Serialize;

use super::{failure, publisher};
use crate::exit::Failure;
use crate::fleet::{FleetArgs, operator};
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  orderfleet orders cancel eu1-… --dry-run --reason 'asked by phone'
  orderfleet orders cancel eu1-… --reason 'asked by phone'
  orderfleet orders cancel eu1-… --account shop-1 --reason 'posted twice'

What will come of it is said before. A worker decides when it gets the message: an order that is
being worked is undone if its last step has not been attempted. Everybody is told the same way as
after the customer's own cancel.

Exit codes:
  0  asked for, or the order is UNDONE for good already
  1  it is too late, or the order is another account's
  4  no worker has stored the order, and no --account says whose it will be
  5  the database or the broker refuses the user
  6  the database or the broker does not answer; again does no harm";

/// Cancel an order, as far as that is still possible
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The order
    #[arg(value_name = "ORDER")]
    order_id: OrderId,
    /// Why; recorded in the operator log
    #[arg(long, value_name = "TEXT", value_parser = crate::fleet::reason)]
    reason: String,
    /// Whose order it is; needed where it is not stored yet
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<AccountId>,
    /// Only say what would come of it
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    plan: &'a CancelPlan,
    /// Whether the message was published.
    requested: bool,
}

/// Cancels an order.
///
/// # Errors
/// When it is too late, or the database or the broker does not answer.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let Args { order_id, reason, account, dry_run, fleet } = args;
    let who = operator()?;
    let fleet = fleet.resolve()?;
    let store = fleet.store().await?;
    let plan = CancelPlan::make(&store, &order_id, account.as_ref()).await.map_err(failure)?;
    eprintln!("order {order_id} of {}: {}", plan.account, plan.outlook);
    if plan.outlook == Outlook::TooLate && !dry_run {
        let what = format!("order {order_id} is DONE: too late to cancel");
        return Err(Failure::new(what, format!("orderfleet orders get {order_id}")).into());
    }
    let requested = !dry_run && !plan.outlook.is_pointless();
    if requested {
        let publisher = publisher(&fleet).await?;
        plan.carry_out(&store, &publisher, &who, &reason).await.map_err(failure)?;
    }
    let text = if requested { "cancel requested" } else { "nothing was done" };
    output.print(&Answer { plan: &plan, requested }, text)?;
    if requested {
        eprintln!("next:  orderfleet orders watch {order_id}");
    }
    Ok(ExitCode::SUCCESS)
}
