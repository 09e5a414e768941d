//! Every accepted body has one disposition: done, undone, held, or a recorded conflict.

use std::collections::BTreeSet;

use super::{
    Counts, Violation,
    verdict::{Class, Report},
};
use crate::chaos::{Evidence, Identity, Stored};

const CONFLICTS: &str = "orders.dead.conflict";

/// How an accepted body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disposition {
    Done,
    Undone,
    Held,
    Conflict,
}

pub(super) fn check(evidence: &Evidence, violations: &mut Vec<Violation>) -> Counts {
    let attempts = &evidence.clients.attempts;
    let conflicts = recorded_conflicts(evidence);
    let mut counts = Counts { attempted: attempts.len(), ..Counts::default() };
    for (identity, attempt) in attempts {
        let disposition = disposition(evidence, &conflicts, identity, violations);
        if attempt.accepted {
            counts.accepted += 1;
            count(&mut counts, disposition);
        } else if matches!(disposition, Some(Disposition::Done | Disposition::Undone | Disposition::Held)) {
            counts.recovered += 1;
        }
        if attempt.accepted && disposition.is_none() && !evidence.stands_still(identity) {
            let found = "neither a document nor a recorded conflict";
            violations.found(Class::Lost, "an accepted order is kept", &identity.order_id, found);
        }
    }
    strangers(evidence, &conflicts, violations);
    stored_orders(evidence, violations);
    shown_endings(evidence, violations);
    for answer in &evidence.clients.broken_answers {
        violations.found(Class::Unexpected, "answers keep to the contract", "", answer);
    }
    counts
}

fn count(counts: &mut Counts, disposition: Option<Disposition>) {
    match disposition {
        Some(Disposition::Done) => counts.done += 1,
        Some(Disposition::Undone) => counts.undone += 1,
        Some(Disposition::Held) => counts.held += 1,
        Some(Disposition::Conflict) => counts.conflict += 1,
        None => {}
    }
}

fn disposition(
    evidence: &Evidence,
    conflicts: &BTreeSet<Identity>,
    identity: &Identity,
    violations: &mut Vec<Violation>,
) -> Option<Disposition> {
    let executed = evidence.stored.get(&identity.order_id).filter(|stored| stored.fp == identity.fp);
    let conflict = conflicts.contains(identity);
    if executed.is_some() && conflict {
        let rule = "a body is executed or a conflict, never both";
        violations.found(Class::Unexpected, rule, &identity.order_id, &identity.fp);
    }
    match executed {
        Some(stored) => ending(stored),
        None => conflict.then_some(Disposition::Conflict),
    }
}

fn ending(stored: &Stored) -> Option<Disposition> {
    match stored.phase.as_str() {
        _ if stored.is_held() => Some(Disposition::Held),
        "DONE" => Some(Disposition::Done),
        "UNDONE" => Some(Disposition::Undone),
        _ => None,
    }
}

/// Conflicts as people can see them: in the document, or as a dead letter.
fn recorded_conflicts(evidence: &Evidence) -> BTreeSet<Identity> {
    let noted = evidence.stored.iter().flat_map(|(id, stored)| {
        stored.conflicts.iter().map(|fp| Identity { order_id: id.clone(), fp: fp.clone() })
    });
    let parked = evidence.parked.iter().filter(|parked| parked.queue == CONFLICTS);
    noted.chain(parked.filter_map(|parked| parked.about.clone())).collect()
}

/// Nothing is stored that no client has posted.
fn strangers(evidence: &Evidence, conflicts: &BTreeSet<Identity>, violations: &mut Vec<Violation>) {
    let stored =
        evidence.stored.iter().map(|(id, stored)| Identity { order_id: id.clone(), fp: stored.fp.clone() });
    for identity in stored.chain(conflicts.iter().cloned()) {
        if !evidence.clients.attempts.contains_key(&identity) {
            let rule = "only what clients posted is stored";
            violations.found(Class::Unexpected, rule, &identity.order_id, identity.fp);
        }
    }
}

fn stored_orders(evidence: &Evidence, violations: &mut Vec<Violation>) {
    for (id, stored) in &evidence.stored {
        if ending(stored).is_none() {
            let found = format!("{} in run {}", stored.phase, stored.generation);
            violations.found(Class::HalfDone, "every order ends or is held", id, found);
        }
        if stored.owes {
            violations.found(Class::Lost, "no publish stays owed", id, &stored.phase);
        }
        let refused = || evidence.of_run(id, stored.generation).any(|calls| calls.undos_refused > 0);
        if stored.is_held() && !refused() && !evidence.crashes_workers(id) {
            let rule = "only an order whose undo was refused, or that crashes workers, is held";
            violations.found(Class::Unexpected, rule, id, "neither is so");
        }
    }
}

/// What a client was once told about an order's end stays true.
fn shown_endings(evidence: &Evidence, violations: &mut Vec<Violation>) {
    for (id, shown) in &evidence.clients.shown {
        let stored = evidence.stored.get(id).map_or("nothing", |stored| stored.phase.as_str());
        if shown.iter().any(|end| end != stored) {
            let found = format!("shown {shown:?}, stored {stored}");
            violations.found(Class::Unexpected, "an end that was shown stays", id, found);
        }
    }
}

impl Evidence {
    /// Whether the order is stored with this body and has not ended: reported as such, not as lost.
    fn stands_still(&self, identity: &Identity) -> bool {
        self.stored.get(&identity.order_id).is_some_and(|stored| stored.fp == identity.fp)
    }
}
