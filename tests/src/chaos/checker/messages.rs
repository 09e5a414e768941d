//! What the fleet said about its orders: events and dead letters, and nothing left over.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use super::{
    Violation,
    verdict::{Class, Report},
};
use crate::{
    SERVICES,
    chaos::{Evidence, Identity, Parked, Stored},
};

const COMPLETED: &str = "order.completed";
const CANCELLED: &str = "order.cancelled";
const FAILED: &str = "order.failed";
const POISON: &str = "orders.dead.poison";

pub(super) fn check(evidence: &Evidence, violations: &mut Vec<Violation>) {
    events_of_orders(evidence, violations);
    orders_of_events(evidence, violations);
    dead_letters_of_orders(evidence, violations);
    orders_of_dead_letters(evidence, violations);
    doubled_dead_letters(evidence, violations);
    unread_dead_letters(evidence, violations);
    poison(evidence, violations);
    for (queue, depth) in &evidence.left_in_queues {
        violations.found(Class::HalfDone, "queues drain", queue, format!("{depth} messages"));
    }
}

/// Which terminal event an order must have.
fn wanted_event(stored: &Stored) -> Option<&'static str> {
    match stored.phase.as_str() {
        "DONE" => Some(COMPLETED),
        "UNDONE" if stored.is_final => Some(CANCELLED),
        "UNDONE" => Some(FAILED),
        _ => None,
    }
}

fn events_of_orders(evidence: &Evidence, violations: &mut Vec<Violation>) {
    let published: BTreeSet<_> =
        evidence.events.iter().map(|event| (&*event.order_id, event.generation, &*event.kind)).collect();
    for (id, stored) in &evidence.stored {
        if let Some(kind) = wanted_event(stored)
            && !published.contains(&(id, stored.generation, kind))
        {
            violations.found(Class::Lost, "every ended order has its event", id, format!("no {kind}"));
        }
    }
}

fn orders_of_events(evidence: &Evidence, violations: &mut Vec<Violation>) {
    let mut ids: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    let mut cancelled: BTreeMap<&str, u64> = BTreeMap::new();
    for event in &evidence.events {
        let (id, kind) = (&*event.order_id, &*event.kind);
        ids.entry((id, event.generation, kind)).or_default().insert(&*event.id);
        if cancelled.contains_key(id) && kind == COMPLETED {
            let rule = "nothing is completed after it was cancelled";
            violations.found(Class::Unexpected, rule, id, format!("run {}", event.generation));
        }
        if kind == CANCELLED {
            cancelled.insert(id, event.generation);
        }
        if !is_founded(evidence.stored.get(id), event.generation, kind) {
            let found = format!("{kind} of run {}", event.generation);
            violations.found(Class::Unexpected, "every event is about an order that ended so", id, found);
        }
    }
    for ((id, generation, kind), ids) in ids {
        if ids.len() > 1 {
            let found = format!("{kind} of run {generation}: {ids:?}");
            violations.found(Class::Duplicated, "repeats of an event have one id", id, found);
        }
    }
}

/// A run that failed may be cancelled or followed by another later, so that its event, and its dead letter, stay true.
fn is_founded(stored: Option<&Stored>, generation: u64, kind: &str) -> bool {
    let Some(stored) = stored else { return false };
    match kind {
        COMPLETED => stored.phase == "DONE" && stored.generation == generation,
        CANCELLED => stored.phase == "UNDONE" && stored.is_final && stored.generation == generation,
        FAILED => match generation.cmp(&stored.generation) {
            Ordering::Less => true,
            Ordering::Equal => stored.phase == "UNDONE",
            Ordering::Greater => false,
        },
        _ => true,
    }
}

