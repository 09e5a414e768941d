//! `orderfleet topology`: the declared topology against the broker.

mod show;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use orderfleet_messaging::Inspector;
use orderfleet_operations::log::OperatorLog;
use orderfleet_operations::topology::{Approval, Management, Plan, apply, diff, plan};
use tokio::time::timeout;

use crate::exit::{self, DEPENDENCY_DOWN, Failure, PLAN_CHANGED};
use crate::fleet::{Fleet, FleetArgs, operator, unusable_broker};
use crate::output::Output;

const APP_NAME: &str = "orderfleet topology";
/// Beyond the time that connecting takes at most.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

const EXAMPLES: &str = "\
Examples:
  orderfleet topology diff
  orderfleet topology plan
  orderfleet topology apply --yes --expect 3f9a0c1b22d4 --reason 'queues of 2 GiB'
  orderfleet topology diff --management-url http://127.0.0.1:15672 --output json";

const DIFF_EXAMPLES: &str = "\
Examples:
  orderfleet topology diff
  orderfleet topology diff --management-url http://127.0.0.1:15672
  orderfleet topology diff --output jsonl | jq -r .name

Exit codes:
  0  nothing differs, as far as is visible
  1  something differs, or the settings cannot be used
  5  the broker refuses the user or the virtual host
  6  the broker or its management API does not answer";

const PLAN_EXAMPLES: &str = "\
Examples:
  orderfleet topology plan
  orderfleet topology plan --drained orders.new.0

Exit codes:
  0  the plan is printed, whatever is in it
  1  the settings cannot be used, or no such queue is declared
  5  the broker refuses the user or the virtual host
  6  the broker or its management API does not answer";

const APPLY_EXAMPLES: &str = "\
Examples:
  orderfleet topology apply
  orderfleet topology apply --yes --reason 'first start'
  orderfleet topology apply --yes --drained orders.new.0 --reason 'queues of 2 GiB'

Exit codes:
  0  without --yes: the plan is printed; with it: all is done
  1  the settings cannot be used, or no such queue is declared
  3  some steps could not be done, or are left to people
  5  the broker refuses the user or the virtual host
  6  the broker, its management API or the database does not answer
  8  the plan is not the one of --expect; nothing was done";

/// Compare the declared exchanges, queues and bindings with those on the broker
///
/// A service refuses to start while something differs that cannot be changed, such as an argument of a queue. These commands
/// name everything that differs at once, plan how to get there without losing a message, and do what can be done safely.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Diff(Diff),
    Plan(Planning),
    Apply(Apply),
}

/// List everything that differs
#[derive(Debug, clap::Args)]
#[command(after_help = DIFF_EXAMPLES)]
struct Diff {
    #[command(flatten)]
    management: ManagementArgs,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Show the steps that would mend it: those of `apply`, and those that people have to do
#[derive(Debug, clap::Args)]
#[command(after_help = PLAN_EXAMPLES)]
struct Planning {
    /// A queue from which, as you have made sure, nothing is on its way to a dead-letter exchange; repeatable
    #[arg(long, value_name = "QUEUE")]
    drained: Vec<String>,
    #[command(flatten)]
    management: ManagementArgs,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Declare what is missing, and switch what is empty and unused; without --yes only show the plan
///
/// A queue that holds messages or has consumers is never deleted: the plan says what people have to do first. Nor is one that
/// does not answer, for want of a leader or of a majority of its members.
#[derive(Debug, clap::Args)]
#[command(after_help = APPLY_EXAMPLES)]
struct Apply {
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

/// The flags that name the broker's management API, for those who have that plugin.
#[derive(Debug, clap::Args)]
#[command(
    next_help_heading = "Management API (sees bindings, all arguments, and queues that nobody declares)"
)]
pub(crate) struct ManagementArgs {
    /// Its address, for example http://127.0.0.1:15672
    #[arg(long, value_name = "URL", env = "ORDERFLEET_MANAGEMENT_URL")]
    management_url: Option<String>,
    /// A file with USER:PASSWORD for it; without one those of broker.url are used
    #[arg(long, value_name = "FILE", env = "ORDERFLEET_MANAGEMENT_LOGIN_FILE", requires = "management_url")]
    management_login_file: Option<PathBuf>,
}

impl ManagementArgs {
    /// The management API, if one is named.
    ///
    /// # Errors
    /// The address is none, or the file cannot be read or holds no login.
    pub(crate) fn resolve(&self, fleet: &Fleet) -> anyhow::Result<Option<Management>> {
        let Some(url) = &self.management_url else { return Ok(None) };
        let mut login = fleet.broker.login()?;
        if let Some(path) = &self.management_login_file {
            let text = std::fs::read_to_string(path).with_context(|| {
                format!("cannot read the login of the management API from {}", path.display())
            })?;
            let (username, password) = text.trim().split_once(':').ok_or_else(|| {
                Failure::new(format!("{} holds no login", path.display()), "write USER:PASSWORD into it")
            })?;
            login.username = username.to_owned();
            login.password = password.to_owned();
        }
        let management = Management::new(url, login).context("--management-url")?;
        Ok(Some(management))
    }
}

/// Runs the command; what it prints is data, what it says is talk.
///
/// # Errors
/// When broker, management API or, for a change, the database does not answer, or the plan has changed.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Diff(Diff { management, fleet }) => {
            let (_, diff, _) = look(&management, fleet).await?;
            show::diff(&diff, output)?;
            Ok(if diff.is_equal() { ExitCode::SUCCESS } else { exit::FAILED.into() })
        }
        Command::Plan(planning) => {
            let (_, plan, _) = make_plan(planning).await?;
            show::plan(&plan, output)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Apply(args) => run_apply(args, output).await,
    }
}

