//! `orderfleet dlq replay`: brings dead letters back, a few at first and more as they end well.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use orderfleet_operations::forecast::{self, ForecastGroup};
use orderfleet_operations::log::{Act, OperatorLog};
use orderfleet_operations::replay::{
    self, Budget, Group, Outcome, Plan, PlanError, Planned, Progress, Replaying, RunError,
};
use orderfleet_storage::{ItemState, Replay, ReplayItem, ReplayState, Store};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::selection::RequiredSelection;
use super::{failed, nothing};
use crate::exit::{
    BUDGET_SPENT, DEPENDENCY_DOWN, FAILED, Failure, INTERRUPTED, NOTHING_MATCHED, PARTLY, PLAN_CHANGED,
};
use crate::fleet::{Fleet, FleetArgs, operator};
use crate::output::{Output, Row, table};

const EXAMPLES: &str = "\
Examples:
  orderfleet dlq replay --where 'step=fulfilment'                   # what would happen?
  orderfleet dlq replay --where 'step=fulfilment' --forecast        # and would it work by now?
  orderfleet dlq replay --where 'step=fulfilment' --yes --expect 198 --reason 'carrier is back'
  orderfleet dlq replay --resume 3f2a9c01                           # after Ctrl-C, or a stop
  orderfleet dlq replay --results 3f2a9c01 --output jsonl           # what became of each
  orderfleet dlq list --where 'age>1h' --ids-only | orderfleet dlq replay --ids -

Without --yes nothing is done: what would become of the dead letters is shown. An order that is UNDONE
starts a new run from its first step; one that is HELD goes on where it stands. Messages go through the
lane of replays, which live orders never wait for, in batches of 1, 2, 5, 10, 20, … up to --batch-max,
each sent only when the orders of the one before have ended. Two operators can replay the same dead
letters at once: each of them comes back once.

Exit codes:
    0  done, or shown
    1  some orders failed again
    3  some were left: another operator had them, or their orders did not end in time
    4  nothing matches
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
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Ask the services, without changing anything, how each order would fare
    #[arg(long, conflicts_with = "yes")]
    forecast: bool,
    /// Do it
    #[arg(long, requires = "reason")]
    yes: bool,
    /// Do it only if they are so many, or only if the plan has this id, as shown before
    #[arg(long, value_name = "N|PLAN", requires = "yes")]
    expect: Option<String>,
    /// Why, for the operator log
    #[arg(long, value_name = "TEXT")]
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
    /// How long to wait for the orders of one batch to end, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    batch_timeout: u64,
    /// Go on with a replay that was interrupted or has stopped
    #[arg(long, value_name = "REPLAY", conflicts_with_all = ["filter", "ids", "all", "limit", "yes", "results"])]
    resume: Option<String>,
    /// Show what became of each dead letter of a replay
    #[arg(long, value_name = "REPLAY", conflicts_with_all = ["filter", "ids", "all", "limit", "yes"])]
    results: Option<String>,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// What is printed on stdout.
#[derive(Serialize)]
struct Shown<'a> {
    database: &'a str,
    plan: &'a str,
    count: usize,
    groups: &'a [Group],
    /// None where it was only planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Progress>,
}

/// Prints the plan; with `--yes`, carries it out and prints what came of it.
///
/// # Errors
/// Nothing was chosen, what was chosen is not what was expected, or database or broker do not answer.
pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let budget = Budget {
        rate_per_s: args.rate,
        stop_at_percent: args.stop_at,
        batch_max: args.batch_max,
        batch_timeout: Duration::from_secs(args.batch_timeout),
    };
    let fleet = args.fleet.resolve()?;
    let store = fleet.store().await?;
    if let Some(id) = &args.results {
        return results(&store, id, output).await;
    }
    if let Some(id) = &args.resume {
        let replay = known(&store, id).await?;
        return carry_out(&fleet, store, replay, budget, output).await;
    }
    let chosen = args.selection.resolve()?;
    let plan = replay::plan(&store, &chosen.filter, &chosen.text, args.limit).await.map_err(plan_failed)?;
    if plan.items.is_empty() {
        return Ok(nothing("no dead letter matches"));
    }
    if args.forecast {
        return foresee(&fleet, &store, &plan, output).await;
    }
    let (true, Some(reason)) = (args.yes, args.reason) else {
        show(output, &fleet, &plan)?;
        eprintln!(
            "{} of {} dead letters would come back; nothing is done",
            plan.published(),
            plan.items.len()
        );
        eprintln!("next:  the same command with --yes --expect {} --reason TEXT", plan.id);
        return Ok(ExitCode::SUCCESS);
    };
    check_expected(&plan, args.expect.as_deref())?;
    let replay = begin(&store, &plan, reason).await?;
    carry_out(&fleet, store, replay, budget, output).await
}

