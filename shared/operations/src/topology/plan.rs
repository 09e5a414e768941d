//! From differences to steps: those that `apply` does itself, and those that people have to do.

use std::collections::BTreeSet;

use data_encoding::HEXLOWER;
use orderfleet_messaging::{Binding, Topology};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{Diff, Drift, DriftState, diff::binding_name};

/// Of the hash; two digits each.
const ID_BYTES: usize = 6;

/// What would make the broker equal to the declared topology.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// A hash over what its steps do, without how much queues hold at the moment: another plan has another id.
    pub id: String,
    /// In the order they have to be done in.
    pub steps: Vec<Step>,
    /// What to know beside the steps.
    pub notes: Vec<String>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Who does it.
    pub by: By,
    /// What kind of step it is.
    pub action: Action,
    /// `exchange`, `queue`, `binding`, `bindings` or `fleet`.
    pub kind: &'static str,
    /// What it is done to.
    pub name: String,
    /// What is done, for people.
    pub what: String,
    /// How things stand now, where that matters. No part of the plan's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
}

/// Who does a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// `orderfleet topology apply --yes`.
    Apply,
    /// A person.
    Person,
}

/// What kind of step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "Step::what says it in full")]
pub enum Action {
    Declare,
    Stop,
    Drain,
    Check,
    Look,
    Switch,
    Bind,
    Start,
}

impl By {
    /// The word for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Person => "person",
        }
    }
}

impl Action {
    /// The word for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Declare => "declare",
            Self::Stop => "stop",
            Self::Drain => "drain",
            Self::Check => "check",
            Self::Look => "look",
            Self::Switch => "switch",
            Self::Bind => "bind",
            Self::Start => "start",
        }
    }
}

impl Plan {
    /// The steps that `apply` does.
    pub fn own_steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.by == By::Apply)
    }
}

/// What has to be done about the differences. `drained` names queues of which somebody has made sure that nothing is on its
/// way from them to a dead-letter exchange, which AMQP does not tell.
#[must_use]
pub fn plan(diff: &Diff, topology: &Topology, drained: &BTreeSet<String>) -> Plan {
    let mut steps: Vec<_> =
        of_state(diff, DriftState::Missing).filter(|drift| drift.kind != "binding").map(declare).collect();
    steps.extend(of_state(diff, DriftState::Unknown).map(look));
    let different = grouped(diff);
    let (quiet, busy): (Vec<_>, Vec<_>) = different.iter().partition(|drifts| is_quiet(drifts[0]));
    steps.extend(drain(&busy, topology));
    steps.extend(quiet.iter().map(|drifts| switch(drifts, drained)));
    steps.extend(bind(diff, topology));
    if !busy.is_empty() {
        steps.push(person(
            Action::Start,
            "fleet",
            "",
            "start producers and workers, with the present settings",
        ));
    }
    Plan { id: id(&steps), notes: notes(diff), steps }
}

fn of_state(diff: &Diff, state: DriftState) -> impl Iterator<Item = &Drift> {
    diff.drifts.iter().filter(move |drift| drift.state == state)
}

/// The differing exchanges and queues, each with all its differences.
fn grouped(diff: &Diff) -> Vec<Vec<&Drift>> {
    let mut groups: Vec<Vec<&Drift>> = Vec::new();
    for drift in of_state(diff, DriftState::Different) {
        match groups.last_mut().filter(|group| (group[0].kind, &group[0].name) == (drift.kind, &drift.name)) {
            Some(group) => group.push(drift),
            None => groups.push(vec![drift]),
        }
    }
    groups
}

/// An exchange holds nothing. A queue without a leader is told as empty, too: whoever deletes it asks it for a message first.
fn is_quiet(drift: &Drift) -> bool {
    drift.kind == "exchange" || (drift.messages, drift.consumers) == (Some(0), Some(0))
}

fn declare(drift: &Drift) -> Step {
    step(By::Apply, Action::Declare, drift.kind, &drift.name, "declare it".into())
}

fn look(drift: &Drift) -> Step {
    let why = drift.text.as_deref().unwrap_or("no answer");
    person(Action::Look, drift.kind, &drift.name, &format!("find out what is wrong with it: {why}"))
}