fn dead_letters_of_orders(evidence: &Evidence, violations: &mut Vec<Violation>) {
    let parked: BTreeSet<_> = evidence
        .parked
        .iter()
        .filter_map(|parked| {
            Some((kind_of(&parked.queue), &*parked.about.as_ref()?.order_id, parked.generation))
        })
        .collect();
    let is_parked = |kind, id: &str, generations: RangeInclusive<u64>| {
        generations.into_iter().any(|generation| parked.contains(&(kind, id, generation)))
    };
    for (id, stored) in &evidence.stored {
        let wanted = match stored.phase.as_str() {
            _ if stored.is_held() && evidence.crashes_workers(id) => [Kind::Held, Kind::Poison].as_slice(),
            _ if stored.is_held() => &[Kind::Held],
            "UNDONE" if !stored.is_final => &[Kind::Failed],
            _ => continue,
        };
        // What is held may be told by a message about an earlier run.
        let generations =
            if stored.is_held() { 0..=stored.generation } else { stored.generation..=stored.generation };
        if !wanted.iter().any(|kind| is_parked(*kind, id, generations.clone())) {
            let found = format!("no dead letter ({wanted:?})");
            violations.found(Class::Lost, "what waits for a person is parked", id, found);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Failed,
    Held,
    Conflict,
    Poison,
    Other,
}

fn kind_of(queue: &str) -> Kind {
    match queue.strip_prefix("orders.dead.") {
        Some("held") => Kind::Held,
        Some("conflict") => Kind::Conflict,
        Some("poison") => Kind::Poison,
        Some(step) if SERVICES.contains(&step) => Kind::Failed,
        _ => Kind::Other,
    }
}

fn orders_of_dead_letters(evidence: &Evidence, violations: &mut Vec<Violation>) {
    for parked in &evidence.parked {
        let Parked { queue, about, .. } = parked;
        let stored = about.as_ref().and_then(|about| evidence.stored.get(&about.order_id));
        let founded = match (kind_of(queue), stored) {
            (Kind::Held, Some(stored)) => stored.is_held() || evidence.releases(about.as_ref()) > 0,
            (Kind::Failed, stored) => is_founded(stored, parked.generation, FAILED),
            (Kind::Conflict, Some(stored)) => about.as_ref().is_some_and(|about| about.fp != stored.fp),
            (Kind::Held | Kind::Conflict, None) => false,
            // Poison has rules of its own.
            (Kind::Poison, _) => true,
            (Kind::Other, _) => false,
        };
        if !founded {
            let about = about.as_ref().map_or("", |about| &about.order_id);
            let found = format!("in {queue}: {stored:?}");
            violations.found(Class::Unexpected, "every dead letter has its reason", about, found);
        }
    }
}

/// A dead letter that comes again is the same one. An order fails once in a run, and is held once and once more after each
/// release. What crashes workers may be several messages about an order.
fn doubled_dead_letters(evidence: &Evidence, violations: &mut Vec<Violation>) {
    let mut ids: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for Parked { id, queue, about, generation, .. } in &evidence.parked {
        let Some(about) = about else { continue };
        let group = match kind_of(queue) {
            kind @ (Kind::Failed | Kind::Held) => (kind, &about.order_id, *generation, ""),
            Kind::Conflict => (Kind::Conflict, &about.order_id, 0, about.fp.as_str()),
            Kind::Poison | Kind::Other => continue,
        };
        ids.entry(group).or_default().insert(id);
    }
    for ((kind, order_id, generation, _), ids) in ids {
        let releases = evidence.asked.releases.get(order_id).map_or(0, BTreeSet::len);
        let allowed = if kind == Kind::Held { 1 + releases } else { 1 };
        if ids.len() > allowed {
            let found = format!("{kind:?} in run {generation}: {ids:?}");
            violations.found(Class::Duplicated, "repeats of a dead letter have one id", order_id, found);
        }
    }
}

/// No fault ends workers over a dead letter, whatever else ended those that had it in hand.
fn unread_dead_letters(evidence: &Evidence, violations: &mut Vec<Violation>) {
    for Parked { id, queue, .. } in &evidence.parked {
        if id.split('.').any(|part| part == "unread") {
            violations.found(Class::Unexpected, "every dead letter is read", queue, id);
        }
    }
}

fn poison(evidence: &Evidence, violations: &mut Vec<Violation>) {
    let innocent = |parked: &&Parked| {
        let about = parked.about.as_ref();
        parked.queue == POISON && !about.is_some_and(|about| evidence.crashes_workers(&about.order_id))
    };
    let parked: BTreeSet<_> = evidence.parked.iter().filter(innocent).map(|parked| &parked.body).collect();
    let confirmed = evidence.poison.iter().filter(|(_, confirmed)| **confirmed).map(|(body, _)| body);
    for body in confirmed.filter(|body| !parked.contains(body)) {
        violations.found(Class::Lost, "what nobody can read is parked", POISON, body);
    }
    for body in parked.into_iter().filter(|body| !evidence.poison.contains_key(*body)) {
        violations.found(
            Class::Unexpected,
            "only what nobody can read, or crashes workers, is poison",
            POISON,
            body,
        );
    }
}

impl Evidence {
    /// How many holds of an order were to be released.
    fn releases(&self, about: Option<&Identity>) -> usize {
        about.and_then(|about| self.asked.releases.get(&about.order_id)).map_or(0, BTreeSet::len)
    }
}