fn show(output: Output, fleet: &Fleet, plan: &Plan) -> anyhow::Result<()> {
    let groups = plan.groups();
    let database = fleet.database.name.as_str();
    let shown = Shown {
        database,
        plan: &plan.id,
        count: plan.items.len(),
        groups: &groups,
        replay: None,
        result: None,
    };
    output.print(&shown, &table(Group::HEADER, groups.iter().map(Group::cells)))
}

/// Prints how the orders of a plan would fare.
async fn foresee(fleet: &Fleet, store: &Store, plan: &Plan, output: Output) -> anyhow::Result<ExitCode> {
    let bar = progress_bar(u32::try_from(plan.items.len())?);
    let policy = fleet.policy()?;
    let forecasts =
        forecast::forecast(store, &policy, &plan.items, |seen| bar.set_position(seen as u64)).await;
    bar.finish_and_clear();
    output.print_rows(&forecast::summary(&plan.items, &forecasts?))?;
    eprintln!("nothing is changed\nnext:  the same command with --yes --expect {} --reason TEXT", plan.id);
    Ok(ExitCode::SUCCESS)
}

fn check_expected(plan: &Plan, expected: Option<&str>) -> anyhow::Result<()> {
    let Some(expected) = expected else { return Ok(()) };
    if expected == plan.id || expected == plan.items.len().to_string() {
        return Ok(());
    }
    let what =
        format!("the plan is {} by now, of {} dead letters; nothing was done", plan.id, plan.items.len());
    let next = "look again without --yes, then give the plan's id that is shown".into();
    Err(Failure { what, next, code: PLAN_CHANGED }.into())
}

/// Freezes what is planned, for whoever resumes it.
async fn begin(store: &Store, plan: &Plan, reason: String) -> anyhow::Result<Replay> {
    let replay = Replay {
        id: replay::new_id()?,
        who: operator()?.to_string(),
        why: reason,
        selection: plan.selection.clone(),
        items: u32::try_from(plan.items.len())?,
        state: ReplayState::Open,
        began_at: Timestamp::now(),
    };
    let item = |(seq, planned): (u32, &Planned)| ReplayItem {
        seq,
        letter: planned.letter.id.clone(),
        order_id: planned.letter.order_id.clone(),
        state: ItemState::Waiting,
        generation: 0,
        hold: None,
        note: String::new(),
    };
    let items: Vec<_> = (0..).zip(&plan.items).map(item).collect();
    store.begin_replay(&replay, &items, Timestamp::now().as_millisecond()).await?;
    Ok(replay)
}

async fn known(store: &Store, id: &str) -> anyhow::Result<Replay> {
    store.replay(id).await?.ok_or_else(|| {
        let next = "the id is printed when a replay begins, and recorded: orderfleet log list".into();
        Failure { what: format!("no replay {id}"), next, code: NOTHING_MATCHED }.into()
    })
}

async fn carry_out(
    fleet: &Fleet,
    store: Store,
    replay: Replay,
    budget: Budget,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let log = OperatorLog::new(store.clone());
    let (who, target) = (operator()?, format!("replay {}: {}", replay.id, replay.selection));
    let act = log.begin(&Act { who, what: "dlq.replay".into(), why: replay.why.clone(), target }).await?;
    eprintln!("replay {} of {} dead letters", replay.id, replay.items);
    let stop = CancellationToken::new();
    let bar = progress_bar(replay.items);
    let publisher = fleet.publisher().await?;
    let replaying = Replaying { store, publisher, replay, budget, stop: stop.clone() };
    let mut last = Progress::default();
    let tell = |progress: &Progress| {
        last = *progress;
        bar.set_position(u64::from(progress.done + progress.failed + progress.refused));
        bar.set_message(format!(
            "done {} failed {} begun {}",
            progress.done, progress.failed, progress.begun
        ));
    };
    let outcome = tokio::select! {
        outcome = replaying.run(tell) => outcome,
        never = stop_at_ctrl_c(&stop) => match never {},
    };
    bar.finish_and_clear();
    let text = match &outcome {
        Ok(outcome) => format!("{}: {last:?}", word(*outcome)),
        Err(error) => format!("broke off: {error}"),
    };
    log.end(&act, &text).await?;
    let id = replaying.replay.id.as_str();
    let outcome = outcome.map_err(|error| broke_off(id, error))?;
    print(output, fleet, id, &last)?;
    Ok(ending(outcome, id, &last).into())
}

fn progress_bar(items: u32) -> indicatif::ProgressBar {
    let style = indicatif::ProgressStyle::with_template("{bar:10} {pos}/{len} {msg} {per_sec} eta {eta}")
        .expect("the template is constant and well-formed");
    indicatif::ProgressBar::new(items.into()).with_style(style)
}

