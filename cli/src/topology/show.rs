//! Differences, plans and what came of them, for people and for programs.

use orderfleet_operations::topology::{Applied, Diff, Drift, Plan, Step};
use serde::Serialize;

use crate::output::{Output, Row, table};

/// Prints what differs; to people also, on stderr, what could not be seen.
pub(super) fn diff(diff: &Diff, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Table if diff.is_equal() => {}
        Output::Json => output.print(diff, "")?,
        Output::Table | Output::Jsonl => {
            let rows: Vec<_> = diff.drifts.iter().map(DriftRow).collect();
            output.print_rows(&rows)?;
        }
    }
    eprintln!("{} exchanges and queues compared, {} differences", diff.compared, diff.drifts.len());
    if !diff.bindings_visible {
        eprintln!(
            "bindings, and all arguments of a queue, are not visible without the management API (--management-url)"
        );
    }
    Ok(())
}

/// Prints the steps; notes and the plan's id go to stderr for people, and into the JSON.
pub(super) fn plan(plan: &Plan, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Json => output.print(plan, "")?,
        Output::Table if plan.steps.is_empty() => {}
        Output::Table | Output::Jsonl => {
            let rows: Vec<_> = numbered(&plan.steps).collect();
            output.print_rows(&rows)?;
        }
    }
    for note in &plan.notes {
        eprintln!("note: {note}");
    }
    let own = plan.own_steps().count();
    eprintln!("plan {}: {own} steps for `apply`, {} for people", plan.id, plan.steps.len() - own);
    Ok(())
}

/// Prints what came of each step, and what is left to people.
pub(super) fn applied(plan: &Plan, applied: &[Applied], output: Output) -> anyhow::Result<()> {
    match output {
        Output::Json => output.print(&Outcome { plan: &plan.id, applied }, "")?,
        Output::Jsonl => output.print_rows(&applied.iter().map(AppliedRow).collect::<Vec<_>>())?,
        Output::Table => {
            let rows = applied.iter().map(|applied| AppliedRow(applied).cells());
            output.print(&(), &table(AppliedRow::HEADER, rows))?;
        }
    }
    let done = applied.iter().filter(|applied| applied.done).count();
    let left = plan.steps.len() - applied.len();
    eprintln!("plan {}: {done} of {} steps done, {left} left to people", plan.id, applied.len());
    if left > 0 {
        eprintln!("next:  orderfleet topology plan");
    }
    Ok(())
}

#[derive(Serialize)]
struct Outcome<'a> {
    plan: &'a str,
    applied: &'a [Applied],
}

#[derive(Serialize)]
#[serde(transparent)]
struct DriftRow<'a>(&'a Drift);

impl Row for DriftRow<'_> {
    const HEADER: &'static [&'static str] =
        &["NAME", "KIND", "STATE", "ARGUMENT", "DECLARED", "BROKER", "MESSAGES", "CONSUMERS"];

    fn cells(&self) -> Vec<String> {
        let Drift { kind, name, state, argument, declared, current, messages, consumers, .. } = self.0;
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        let messages = messages.map(|count| count.to_string());
        let consumers = consumers.map(|count| count.to_string());
        vec![
            name.clone(),
            (*kind).to_owned(),
            state.as_str().to_owned(),
            text(argument),
            text(declared),
            text(current),
            text(&messages),
            text(&consumers),
        ]
    }
}

#[derive(Serialize)]
struct StepRow<'a> {
    step: usize,
    #[serde(flatten)]
    what: &'a Step,
}

fn numbered(steps: &[Step]) -> impl Iterator<Item = StepRow<'_>> {
    steps.iter().enumerate().map(|(index, what)| StepRow { step: index + 1, what })
}

impl Row for StepRow<'_> {
    const HEADER: &'static [&'static str] = &["STEP", "BY", "DO", "NAME", "WHAT", "NOW"];

    fn cells(&self) -> Vec<String> {
        let Step { by, action, kind, name, what, now } = self.what;
        let name = if name.is_empty() { (*kind).to_owned() } else { format!("{kind} {name}") };
        let now = now.clone().unwrap_or_else(|| "-".into());
        let (by, action) = (by.as_str().to_owned(), action.as_str().to_owned());
        vec![self.step.to_string(), by, action, name, what.clone(), now]
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct AppliedRow<'a>(&'a Applied);

impl Row for AppliedRow<'_> {
    const HEADER: &'static [&'static str] = &["NAME", "DO", "DONE", "TROUBLE"];

    fn cells(&self) -> Vec<String> {
        let Applied { step, done, trouble } = self.0;
        let done = if *done { "yes" } else { "no" };
        vec![
            format!("{} {}", step.kind, step.name),
            step.action.as_str().to_owned(),
            done.to_owned(),
            trouble.clone().unwrap_or_else(|| "-".into()),
        ]
    }
}
