//! `orderfleet dlq replay`: brings dead letters back, a few at first and more as they end well.

mod carrying;
mod shown;

use std::process::ExitCode;
use std::time::Duration;

use orderfleet_operations::forecast;
use orderfleet_operations::replay::{self, Budget, Plan, PlanError};
use orderfleet_storage::{Replay, Store};

use super::selection::RequiredSelection;
use super::{asked, check_expected, failed, letters_of, nothing, progress_bar};
use crate::exit::{Failure, NOTHING_MATCHED};
use crate::fleet::{Fleet, FleetArgs};
use crate::output::{Output, visible};

const EXAMPLES: &str = "\
Examples:
  orderfleet dlq replay --where 'step=fulfilment'                   # what would happen?
  orderfleet dlq replay --where 'step=fulfilment' --forecast        # and would it work by now?
  orderfleet dlq replay --where 'step=fulfilment' --yes --expect 198 --reason 'carrier is back'
  orderfleet dlq replay --resume 3f2a9c01                           # after Ctrl-C, or a stop
  orderfleet dlq replay --results 3f2a9c01 --output jsonl           # what became of each
  orderfleet dlq list --where 'age>1h' --ids-only | orderfleet dlq replay --ids -

Without --yes nothing is done: what would become of the dead letters is shown. An order that is
UNDONE starts a new run from its first step; one that is HELD goes on where it stands. Messages go
through the lane of replays, which live orders never wait for, in batches of 1, 2, 5, 10, 20, … up
to --batch-max, each sent only when the orders of the one before have ended. Two operators can
replay the same dead letters at once: each of them comes back once. An order that stands otherwise
than planned when its turn comes is left alone.

Exit codes:
    0  done, or shown
    1  some orders failed again
    3  for some nothing was published: their orders had moved on, or another operator had them;
       or orders did not end in time
    4  nothing matches
    5  the database or the broker refuses the user
    6  the database or the broker does not answer; --resume goes on with what was begun
    7  stopped: more than --stop-at percent of the orders failed again
    8  with --expect: there are others by now; nothing was done
  130  interrupted; --resume goes on";

/// Bring dead letters back; shows what that would be, and with --yes does it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    selection: RequiredSelection,
    /// Only so many, the oldest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Ask the services, without changing anything, how each order would fare
    #[arg(long, conflicts_with = "yes")]
    forecast: bool,
    /// Do it
    #[arg(long, requires = "reason")]
    yes: bool,
    /// Do it only if they are so many, or only if the plan has this id, as shown before
    #[arg(long, value_name = "N|PLAN", requires = "yes")]
    expect: Option<String>,
    /// Why, for the operator log; with --resume, if it is not what was given at the beginning
    #[arg(long, value_name = "TEXT", value_parser = crate::fleet::reason)]
    reason: Option<String>,
    /// Messages per second
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Largest batch
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch_max: u32,
    /// Stop when more than this share of the orders has failed again
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=100))]
    stop_at: u32,
    /// How long to wait for the orders of one batch to end
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = crate::orders::time::duration)]
    batch_timeout: Duration,
    /// Go on with a replay that was interrupted or has stopped
    #[arg(long, value_name = "REPLAY", conflicts_with_all = ["filter", "ids", "all", "limit", "yes", "forecast", "results"])]
    resume: Option<String>,
    /// Show what became of each dead letter of a replay
    #[arg(long, value_name = "REPLAY", conflicts_with_all = ["filter", "ids", "all", "limit", "yes", "forecast"])]
    results: Option<String>,
    #[command(flatten)]
    fleet: FleetArgs,
}

impl Args {
    fn budget(&self) -> Budget {
        Budget {
            rate_per_s: self.rate,
            stop_at_percent: self.stop_at,
            batch_max: self.batch_max,
            batch_timeout: self.batch_timeout,
        }
    }
}

/// Prints the plan; with `--yes`, carries it out and prints what came of it.
///
/// # Errors
/// Nothing was chosen, what was chosen is not what was expected, or database or broker do not answer.
pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let budget = args.budget();
    let fleet = args.fleet.resolve()?;
    let store = fleet.store().await?;
    if let Some(id) = &args.results {
        let replay = known(&store, id).await?;
        shown::results(&store, &replay, output).await?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(id) = &args.resume {
        let replay = known(&store, id).await?;
        let asked = asked(args.reason.unwrap_or_else(|| replay.why.clone()))?;
        let publisher = carrying::publisher(&fleet).await?;
        let begun = carrying::resume(&store, replay, asked).await?;
        return carrying::carry_out(&fleet, store, publisher, begun, budget, output).await;
    }
    let chosen = args.selection.resolve()?;
    let limit = args.limit.map(|limit| limit as usize);
    let plan = replay::plan(&store, &chosen.filter, &chosen.text, limit).await.map_err(plan_failed)?;
    for id in &plan.unreadable {
        eprintln!("{} cannot be read by this build, and stays as it is", visible(id));
    }
    check_expected(args.expect.as_deref(), &plan.id, plan.items.len() as u64)?;
    let database = fleet.database.name.as_str();
    if plan.items.is_empty() {
        if args.forecast {
            output.print_rows::<forecast::ForecastGroup>(&[])?;
        } else {
            shown::plan(output, database, &plan)?;
        }
        return Ok(nothing("no dead letter matches"));
    }
    if args.forecast {
        return foresee(&fleet, &store, &plan, output).await;
    }
    let (true, Some(reason)) = (args.yes, args.reason) else {
        shown::plan(output, database, &plan)?;
        let (published, all) = (plan.published(), letters_of(plan.items.len() as u64));
        eprintln!("{published} of {all} of the database {database} would come back; nothing is done");
        eprintln!("next:  the same command with --yes --expect {} --reason TEXT", plan.id);
        return Ok(ExitCode::SUCCESS);
    };
    let asked = asked(reason)?;
    let publisher = carrying::publisher(&fleet).await?;
    let begun = carrying::begin(&store, plan, asked).await?;
    carrying::carry_out(&fleet, store, publisher, begun, budget, output).await
}

/// Prints how the orders of a plan would fare.
async fn foresee(fleet: &Fleet, store: &Store, plan: &Plan, output: Output) -> anyhow::Result<ExitCode> {
    let bar = progress_bar(plan.items.len() as u64);
    let policy = fleet.policy()?;
    let forecasts =
        forecast::forecast(store, &policy, &plan.items, |seen| bar.set_position(seen as u64)).await;
    bar.finish_and_clear();
    output.print_rows(&forecast::summary(&plan.items, &forecasts?))?;
    eprintln!("nothing is changed\nnext:  the same command with --yes --expect {} --reason TEXT", plan.id);
    Ok(ExitCode::SUCCESS)
}

async fn known(store: &Store, id: &str) -> anyhow::Result<Replay> {
    let found = store.replay(id).await.map_err(|error| failed(error.into()))?;
    found.ok_or_else(|| {
        let next = "the id is printed when a replay begins, and recorded: orderfleet log list".into();
        Failure { what: format!("no replay {id}"), next, code: NOTHING_MATCHED }.into()
    })
}

fn plan_failed(error: PlanError) -> anyhow::Error {
    match error {
        PlanError::Store(error) => failed(error.into()),
        PlanError::TooMany => {
            Failure::new(error.to_string(), "narrow the selection with --where, or --limit").into()
        }
    }
}