async fn run_apply(args: Apply, output: Output) -> anyhow::Result<ExitCode> {
    let Apply { yes, expect, reason, planning } = args;
    let (inspector, plan, fleet) = make_plan(planning).await?;
    if let Some(expected) = expect.filter(|expected| *expected != plan.id) {
        let what = format!("the plan is {} now, not {expected}; nothing was done", plan.id);
        let next = "orderfleet topology plan".to_owned();
        return Err(Failure { what, next, code: PLAN_CHANGED }.into());
    }
    let Some(why) = reason.filter(|_| yes) else {
        show::plan(&plan, output)?;
        eprintln!("nothing was done\nnext:  the same command with --yes --expect {} --reason TEXT", plan.id);
        return Ok(ExitCode::SUCCESS);
    };
    let approval = Approval { who: operator()?, why };
    let log = OperatorLog::new(fleet.store().await?);
    let applied = apply(&inspector, &plan, &approval, &log).await?;
    show::applied(&plan, &applied, output)?;
    let all_done = applied.iter().all(|applied| applied.done);
    let all_own = plan.own_steps().count() == plan.steps.len();
    Ok(if all_done && all_own { ExitCode::SUCCESS } else { exit::PARTLY.into() })
}

async fn make_plan(planning: Planning) -> anyhow::Result<(Inspector, Plan, Fleet)> {
    let Planning { drained, management, fleet } = planning;
    let (inspector, diff, fleet) = look(&management, fleet).await?;
    let drained: BTreeSet<_> = drained.into_iter().collect();
    let unknown = drained.iter().find(|name| inspector.topology().queue_names().all(|queue| queue != *name));
    if let Some(unknown) = unknown {
        let what = format!("--drained {unknown}: the topology declares no such queue");
        return Err(Failure::new(what, "orderfleet topology plan names the queues").into());
    }
    let plan = plan(&diff, inspector.topology(), &drained);
    Ok((inspector, plan, fleet))
}

/// Connects, says to whom, and compares.
async fn look(
    management: &ManagementArgs,
    fleet: FleetArgs,
) -> anyhow::Result<(Inspector, orderfleet_operations::topology::Diff, Fleet)> {
    let fleet = fleet.resolve()?;
    let management = management.resolve(&fleet)?;
    let inspector = connect(&fleet).await?;
    let login = fleet.broker.login()?;
    eprintln!("broker {}, virtual host {}, prefix {:?}", login.host, login.vhost, fleet.broker.prefix);
    let compared = diff(&inspector, management.as_ref()).await.map_err(|error| Failure {
        what: format!("{:#}", anyhow::Error::from(error)),
        next: "leave --management-url out, or enable the plugin: rabbitmq-plugins enable rabbitmq_management"
            .into(),
        code: DEPENDENCY_DOWN,
    })?;
    Ok((inspector, compared, fleet))
}

async fn connect(fleet: &Fleet) -> anyhow::Result<Inspector> {
    let connecting = Inspector::connect(&fleet.broker, fleet.topology()?, APP_NAME);
    let error = match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(inspector)) => return Ok(inspector),
        Ok(Err(error)) => error,
        Err(_) => orderfleet_messaging::ConnectError::Timeout,
    };
    Err(unusable_broker(&fleet.broker, &error).into())
}
