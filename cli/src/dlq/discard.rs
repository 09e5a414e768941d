//! `orderfleet dlq discard`: gives dead letters up.

use std::process::ExitCode;

use orderfleet_operations::dead_letters::{DISCARDED_MAX, DiscardPlan, Discarded};
use orderfleet_storage::LetterGroup;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::selection::RequiredSelection;
use super::{asked, check_expected, dead_letters, failed, letters_of, nothing, progress_bar};
use crate::exit::{INTERRUPTED, PARTLY};
use crate::fleet::FleetArgs;
use crate::output::{Output, Row as _, table};

const EXAMPLES: &str = "\
Examples:
  orderfleet dlq discard --where 'queue=conflict and age>30d'
  orderfleet dlq discard --where 'queue=conflict and age>30d' --yes --expect PLAN --reason answered
  orderfleet dlq list --where 'class=unreadable' --ids-only | orderfleet dlq discard --ids -

Without --yes nothing is done: what would be discarded is shown. A discarded dead letter is kept,
with who gave it up and why, and is found with is:ended. Orders are not touched: one that is HELD
stays so until a person resolves it.

Exit codes:
    0  done, or shown
    3  some are left: another operator has them in hand, or they have come again
    4  nothing matches
    5  the database refuses the user
    6  the database does not answer; the same command again continues
    8  with --expect: there are others by now; nothing was done
  130  interrupted; the same command again continues";

/// Give dead letters up; shows what that would be, and with --yes does it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    selection: RequiredSelection,
    /// Only so many, the oldest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(DISCARDED_MAX)))]
    limit: Option<u32>,
    /// Do it
    #[arg(long, requires = "reason")]
    yes: bool,
    /// Do it only if they are so many, or only if the plan has this id, as shown before
    #[arg(long, value_name = "N|PLAN", requires = "yes")]
    expect: Option<String>,
    /// Why, for the operator log
    #[arg(long, value_name = "TEXT", value_parser = crate::fleet::reason)]
    reason: Option<String>,
    #[command(flatten)]
    fleet: FleetArgs,
}

#[derive(Serialize)]
struct Outcome<'a> {
    database: &'a str,
    plan: &'a str,
    count: u64,
    groups: &'a [LetterGroup],
    /// None where it was only planned.
    done: Option<Discarded>,
}

/// Prints the plan; with --yes, does it and prints what came of it.
///
/// # Errors
/// Nothing was chosen, the plan is not the expected one, the database does not answer, or the operator log refuses the
/// record.
pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let Args { selection, limit, yes, expect, reason, fleet } = args;
    let chosen = selection.resolve()?;
    let fleet = fleet.resolve()?;
    let letters = dead_letters(&fleet).await?;
    let plan = letters.plan_discard(chosen.filter, limit, &chosen.text).await.map_err(failed)?;
    let database = fleet.database.name.as_str();
    if plan.count == 0 {
        print(output, database, &plan, None)?;
        return Ok(nothing("no dead letter matches"));
    }
    let (true, Some(reason)) = (yes, reason) else {
        print(output, database, &plan, None)?;
        eprintln!(
            "{} of the database {database} would be discarded; nothing is done",
            letters_of(plan.count)
        );
        eprintln!("next:  the same command with --yes --expect {} --reason TEXT", plan.id);
        return Ok(ExitCode::SUCCESS);
    };
    check_expected(expect.as_deref(), &plan.id, plan.count)?;
    let stop = CancellationToken::new();
    let bar = progress_bar(plan.count);
    let asked = asked(reason)?;
    let done = tokio::select! {
        done = letters.discard(&plan, &asked, &stop, |done| bar.set_position(seen_to(done))) => done,
        never = stop_at_ctrl_c(&stop) => match never {},
    };
    bar.finish_and_clear();
    let done = done.map_err(failed)?;
    print(output, database, &plan, Some(done))?;
    eprintln!(
        "{} discarded, {} in other hands, {} came again, {} ended meanwhile",
        done.discarded, done.in_other_hands, done.came_again, done.ended_meanwhile
    );
    Ok(match done {
        Discarded { is_interrupted: true, .. } => INTERRUPTED.into(),
        Discarded { in_other_hands: 1.., .. } | Discarded { came_again: 1.., .. } => PARTLY.into(),
        _ => ExitCode::SUCCESS,
    })
}

fn print(output: Output, database: &str, plan: &DiscardPlan, done: Option<Discarded>) -> anyhow::Result<()> {
    let result = Outcome { database, plan: &plan.id, count: plan.count, groups: &plan.groups, done };
    output.print(&result, &table(LetterGroup::HEADER, plan.groups.iter().map(LetterGroup::cells)))
}

fn seen_to(done: &Discarded) -> u64 {
    done.discarded + done.in_other_hands + done.came_again + done.ended_meanwhile
}

/// The first Ctrl-C stops after the letters in hand, the second at once.
async fn stop_at_ctrl_c(stop: &CancellationToken) -> std::convert::Infallible {
    loop {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        if stop.is_cancelled() {
            std::process::exit(INTERRUPTED.into());
        }
        eprintln!("stopping; Ctrl-C again leaves at once");
        stop.cancel();
    }
}