fn print(output: Output, fleet: &Fleet, id: &str, progress: &Progress) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Ended<'a> {
        database: &'a str,
        replay: &'a str,
        #[serde(flatten)]
        progress: &'a Progress,
    }
    let Progress { waiting, begun, done, failed, refused } = progress;
    let row = [id.to_owned()].into_iter();
    let row = row.chain([done, failed, refused, begun, waiting].map(ToString::to_string)).collect();
    let header = ["REPLAY", "DONE", "FAILED", "REFUSED", "BEGUN", "WAITING"];
    let ended = Ended { database: &fleet.database.name, replay: id, progress };
    output.print(&ended, &table(&header, [row]))
}

/// The exit code, and a word on stderr about how to go on.
fn ending(outcome: Outcome, id: &str, progress: &Progress) -> u8 {
    let resume = format!("next:  orderfleet dlq replay --resume {id}");
    match outcome {
        Outcome::Interrupted => {
            eprintln!("interrupted; nothing is lost\n{resume}");
            INTERRUPTED
        }
        Outcome::Stopped => {
            eprintln!("stopped: too many orders failed again\nnext:  orderfleet dlq replay --results {id}");
            BUDGET_SPENT
        }
        Outcome::StillOpen => {
            eprintln!("stopped: {} orders have not ended in time\n{resume}", progress.begun);
            PARTLY
        }
        Outcome::Ended if progress.failed > 0 => FAILED,
        Outcome::Ended if progress.refused > 0 => PARTLY,
        Outcome::Ended => 0,
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ended => "ended",
        Outcome::Stopped => "stopped by failures",
        Outcome::StillOpen => "stopped, orders still open",
        Outcome::Interrupted => "interrupted",
    }
}

async fn results(store: &Store, id: &str, output: Output) -> anyhow::Result<ExitCode> {
    let replay = known(store, id).await?;
    let mut rows = Vec::new();
    loop {
        let page = store.replay_items(&replay.id, u32::try_from(rows.len())?).await?;
        if page.is_empty() {
            break;
        }
        rows.extend(page.into_iter().map(ItemRow::from));
    }
    output.print_rows(&rows)?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct ItemRow {
    letter: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<String>,
    state: &'static str,
    #[serde(rename = "gen")]
    generation: u32,
    note: String,
}

impl From<ReplayItem> for ItemRow {
    fn from(item: ReplayItem) -> Self {
        Self {
            letter: item.letter,
            order_id: item.order_id.map(|id| id.to_string()),
            state: item.state.as_str(),
            generation: item.generation,
            note: item.note,
        }
    }
}

impl Row for ItemRow {
    const HEADER: &'static [&'static str] = &["LETTER", "STATE", "RUN", "NOTE"];

    fn cells(&self) -> Vec<String> {
        vec![self.letter.clone(), self.state.into(), self.generation.to_string(), self.note.clone()]
    }
}

impl Row for ForecastGroup {
    const HEADER: &'static [&'static str] = &["FAILURE", "QUEUE", "CLASS", "COUNT", "WOULD"];

    fn cells(&self) -> Vec<String> {
        let Self { fingerprint, queue, class, count, what, .. } = self;
        vec![fingerprint.to_string(), queue.clone(), class.clone(), count.to_string(), what.clone()]
    }
}

impl Row for Group {
    const HEADER: &'static [&'static str] = &["FAILURE", "PLACE", "CLASS", "COUNT", "WOULD"];

    fn cells(&self) -> Vec<String> {
        let place = match &self.step {
            Some(step) if *step.as_str() != self.queue => format!("{}/{step}", self.queue),
            _ => self.queue.clone(),
        };
        vec![
            self.fingerprint.to_string(),
            place,
            self.class.clone(),
            self.count.to_string(),
            self.what.clone(),
        ]
    }
}

fn plan_failed(error: PlanError) -> anyhow::Error {
    match error {
        PlanError::Store(error) => failed(error.into()),
        PlanError::TooMany => {
            Failure::new(error.to_string(), "narrow the selection with --where, or --limit").into()
        }
    }
}

fn broke_off(id: &str, error: RunError) -> anyhow::Error {
    let next = format!("when database and broker are back: orderfleet dlq replay --resume {id}");
    Failure { what: format!("{:#}", anyhow::Error::from(error)), next, code: DEPENDENCY_DOWN }.into()
}

/// The first Ctrl-C stops after the message in hand, the second at once.
async fn stop_at_ctrl_c(stop: &CancellationToken) -> std::convert::Infallible {
    loop {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        if stop.is_cancelled() {
            std::process::exit(INTERRUPTED.into());
        }
        eprintln!("stopping after the message in hand; Ctrl-C again leaves at once");
        stop.cancel();
    }
}