fn switch(drifts: &[&Drift], drained: &BTreeSet<String>) -> Step {
    let drift = drifts[0];
    let changes = changes(drifts);
    if drift.kind == "exchange" {
        let what = format!(
            "{changes}: take its declared bindings, delete it if nothing else is bound to it, declare it anew, bind"
        );
        return step(By::Apply, Action::Switch, drift.kind, &drift.name, what);
    }
    let is_classic = drifts.iter().any(|drift| {
        (drift.argument.as_deref(), drift.current.as_deref()) == (Some("x-queue-type"), Some("classic"))
    });
    let now = Some("empty and unused".to_owned());
    if is_classic || drift.counted || drained.contains(&drift.name) {
        let what = format!("{changes}: delete it if empty and unused, declare it anew, bind");
        return Step { now, ..step(By::Apply, Action::Switch, drift.kind, &drift.name, what) };
    }
    let what = format!(
        "{changes}: make sure that nothing is on its way from it to a dead-letter exchange, which AMQP does not tell: \
         `rabbitmqctl list_queues name messages` shows 0 for it; then add --drained {}, or name the management API with \
         --management-url",
        drift.name
    );
    Step { now, ..person(Action::Check, drift.kind, &drift.name, &what) }
}

/// A queue that holds messages is never deleted: they have to be worked off first, by processes with the settings that it was
/// declared with.
fn drain(busy: &[&Vec<&Drift>], topology: &Topology) -> Vec<Step> {
    if busy.is_empty() {
        return Vec::new();
    }
    let stop = "stop the producers, so that nothing new comes; leave the workers that run";
    let mut steps = vec![person(Action::Stop, "fleet", "", stop)];
    for drifts in busy {
        let drift = drifts[0];
        let emptied = emptied_by(topology, &drift.name);
        let what = format!("{}: wait until it is empty: {emptied}", changes(drifts));
        let count = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
        let consumers = count(drift.consumers.map(u64::from));
        let now = Some(format!("{} messages, {consumers} consumers", count(drift.messages)));
        steps.push(Step { now, ..person(Action::Drain, drift.kind, &drift.name, &what) });
    }
    let stop = "stop the workers, and make this plan again: the queues are empty and unused then";
    steps.push(person(Action::Stop, "fleet", "", stop));
    steps
}

fn emptied_by(topology: &Topology, queue: &str) -> &'static str {
    let own = topology.own_prefix();
    let rest = queue.strip_prefix(&own).unwrap_or(queue).trim_start_matches('.');
    match rest.split('.').next() {
        Some("wait") => "its messages leave by themselves when their time is over",
        Some("dead") => "a worker with the role `park` takes its dead letters into the database",
        _ => "workers work it off",
    }
}

fn bind(diff: &Diff, topology: &Topology) -> Vec<Step> {
    if !diff.bindings_visible {
        let count = topology.bindings().len();
        let what = format!("make all {count} declared bindings; those that are there stay as they are");
        return vec![step(By::Apply, Action::Bind, "bindings", "all", what)];
    }
    let missing = of_state(diff, DriftState::Missing).filter(|drift| drift.kind == "binding");
    let bind = |drift: &Drift| step(By::Apply, Action::Bind, "binding", &drift.name, "bind".into());
    missing.map(bind).collect()
}

fn notes(diff: &Diff) -> Vec<String> {
    let mut notes = Vec::new();
    if !diff.bindings_visible {
        notes.push(
            "bindings, and queues that nobody declares, are not visible without the management API (--management-url)"
                .to_owned(),
        );
    }
    for drift in of_state(diff, DriftState::Unexpected) {
        let holds = drift.messages.map_or_else(String::new, |messages| format!(", with {messages} messages"));
        notes.push(format!("{} {} is not declared{holds}; it is left alone", drift.kind, drift.name));
    }
    notes
}

fn changes(drifts: &[&Drift]) -> String {
    let change = |drift: &&Drift| match (&drift.argument, &drift.current, &drift.declared) {
        (Some(argument), Some(current), Some(declared)) => format!("{argument} is {current}, not {declared}"),
        (Some(argument), ..) => format!("{argument} differs"),
        _ => "it differs".to_owned(),
    };
    drifts.iter().map(change).collect::<Vec<_>>().join(", ")
}

fn person(action: Action, kind: &'static str, name: &str, what: &str) -> Step {
    step(By::Person, action, kind, name, what.to_owned())
}

fn step(by: By, action: Action, kind: &'static str, name: &str, what: String) -> Step {
    Step { by, action, kind, name: name.to_owned(), what, now: None }
}

fn id(steps: &[Step]) -> String {
    let mut hash = Sha256::new_with_prefix("orderfleet/topology-plan/1");
    for Step { by, action, kind, name, what, .. } in steps {
        for text in [by.as_str(), action.as_str(), kind, name, what] {
            hash.update(text);
            hash.update([0_u8]);
        }
    }
    HEXLOWER.encode(&hash.finalize()[..ID_BYTES])
}

/// The declared binding that a step names.
pub(super) fn named_binding<'a>(topology: &'a Topology, name: &str) -> Option<&'a Binding> {
    topology.bindings().iter().find(|binding| binding_name(binding) == name)
}

#[cfg(test)]
mod tests;
