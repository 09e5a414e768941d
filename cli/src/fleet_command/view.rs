//! The fleet as text: a table for each kind of thing, and a line for what cannot be seen.

use std::fmt::Display;

use jiff::{SignedDuration, Timestamp};
use orderfleet_operations::fleet::{Circuits, FleetStatus, OldestDue, QueueStatus, Worker};
use orderfleet_storage::Pause;

use super::left_of;
use super::pauses::PauseRow;
use crate::orders::time::{age, length};
use crate::output::{Row as _, table, visible};
use crate::up::scaling::Scaling;

const UNKNOWN: &str = "unknown";
/// There is no such figure.
const NONE: &str = "-";
const QUEUES: &[&str] = &["QUEUE", "READY", "CONSUMERS", "IN-HAND", "PER-S", "PAUSED-BY", "LEFT", "AGE"];
const WORKERS: &[&str] = &["WORKER", "BUILD", "HOST", "IN-HAND", "PER-S", "STATE", "AGE"];
const DOWNSTREAMS: &[&str] = &["DOWNSTREAM", "CLOSED", "HALF-OPEN", "OPEN", "PAUSED-BY", "LEFT"];

/// Everything of a look.
pub(super) fn text(status: &FleetStatus, scaling: Option<&Scaling>) -> String {
    let mut parts = vec![
        of_queues(status),
        match &status.workers {
            Some(workers) if workers.is_empty() => {
                "no worker was heard of in the last ten minutes".to_owned()
            }
            Some(workers) => table(WORKERS, workers.iter().map(of_worker)),
            None => format!("workers: {UNKNOWN}"),
        },
        scaling.map(of_scaling).unwrap_or_default(),
        table(DOWNSTREAMS, status.downstreams.iter().map(|step| of_step(step, status.pauses.is_some()))),
        of_database(status),
    ];
    match &status.pauses {
        Some(pauses) if pauses.is_empty() => {}
        Some(pauses) => parts.push(of_pauses(pauses)),
        None => parts.push(format!("pauses: {UNKNOWN}")),
    }
    parts.retain(|part| !part.is_empty());
    let unseen = status.unseen.iter();
    let unseen: Vec<_> =
        unseen.map(|it| format!("{} cannot be seen: {}", it.what, visible(&it.why))).collect();
    if !unseen.is_empty() {
        parts.push(unseen.join("\n"));
    }
    parts.join("\n\n")
}

/// Wait tiers and dead letters, by the beginning of their queues' names.
const ASIDE: [&str; 2] = ["wait.", "dead."];

/// A row for each queue, but for wait tiers and queues of dead letters in which there is nothing to see: they are named.
fn of_queues(status: &FleetStatus) -> String {
    let (dull, shown): (Vec<_>, Vec<_>) = status.queues.iter().partition(|queue| is_dull(queue));
    let mut text = table(QUEUES, shown.into_iter().map(|queue| of_queue(queue, status.pauses.is_some())));
    for prefix in ASIDE {
        let names = dull.iter().map(|queue| queue.queue.as_str()).filter(|name| name.starts_with(prefix));
        let names: Vec<_> = names.collect();
        if !names.is_empty() {
            text.push_str(&format!("\nempty: {}", names.join(" ")));
        }
    }
    text
}

/// A wait tier, or a queue of dead letters, that is known to be empty and is not paused.
fn is_dull(status: &QueueStatus) -> bool {
    let is_aside = ASIDE.iter().any(|prefix| status.queue.starts_with(prefix));
    let is_idle = !status.worked || status.in_hand == Some(0);
    is_aside && is_idle && status.ready == Some(0) && status.paused.is_none()
}

