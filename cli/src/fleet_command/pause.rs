//! `orderfleet fleet pause`: stops something for a while.

use std::process::ExitCode;
use std::time::Duration;

use orderfleet_operations::pause::{Pauses, check_target};
use orderfleet_storage::PauseTarget;

use tokio::time::timeout;

use super::{asked, failed, pause_length, tell_of_replaced, watch};
use crate::fleet::{Fleet, FleetArgs};
use crate::output::Output;

/// Longest look for what is only warned of.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  orderfleet fleet pause queue:new --reason 'database update'      # take no fresh orders
  orderfleet fleet pause queue:new.3 --for 10m --reason 'a look'   # of one partition
  orderfleet fleet pause downstream:accounting --for 2h --reason 'the bank is away'
  orderfleet fleet pause account:shop-1 --reason 'asked by phone'
  orderfleet fleet pause fingerprint:syhfgrmrratw5vn7 --reason 'carrier mends it'

What a target stops:
  queue:NAME         nothing is taken from the queue: new, new.0, retry, replay, compensate,
                     quarantine, dead.NAME; what workers have begun is finished
  downstream:STEP    no call goes to the service of this step, nor to undo
  account:ACCOUNT    no call is made for orders of this account
  fingerprint:ID     an order whose last attempt, at the step in hand, failed like this is not
                     tried again; `orderfleet dlq stats` shows the fingerprints of failures

Workers obey within a second. An order that a pause stops waits at no charge, its step's deadline
too, and looks again after at most 30 seconds. Producers go on accepting orders. The history of an
order that waits, which its account can read, says what is paused and until when. Workers of a build
that knows no pauses obey none: stderr names the queues of consumers that say nothing of themselves.

Exit codes:
  0  paused
  1  too many pauses, or the reason is too long
  2  the target or the time is none
  4  this fleet has no such queue or step
  6  the database does not answer; the same command again does no harm";

/// Pause a queue, a downstream, an account, or orders that fail alike
///
/// Ends by itself after the time of --for, or with `orderfleet fleet resume`. A second pause of the same target takes the place
/// of the first.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// What to pause
    #[arg(value_name = "TARGET")]
    target: PauseTarget,
    /// Why; shown to operators who look, and recorded in the operator log
    #[arg(long, value_name = "TEXT", value_parser = crate::fleet::reason)]
    reason: String,
    /// For how long, at most 7 days
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = pause_length)]
    length: Duration,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Pauses.
///
/// # Errors
/// This fleet has no such queue or step, the database does not answer, or the operator log refuses the record.
pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let Args { target, reason, length, fleet } = args;
    let asked = asked(reason)?;
    let fleet = fleet.resolve()?;
    check_target(&target, &fleet.topology()?, &fleet.policy()?).map_err(failed)?;
    let pauses = Pauses::new(fleet.store().await?);
    let paused = pauses.pause(&asked, "fleet.pause", &target, length).await.map_err(failed)?;
    tell_of_replaced(paused.replaced.as_ref());
    output.print(&paused, &format!("{target} is paused until {:.0}", paused.pause.until))?;
    warn_of_silence(&fleet).await?;
    eprintln!("next:  orderfleet fleet resume {target} --reason TEXT");
    Ok(ExitCode::SUCCESS)
}

async fn warn_of_silence(fleet: &Fleet) -> anyhow::Result<()> {
    let mut watch = watch(fleet)?;
    // Without the broker there is nothing to see, and the pause is made.
    let Ok(status) = timeout(LOOK_WITHIN, watch.look_at_work()).await else { return Ok(()) };
    let silent = status.consumed_in_silence();
    if !silent.is_empty() {
        eprintln!(
            "warning: a consumer of {} says nothing of itself; workers of a build that knows no pauses obey none: \
             orderfleet fleet status",
            silent.join(", ")
        );
    }
    Ok(())
}
