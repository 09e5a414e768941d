//! `orderfleet shard`: where orders are kept on a sharded MongoDB cluster.

mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use orderfleet_operations::log::OperatorLog;
use orderfleet_operations::shards::{Home, Look, ShardsError, Step, init, look};
use orderfleet_operations::topology::Approval;
use orderfleet_runtime::keys::Keys;
use orderfleet_storage::Store;

use crate::exit::{self, Failure, PLAN_CHANGED};
use crate::fleet::{FleetArgs, operator};
use crate::fleet_command::progress::Progress;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  orderfleet shard status
  orderfleet shard plan --keys keys.toml
  orderfleet shard init --keys keys.toml --yes --expect 3f9a0c1b22d4 --reason 'first start'";

const STATUS_EXAMPLES: &str = "\
Examples:
  orderfleet shard status
  orderfleet shard status --output json | jq .differences

Exit codes:
  0  printed: nothing differs from the settings, or there is no sharded cluster
  1  something differs, is left to do, or the settings contradict themselves
  5  the database refuses the user: this takes the role clusterMonitor, and with [[database.zones]]
     find on orders; SETTLED takes enableSharding, which is noted where it is missing
  6  the database does not answer";

const PLAN_EXAMPLES: &str = "\
Examples:
  orderfleet shard plan
  orderfleet shard plan --keys keys.toml --output json | jq .steps

Exit codes:
  0  the plan is printed, whatever is in it
  1  the settings contradict themselves, or an account is to change its region
  5  the database refuses the user: this takes the role clusterMonitor, and with --keys or
     [[database.zones]] find on orders
  6  the database does not answer";

const INIT_EXAMPLES: &str = "\
Examples:
  orderfleet shard init --keys keys.toml
  orderfleet shard init --keys keys.toml --yes --reason 'first start'
  orderfleet shard init --yes --expect 3f9a0c1b22d4 --reason 'shard2 joins eu1'

Exit codes:
  0  without --yes: the plan is printed; with it: all is done
  1  there is no router of a sharded cluster here, or as `plan`
  3  some steps could not be done; the same command again goes on
  5  the database refuses the user: this takes the role clusterManager
  6  the database does not answer
  8  the plan is not the one of --expect; nothing was done";

/// Shard the collections over the cluster, and see how they lie
///
/// `orders`, and what else grows with them, are sharded by _id, which begins with the account's region: so each region's orders are
/// one range, and [[database.zones]] says on which shards it is kept. Without zones they may be on all of them.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Plan(Planning),
    Init(Init),
    Status(Status),
}

/// Show the steps that `init` would take, and what only people can decide
#[derive(Debug, clap::Args)]
#[command(after_help = PLAN_EXAMPLES)]
struct Planning {
    /// The file of API keys: its regions are dealt out to their shards before they hold orders, and its accounts, up to 16 of a
    /// region, each over all of these shards
    #[arg(long = "keys", value_name = "FILE")]
    keys: Option<PathBuf>,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Zone and shard the collections, and deal out what is empty; without --yes only show the plan
///
/// Takes a router (mongos). A second call finds nothing left to do; whoever was interrupted calls it again.
#[derive(Debug, clap::Args)]
#[command(after_help = INIT_EXAMPLES)]
struct Init {
    /// Do it
    #[arg(long, requires = "reason")]
    yes: bool,
    /// Only if the plan still has this id
    #[arg(long, value_name = "PLANID")]
    expect: Option<String>,
    /// Why; recorded in the operator log
    #[arg(long, value_name = "TEXT", value_parser = crate::fleet::reason)]
    reason: Option<String>,
    #[command(flatten)]
    planning: Planning,
}

/// Show how the collections lie, what the balancer does, and what is not as the settings say
#[derive(Debug, clap::Args)]
#[command(after_help = STATUS_EXAMPLES)]
struct Status {
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Runs the command; what it prints is data, what it says is talk.
///
/// # Errors
/// When the database does not answer or refuses, the settings contradict themselves, or the plan has changed.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Status(Status { fleet }) => {
            let (_, looked) = look_at(Planning { keys: None, fleet }).await?;
            let Some(looked) = looked else { return not_sharded(output) };
            show::status(&looked, output)?;
            let settled = looked.plan.steps.is_empty() && looked.plan.differences.is_empty();
            Ok(if settled { ExitCode::SUCCESS } else { exit::FAILED.into() })
        }
        Command::Plan(planning) => {
            let (_, looked) = look_at(planning).await?;
            let Some(looked) = looked else { return not_sharded(output) };
            show::plan(&looked.plan, output)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Init(args) => run_init(args, output).await,
    }
}