fn of_queue(status: &QueueStatus, pauses_seen: bool) -> Vec<String> {
    let of_work = |known: Option<String>| match known {
        Some(text) => text,
        None if status.worked => UNKNOWN.to_owned(),
        None => NONE.to_owned(),
    };
    let taken = status.taken_age_ms.and_then(|age| i64::try_from(age).ok());
    let taken = taken.map(|age| length(SignedDuration::from_millis(age)));
    // Nothing was taken yet, or what was taken does not tell.
    let taken = taken.or_else(|| status.in_hand.map(|_| NONE.to_owned()));
    let [paused_by, left] = paused(status.paused.as_ref(), pauses_seen || !status.worked);
    vec![
        status.queue.clone(),
        known(status.ready),
        of_work(status.consumers.filter(|_| status.worked).map(|count| count.to_string())),
        of_work(status.in_hand.map(|count| count.to_string())),
        of_work(status.per_second.map(rate)),
        paused_by,
        left,
        of_work(taken),
    ]
}

fn of_scaling(scaling: &Scaling) -> String {
    let Scaling { workers, reason, range, fixed_by_operator, .. } = scaling;
    let range = if *fixed_by_operator { "by an operator".to_owned() } else { format!("of {range}") };
    let given_up = match workers.given_up {
        0 => String::new(),
        count => format!("; {count} given up, see the log of `orderfleet up`"),
    };
    format!("wanted        {} {range}: {}{given_up}", workers.wanted, visible(reason))
}

fn of_worker(worker: &Worker) -> Vec<String> {
    let Worker { status, heard_ms, stale, in_hand, per_second } = worker;
    let state = match (stale, status.draining) {
        (true, _) => "stale",
        (false, true) => "draining",
        (false, false) if status.pauses.is_empty() => "working",
        (false, false) => "pausing",
    };
    // What a worker had in hand that is gone is back in its queue, and of one that hangs it is not known.
    let of_work = |text: String| if *stale { UNKNOWN.to_owned() } else { text };
    let heard = i64::try_from(*heard_ms).unwrap_or(i64::MAX);
    vec![
        status.instance.clone(),
        status.build.clone(),
        format!("{}/{}", status.host, status.pid),
        of_work(in_hand.to_string()),
        of_work(rate(*per_second)),
        state.to_owned(),
        length(SignedDuration::from_millis(heard)),
    ]
}

fn of_step(step: &Circuits, pauses_seen: bool) -> Vec<String> {
    let [paused_by, left] = paused(step.paused.as_ref(), pauses_seen);
    vec![
        step.step.clone(),
        known(step.circuits.map(|circuits| circuits.closed)),
        known(step.circuits.map(|circuits| circuits.half_open)),
        known(step.circuits.map(|circuits| circuits.open)),
        paused_by,
        left,
    ]
}

fn of_database(status: &FleetStatus) -> String {
    let database = &status.database;
    let answers = match database.ping_ms {
        Some(millis) => format!("answers in {millis} ms"),
        None => "does not answer".to_owned(),
    };
    let oldest = match database.oldest_due {
        Some(OldestDue::At(at)) if at > Timestamp::now() => format!("due in {}", age(Timestamp::now(), at)),
        Some(OldestDue::At(at)) => format!("due since {}", age(at, Timestamp::now())),
        Some(OldestDue::Nothing) => "none waits".to_owned(),
        None => UNKNOWN.to_owned(),
    };
    format!(
        "database      {answers}\norders        {} under way, {} of them held, {} owe a publish; next try: {oldest}\n\
         dead letters  {}",
        known(database.under_way),
        known(database.held),
        known(database.owing),
        known(status.dead_letters),
    )
}

fn of_pauses(pauses: &[Pause]) -> String {
    table(PauseRow::HEADER, pauses.iter().cloned().map(|pause| PauseRow(pause).cells()))
}

/// By whom, and for how long.
fn paused(pause: Option<&Pause>, pauses_seen: bool) -> [String; 2] {
    match pause {
        Some(pause) => [pause.owner.clone(), left_of(pause)],
        None if pauses_seen => [NONE, NONE].map(str::to_owned),
        None => [UNKNOWN, UNKNOWN].map(str::to_owned),
    }
}

fn known(figure: Option<impl Display>) -> String {
    figure.map_or_else(|| UNKNOWN.to_owned(), |figure| figure.to_string())
}

fn rate(per_second: f64) -> String {
    format!("{per_second:.1}")
}
