//! `orderfleet orders get`: everything about one order.

use std::process::ExitCode;

use jiff::{SignedDuration, Timestamp};
use orderfleet_domain::OrderId;
use orderfleet_operations::orders::{
    self, OrderReport, OrderStatus, OrdersError, StuckOrder, TimelineEntry, Waiting,
};
use orderfleet_storage::Store;

use super::failure;
use super::rows::nothing;
use super::time::{age, length, shown};
use crate::exit::{Failure, NOTHING_MATCHED};
use crate::fleet::FleetArgs;
use crate::output::{Output, table, visible};

const EXAMPLES: &str = "\
Examples:
  orderfleet orders get eu1-vqhnbfvs-dw3nwqzm4jeqqutrep4bxjfyvskigkny
  orderfleet orders get eu1-… --output json | jq .timeline

AFTER is the time since the line before: how old that state became. Times are by the clocks of
whoever wrote them down: the producer (accepted), workers (all else). Personal data is masked.

Exit codes:
  0  shown
  4  no worker has stored this order
  5  the database refuses the user
  6  the database does not answer";

/// Show where an order stands, what it waits for, and everything that has happened to it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The order
    #[arg(value_name = "ORDER")]
    order_id: OrderId,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Shows an order.
///
/// # Errors
/// When the database does not answer, or does not know the order.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let Args { order_id, fleet } = args;
    let fleet = fleet.resolve()?;
    let policy = fleet.policy()?;
    let store = fleet.store().await?;
    match orders::report(&store, &policy, &order_id).await.map_err(failure)? {
        Some(report) => output.print(&report, &text(&report, Timestamp::now()))?,
        None => return Err(absent(&store, order_id).await),
    }
    Ok(ExitCode::SUCCESS)
}

async fn absent(store: &Store, order_id: OrderId) -> anyhow::Error {
    let letter = orders::first_letter(store, &order_id).await;
    match letter.map_err(OrdersError::Store) {
        Ok(Some(letter)) => {
            let reason = visible(&letter.reason);
            let what = format!(
                "order {order_id} is not stored; its message is a dead letter in {}: {reason}",
                letter.queue
            );
            let next = format!("orderfleet dlq show {}", letter.id);
            Failure { what, next, code: NOTHING_MATCHED }.into()
        }
        Ok(None) => failure(OrdersError::NotStored(order_id)),
        Err(error) => failure(error),
    }
}

fn text(report: &OrderReport, now: Timestamp) -> String {
    let StuckOrder { order, waiting, .. } = &report.standing;
    let at = order.step.as_ref().map(|step| format!(" at {step}")).unwrap_or_default();
    let head = format!("{}  {}{at}, run {}", order.order_id, order.status.as_str(), order.generation);
    let facts =
        facts(report, now).into_iter().map(|(name, value)| format!("{name:<10}  {}", visible(&value)));
    let mut rows: Vec<_> = report.timeline.iter().map(row).collect();
    let state = waiting.as_ref().map_or_else(nothing, |waiting| waits_for(waiting, now));
    rows.push(vec!["now".into(), age(report.since(), now), order.status.as_str().into(), nothing(), state]);
    let timeline = table(&["AT", "AFTER", "WHAT", "STEP", "DETAIL"], rows);
    let facts = facts.collect::<Vec<_>>().join("\n");
    format!("{head}\n{facts}\n\n{timeline}")
}

fn facts(report: &OrderReport, now: Timestamp) -> Vec<(&'static str, String)> {
    let StuckOrder { order, waiting, attempts_max, deadline } = &report.standing;
    let OrderReport { total, currency, lines, channel, .. } = report;
    let plural = if *lines == 1 { "" } else { "s" };
    let mut facts = vec![
        ("account", order.account.to_string()),
        ("order", format!("{lines} line{plural}, {total} {currency}, {}", channel.as_str())),
        ("accepted", format!("{}, {} ago", shown(report.accepted_at), age(report.accepted_at, now))),
    ];
    let mut fact = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    fact("waits for", waiting.as_ref().map(|waiting| waits_for(waiting, now)));
    fact("attempts", attempts_max.map(|most| format!("{} of {most}", order.attempts)));
    fact("deadline", deadline.map(shown));
    fact(
        "cause",
        order.cause.as_ref().map(|cause| {
            let code = cause.code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default();
            format!("{}{code} at {}: {}", cause.class.as_str(), cause.step, cause.message)
        }),
    );
    fact("held", order.hold.as_ref().map(|hold| format!("at {}: {}", hold.step, hold.reason)));
    fact("corrected", report.corrected_from_gen.map(|run| format!("by a person, from run {run} on")));
    fact("cancel", order.cancel_requested.then(|| "requested".into()));
    fact(
        "conflicts",
        (order.conflicts > 0).then(|| format!("{} other bodies under its key", order.conflicts)),
    );
    fact("final", order.is_final.then(|| "no further run".into()));
    fact("next", next(order.hold.is_some(), report));
    facts
}

fn next(is_held: bool, report: &OrderReport) -> Option<String> {
    let id = &report.standing.order.order_id;
    if is_held {
        return Some(format!("orderfleet orders resolve {id} --decision release --reason TEXT"));
    }
    let order = &report.standing.order;
    let may_run_again = order.status == OrderStatus::Undone && !order.is_final;
    let letter = report.dead_letters.iter().rfind(|letter| letter.is_open).filter(|_| may_run_again);
    letter.map(|letter| format!("orderfleet dlq show {}", letter.id))
}

fn row(entry: &TimelineEntry) -> Vec<String> {
    let TimelineEntry { at, after_ms, what, step, detail } = entry;
    vec![
        shown(*at),
        length(SignedDuration::from_millis(*after_ms)),
        what.clone(),
        step.as_ref().map_or_else(nothing, ToString::to_string),
        detail.clone().unwrap_or_default(),
    ]
}

fn waits_for(waiting: &Waiting, now: Timestamp) -> String {
    match waiting {
        Waiting::Person { .. } => "a person's decision".into(),
        Waiting::Worker { owner, until } => {
            format!("worker {owner}, which has it in hand; its lease ends in {}", age(now, *until))
        }
        Waiting::Paused { target, until } => {
            format!("the end of a pause: {target}, in {} unless somebody resumes it", age(now, *until))
        }
        Waiting::NextTry { at } => format!("its next try, in {}", age(now, *at)),
        Waiting::Sweeper => "the sweeper: a publish is owed".into(),
        Waiting::Nobody { since } => {
            format!("a worker: its next try was due {} ago, and none has come", age(*since, now))
        }
        Waiting::Message => "its message, which is in a queue or on its way".into(),
    }
}