async fn run_init(args: Init, output: Output) -> anyhow::Result<ExitCode> {
    let Init { yes, expect, reason, planning } = args;
    let (store, looked) = look_at(planning).await?;
    let looked = looked.ok_or_else(no_router)?;
    let plan = &looked.plan;
    if let Some(expected) = expect.filter(|expected| *expected != plan.id) {
        let what = format!("the plan is {} now, not {expected}; nothing was done", plan.id);
        return Err(Failure { what, next: "orderfleet shard plan".into(), code: PLAN_CHANGED }.into());
    }
    let Some(why) = reason.filter(|_| yes) else {
        show::plan(plan, output)?;
        eprintln!("nothing was done\nnext:  the same command with --yes --expect {} --reason TEXT", plan.id);
        return Ok(ExitCode::SUCCESS);
    };
    let approval = Approval { who: operator()?, why };
    let log = OperatorLog::new(store.clone());
    let mut progress = Progress::new();
    let tell = |number, step: &Step| {
        let total = plan.steps.len();
        progress.tell(&format!("{number} of {total}: {} {} {}", step.verb(), step.subject(), step.what()));
    };
    let applied = init(&store, &looked, &approval, &log, tell).await.map_err(failed)?;
    drop(progress);
    show::applied(plan, &applied, output)?;
    if applied.iter().any(|applied| applied.refused) {
        eprintln!(
            "next:  let this user do it: docs/OPERATIONS.md says which rights it needs; then the same command again"
        );
        return Ok(exit::NOT_AUTHORISED.into());
    }
    let all_done = applied.iter().all(|applied| applied.done);
    Ok(if all_done { ExitCode::SUCCESS } else { exit::PARTLY.into() })
}

async fn look_at(planning: Planning) -> anyhow::Result<(Store, Option<Look>)> {
    let homes = planning.keys.as_deref().map(homes).transpose()?.unwrap_or_default();
    let fleet = planning.fleet.resolve()?;
    let store = fleet.store().await?;
    let looked = look(&store, &fleet.database.zones, &homes).await.map_err(failed)?;
    Ok((store, looked))
}

/// The accounts of a file of API keys.
fn homes(path: &Path) -> anyhow::Result<Vec<Home>> {
    let keys = Keys::load(path)?;
    let homes =
        keys.callers().map(|caller| Home { region: caller.region.clone(), account: caller.account.clone() });
    let mut homes: Vec<_> = homes.collect();
    homes.sort_unstable();
    homes.dedup();
    Ok(homes)
}

fn not_sharded(output: Output) -> anyhow::Result<ExitCode> {
    output.print(
        &serde_json::json!({ "sharded": false }),
        "a replica set, not a sharded cluster: nothing to shard",
    )?;
    Ok(ExitCode::SUCCESS)
}

fn no_router() -> Failure {
    Failure::new(
        "this is a replica set, not a sharded cluster",
        "name a router: database.uri = \"mongodb://MONGOS:27017/\", without a replicaSet in it",
    )
}

fn failed(error: ShardsError) -> anyhow::Error {
    let next = match &error {
        ShardsError::Store(_) | ShardsError::Log(_) => return error.into(),
        ShardsError::BadZones(_) => "correct [[database.zones]]: orderfleet.example.toml shows one",
        ShardsError::Moved { .. } => {
            "give the account its old region in the file of keys; to move its data, keep that region in another zone"
        }
        ShardsError::NoRouter => "name a router: database.uri = \"mongodb://MONGOS:27017/\"",
    };
    Failure::new(error.to_string(), next).into()
}
