//! Why orders ended as they did: nothing is undone, cancelled or run again without a reason, and nothing that was asked for
//! vanishes.

use super::{
    Violation,
    verdict::{Class, Report},
};
use crate::chaos::{Calls, Evidence, Instance, Stored};

const CANCELLED: &str = "cancelled";
const REFUSED: &str = "refused";
const TECHNICAL: [&str; 3] = ["attempts_exhausted", "deadline_passed", "tombstone"];

pub(super) fn check(evidence: &Evidence, violations: &mut Vec<Violation>) {
    for (id, stored) in &evidence.stored {
        undone(evidence, id, stored, violations);
        runs(evidence, id, stored, violations);
        releases(evidence, id, stored, violations);
    }
    effects_of_runs(evidence, violations);
    cancels(evidence, violations);
    enough_done(evidence, violations);
}

fn undone(evidence: &Evidence, id: &str, stored: &Stored, violations: &mut Vec<Violation>) {
    let asked = evidence.clients.cancels.contains(id);
    let cause = stored.cause.as_deref();
    if cause == Some(CANCELLED) && !asked {
        let rule = "only what a customer cancels is cancelled";
        violations.found(Class::Unexpected, rule, id, "nobody asked for it");
    }
    if stored.is_held() || stored.phase != "UNDONE" {
        return;
    }
    let founded = match cause {
        Some(REFUSED) => evidence.was_refused(id, stored.generation),
        Some(CANCELLED) => true,
        Some(other) => TECHNICAL.contains(&other),
        None => false,
    };
    if !founded {
        let found = format!("undone in run {} because: {cause:?}", stored.generation);
        violations.found(Class::Unexpected, "every undone order has its reason", id, found);
    }
    if stored.is_final && is_technical(stored) && !asked {
        let rule = "only what is refused or cancelled is undone for good";
        violations.found(Class::Unexpected, rule, id, format!("{cause:?}"));
    }
}

/// Only a person has an order run again, and who asked for that was heard.
fn runs(evidence: &Evidence, id: &str, stored: &Stored, violations: &mut Vec<Violation>) {
    let asked = evidence.asked.runs.get(id).copied().unwrap_or(1);
    if stored.generation > asked {
        let found = format!("run {}, asked for {asked}", stored.generation);
        violations.found(Class::Unexpected, "a further run was asked for", id, found);
    }
    let confirmed = evidence.asked.runs_confirmed.get(id).copied().unwrap_or(1);
    if stored.generation < confirmed && !stored.is_final && !stored.is_held() {
        let found = format!("run {confirmed} was asked for and confirmed, found run {}", stored.generation);
        violations.found(Class::Lost, "a run that was asked for comes", id, found);
    }
}

/// What was released may be held again, but by another hold.
fn releases(evidence: &Evidence, id: &str, stored: &Stored, violations: &mut Vec<Violation>) {
    let confirmed = evidence.asked.releases_confirmed.get(id);
    if let (Some(hold), Some(confirmed)) = (&stored.hold, confirmed)
        && confirmed.contains(hold)
    {
        let found = format!("the release of {hold} was confirmed, and it is still in force");
        violations.found(Class::Lost, "a hold that was released is over", id, found);
    }
}

fn effects_of_runs(evidence: &Evidence, violations: &mut Vec<Violation>) {
    for Instance { order_id, generation, step } in evidence.ledgers_later.keys() {
        let stored = evidence.stored.get(order_id).map_or(*generation, |stored| stored.generation);
        if !(1..=stored).contains(generation) {
            let found = format!("{step} of run {generation}, stored is run {stored}");
            violations.found(Class::HalfDone, "calls belong to a run of their order", order_id, found);
        }
    }
}

/// What became of the cancels that were answered 202.
fn cancels(evidence: &Evidence, violations: &mut Vec<Violation>) {
    for id in &evidence.clients.cancels_accepted {
        // An order that is not stored is reported as lost, and one that is open as half-done.
        let Some(stored) = evidence.stored.get(id) else { continue };
        let heard = match stored.phase.as_str() {
            _ if stored.is_held() => true,
            "UNDONE" => stored.is_final,
            "DONE" => stored.cancel_too_late,
            _ => true,
        };
        if !heard {
            let found = format!("{}, and no word of the cancel", stored.phase);
            let rule = "an accepted cancel ends the order, or is recorded as too late";
            violations.found(Class::Lost, rule, id, found);
        }
    }
}

fn enough_done(evidence: &Evidence, violations: &mut Vec<Violation>) {
    let ended = evidence.stored.iter().filter(|(_, stored)| !stored.is_held());
    let failed = ended.clone().filter(|(id, stored)| {
        stored.phase == "UNDONE" && is_technical(stored) && !evidence.clients.cancels.contains(*id)
    });
    let (done, failed) = (ended.filter(|(_, stored)| stored.phase == "DONE").count(), failed.count());
    if done * 100 < evidence.done_percent_min * (done + failed) {
        let found = format!("{done} of {} that nobody refused or cancelled", done + failed);
        let rule = "most orders are done";
        violations.found(Class::Unexpected, rule, "", found);
    }
}

fn is_technical(stored: &Stored) -> bool {
    stored.cause.as_deref().is_some_and(|cause| TECHNICAL.contains(&cause))
}

impl Evidence {
    /// Whether a service refused a step of this run, by its ledger.
    fn was_refused(&self, order_id: &str, generation: u64) -> bool {
        self.of_run(order_id, generation).any(|calls| calls.dos_refused > 0)
    }

    /// What the ledgers hold of a run, step by step.
    pub(super) fn of_run(&self, order_id: &str, generation: u64) -> impl Iterator<Item = Calls> {
        let first = Instance { order_id: order_id.to_owned(), generation, step: String::new() };
        let of_run = self.ledgers_later.range(first..);
        of_run
            .take_while(move |(found, _)| found.order_id == order_id && found.generation == generation)
            .map(|(_, calls)| *calls)
    }
}
