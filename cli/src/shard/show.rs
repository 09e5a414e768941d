//! Clusters, plans and what came of them, for people and for programs.

use std::collections::BTreeMap;

use orderfleet_operations::shards::{Applied, Difference, Look, Plan, Step, Whole};
use orderfleet_storage::{Balancer, Cluster, SeenFrom, Shard, ShardedCollection};
use serde::Serialize;

use crate::output::{Output, Row, table};

/// Prints how the cluster is; to people also, on stderr, what differs.
pub(super) fn status(looked: &Look, output: Output) -> anyhow::Result<()> {
    let Look { cluster, plan } = looked;
    let collections: Vec<_> = cluster.collections.iter().map(lies).collect();
    let value = StatusView {
        sharded: true,
        seen_from: cluster.seen_from,
        database: &cluster.database,
        primary: cluster.primary.as_deref(),
        shards: &cluster.shards,
        collections: &collections,
        whole: &plan.whole,
        balancer: &cluster.balancer,
        steps_left: plan.steps.len(),
        differences: &plan.differences,
        notes: &plan.notes,
    };
    output.print(&value, &status_text(cluster, &collections, &plan.whole))?;
    tell_notes(&plan.notes);
    tell_differences(&plan.differences);
    if !plan.steps.is_empty() {
        eprintln!("{} steps are left\nnext:  orderfleet shard plan", plan.steps.len());
    }
    Ok(())
}

/// Prints the steps; what is beside them goes to stderr for people, and into the JSON.
pub(super) fn plan(plan: &Plan, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Json => output.print(plan, "")?,
        Output::Table if plan.steps.is_empty() => {}
        Output::Table | Output::Jsonl => {
            output.print_rows(&plan.steps.iter().map(StepRow).collect::<Vec<_>>())?;
        }
    }
    if output == Output::Table {
        for Whole { collection, why } in &plan.whole {
            eprintln!("not sharded: {collection}: {why}");
        }
    }
    tell_notes(&plan.notes);
    tell_differences(&plan.differences);
    eprintln!(
        "plan {}: {} steps for `init`, {} for people",
        plan.id,
        plan.steps.len(),
        plan.differences.len()
    );
    Ok(())
}

/// Prints what came of each step.
pub(super) fn applied(plan: &Plan, applied: &[Applied], output: Output) -> anyhow::Result<()> {
    match output {
        Output::Json => output.print(&serde_json::json!({ "plan": plan.id, "applied": applied }), "")?,
        Output::Table | Output::Jsonl => {
            output.print_rows(&applied.iter().map(AppliedRow).collect::<Vec<_>>())?;
        }
    }
    let done = applied.iter().filter(|applied| applied.done).count();
    eprintln!("plan {}: {done} of {} steps done", plan.id, applied.len());
    tell_differences(&plan.differences);
    Ok(())
}

fn tell_notes(notes: &[String]) {
    for note in notes {
        eprintln!("note: {note}");
    }
}

fn tell_differences(differences: &[Difference]) {
    for Difference { subject, what, fix } in differences {
        eprintln!("differs: {subject}: {what}\n  fix: {fix}");
    }
}

#[derive(Serialize)]
struct StatusView<'a> {
    sharded: bool,
    seen_from: SeenFrom,
    database: &'a str,
    primary: Option<&'a str>,
    shards: &'a [Shard],
    collections: &'a [Lies<'a>],
    whole: &'a [Whole],
    balancer: &'a Balancer,
    steps_left: usize,
    differences: &'a [Difference],
    notes: &'a [String],
}

/// How a collection lies.
#[derive(Serialize)]
struct Lies<'a> {
    collection: &'a str,
    key: Option<&'a str>,
    /// How many ranges each shard has.
    ranges: BTreeMap<&'a str, usize>,
    zones: Vec<&'a str>,
    /// Nothing is left to move, as far as a router tells.
    settled: Option<bool>,
}

fn lies(collection: &ShardedCollection) -> Lies<'_> {
    let mut ranges = BTreeMap::new();
    for range in &collection.ranges {
        *ranges.entry(range.shard.as_str()).or_default() += 1;
    }
    let mut zones: Vec<_> = collection.zones.iter().map(|zoned| zoned.zone.as_str()).collect();
    zones.sort_unstable();
    zones.dedup();
    Lies {
        collection: collection.name,
        key: collection.key.as_deref(),
        ranges,
        zones,
        settled: collection.violation.as_ref().map(String::is_empty),
    }
}

fn status_text(cluster: &Cluster, collections: &[Lies<'_>], whole: &[Whole]) -> String {
    let shards = cluster.shards.iter().map(|shard| {
        let state = if shard.draining { "draining" } else { "ok" };
        vec![shard.name.clone(), joined(shard.zones.iter().map(String::as_str)), state.to_owned()]
    });
    let primary = cluster.primary.as_deref().unwrap_or("-");
    let sharded = collections.iter().map(|lies| {
        let ranges = lies.ranges.iter().map(|(shard, count)| format!("{shard}: {count}")).collect::<Vec<_>>();
        let key = lies.key.unwrap_or("not sharded").to_owned();
        let settled = lies.settled.map_or("-", |settled| if settled { "yes" } else { "no" });
        let zones = joined(lies.zones.iter().copied());
        vec![
            lies.collection.to_owned(),
            key,
            joined(ranges.iter().map(String::as_str)),
            zones,
            settled.to_owned(),
        ]
    });
    let whole = whole.iter().map(|whole| {
        let dash = || "-".to_owned();
        vec![whole.collection.to_owned(), "whole".to_owned(), primary.to_owned(), dash(), dash()]
    });
    format!(
        "{}\n\n{}\n\n{}",
        table(&["SHARD", "ZONES", "STATE"], shards),
        table(&["COLLECTION", "KEY", "RANGES", "ZONES", "SETTLED"], sharded.chain(whole)),
        balancer_text(&cluster.balancer)
    )
}

fn balancer_text(balancer: &Balancer) -> String {
    let Balancer { stopped, window, range_mib, working } = balancer;
    let state = match (stopped, working) {
        (true, _) => "stopped",
        (false, Some(true)) => "at work",
        (false, Some(false)) => "idle",
        (false, None) => "on",
    };
    let window =
        window.as_deref().map_or_else(|| "at all hours".to_owned(), |window| format!("within {window}"));
    let size = range_mib.map_or_else(|| "the server's size".to_owned(), |mib| format!("{mib} MiB"));
    format!("balancer: {state}, {window}, ranges of {size}")
}

fn joined<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.collect();
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

#[derive(Serialize)]
#[serde(transparent)]
struct StepRow<'a>(&'a Step);

impl Row for StepRow<'_> {
    const HEADER: &'static [&'static str] = &["DO", "NAME", "WHAT"];

    fn cells(&self) -> Vec<String> {
        vec![self.0.verb().to_owned(), self.0.subject(), self.0.what()]
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct AppliedRow<'a>(&'a Applied);

impl Row for AppliedRow<'_> {
    const HEADER: &'static [&'static str] = &["DO", "NAME", "WHAT", "DONE", "TROUBLE"];

    fn cells(&self) -> Vec<String> {
        let Applied { step, done, trouble, .. } = self.0;
        let done = if *done { "yes" } else { "no" };
        let trouble = trouble.clone().unwrap_or_else(|| "-".into());
        vec![step.verb().to_owned(), step.subject(), step.what(), done.to_owned(), trouble]
    }
}
