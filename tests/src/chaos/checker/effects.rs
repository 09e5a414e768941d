//! What the services did: each step once, all or nothing, and no unit or penny more or less.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use rust_decimal::Decimal;

use super::{
    Violation,
    verdict::{Class, Report},
};
use crate::{
    SERVICES,
    chaos::{Attempt, Calls, Evidence, Holdings, Identity, Instance, Stored},
};

pub(super) fn check(evidence: &Evidence, violations: &mut Vec<Violation>) {
    once(evidence, violations);
    attempted(evidence, violations);
    all_or_nothing(evidence, violations);
    quiet(evidence, violations);
    conserved(evidence, violations);
}

fn once(evidence: &Evidence, violations: &mut Vec<Violation>) {
    for (instance, calls) in &evidence.ledgers_later {
        if calls.done > 1 || calls.undone > 1 {
            let rule = "a step of a run takes effect at most once";
            violations.found(Class::Duplicated, rule, &instance.order_id, shown(instance, *calls));
        }
        if calls.undone > calls.done {
            let rule = "only what was done is undone";
            violations.found(Class::Duplicated, rule, &instance.order_id, shown(instance, *calls));
        }
    }
}

fn attempted(evidence: &Evidence, violations: &mut Vec<Violation>) {
    let known: BTreeSet<_> = evidence.clients.attempts.keys().map(|identity| &identity.order_id).collect();
    for (instance, calls) in &evidence.ledgers_later {
        if !known.contains(&instance.order_id) {
            let rule = "only what clients posted takes effect";
            violations.found(Class::Unexpected, rule, &instance.order_id, shown(instance, *calls));
        } else if !evidence.stored.contains_key(&instance.order_id) {
            let rule = "only a stored order takes effect";
            violations.found(Class::HalfDone, rule, &instance.order_id, shown(instance, *calls));
        }
    }
}

fn all_or_nothing(evidence: &Evidence, violations: &mut Vec<Violation>) {
    let calls = |order_id: &str, generation, step: &str| {
        let instance = Instance { order_id: order_id.to_owned(), generation, step: step.to_owned() };
        evidence.ledgers_later.get(&instance).copied().unwrap_or_default()
    };
    for (id, stored) in &evidence.stored {
        for generation in 1..=stored.generation {
            let net = |step: &str| calls(id, generation, step).net();
            let wrong: Vec<_> = (0..)
                .zip(SERVICES)
                .filter(|(index, step)| {
                    let is_ahead =
                        stored.phase == "RUN" && *index > 0 && net(step) > net(SERVICES[index - 1]);
                    is_ahead || !allowed_net(stored, generation, *index).contains(&net(step))
                })
                .map(|(_, step)| format!("{step} {}", net(step)))
                .collect();
            if !wrong.is_empty() {
                let found = format!(
                    "{} at step {} in run {generation} of {}: {}",
                    stored.phase,
                    stored.cur,
                    stored.generation,
                    wrong.join(", ")
                );
                violations.found(Class::HalfDone, rule(stored, generation), id, found);
            }
        }
    }
}

/// What a step of a run may come to.
fn allowed_net(stored: &Stored, generation: u64, step: usize) -> RangeInclusive<i64> {
    match stored.phase.as_str() {
        _ if generation < stored.generation => 0..=0,
        // In both phases, what is below the step it stands at is done and what is above is not, or has been undone.
        _ if stored.is_held() && step < stored.cur => 1..=1,
        // Steps that were declared together are recorded together.
        "RUN" if stored.is_held() && step > stored.cur && step <= stored.hi => 0..=1,
        _ if stored.is_held() && step > stored.cur => 0..=0,
        "DONE" if !stored.is_held() => 1..=1,
        "UNDONE" if !stored.is_held() => 0..=0,
        _ => 0..=1,
    }
}

fn rule(stored: &Stored, generation: u64) -> &'static str {
    match stored.phase.as_str() {
        _ if generation < stored.generation => "a run that was followed by another has no net effect",
        _ if stored.is_held() => "a held order's effects are what its document says",
        "DONE" => "a done order has one effect at every step",
        "UNDONE" => "an undone run has no net effect",
        _ => "a step has one effect or none",
    }
}

/// Nothing happens any more once everything has ended.
fn quiet(evidence: &Evidence, violations: &mut Vec<Violation>) {
    for (instance, calls) in &evidence.ledgers_later {
        let before = evidence.ledgers.get(instance).copied().unwrap_or_default();
        if (before.done, before.undone) != (calls.done, calls.undone) {
            let found = format!("{}, before {} and {}", shown(instance, *calls), before.done, before.undone);
            violations.found(Class::Unexpected, "an ended order stays as it is", &instance.order_id, found);
        }
    }
}

/// The services' own books say what the orders add up to.
fn conserved(evidence: &Evidence, violations: &mut Vec<Violation>) {
    let (wanted, holdings) = (expected_holdings(evidence), &evidence.holdings);
    compare("stock", &wanted.reserved, &holdings.reserved, violations);
    compare("shipments", &wanted.shipments, &holdings.shipments, violations);
    let named = |books: &BTreeMap<(String, String), Decimal>| -> BTreeMap<String, Decimal> {
        books
            .iter()
            .map(|((account, currency), sum)| (format!("{account} {currency}"), sum.normalize()))
            .collect()
    };
    compare("money", &named(&wanted.receivable), &named(&holdings.receivable), violations);
    for currency in &holdings.unbalanced {
        violations.found(Class::Unexpected, "debits equal credits", currency, "they differ");
    }
}

fn expected_holdings(evidence: &Evidence) -> Holdings {
    let mut holdings = Holdings::default();
    for (id, stored) in &evidence.stored {
        let identity = Identity { order_id: id.clone(), fp: stored.fp.clone() };
        let Some(attempt) = evidence.clients.attempts.get(&identity) else { continue };
        let counts = |step: &str| match stored.phase.as_str() {
            _ if stored.is_held() => evidence.net(id, step) > 0,
            phase => phase == "DONE",
        };
        holdings.add(id, attempt, counts);
    }
    holdings
}

impl Holdings {
    fn add(&mut self, order_id: &str, attempt: &Attempt, counts: impl Fn(&str) -> bool) {
        let [inventory, fulfilment, accounting] = SERVICES;
        if counts(inventory) {
            for (sku, units) in &attempt.units {
                *self.reserved.entry(sku.clone()).or_default() += units;
            }
        }
        if counts(fulfilment) {
            *self.shipments.entry(order_id.to_owned()).or_default() += 1;
        }
        if counts(accounting) {
            let account = (attempt.account.clone(), attempt.currency.clone());
            *self.receivable.entry(account).or_default() += attempt.total;
        }
    }
}

impl Evidence {
    /// What is left of a step over all runs.
    fn net(&self, order_id: &str, step: &str) -> i64 {
        let first = Instance { order_id: order_id.to_owned(), generation: 0, step: String::new() };
        let of_order = self.ledgers_later.range(first..).take_while(|(found, _)| found.order_id == order_id);
        of_order.filter(|(found, _)| found.step == step).map(|(_, calls)| calls.net()).sum()
    }
}

fn compare<T: PartialEq + std::fmt::Debug>(
    what: &str,
    wanted: &BTreeMap<String, T>,
    found: &BTreeMap<String, T>,
    violations: &mut Vec<Violation>,
) {
    let names: BTreeSet<_> = wanted.keys().chain(found.keys()).collect();
    for name in names {
        if wanted.get(name) != found.get(name) {
            let found =
                format!("the orders come to {:?}, the service holds {:?}", wanted.get(name), found.get(name));
            let rule = "stock, shipments and money are what the orders come to";
            violations.found(Class::Unexpected, rule, &format!("{what} {name}"), found);
        }
    }
}

fn shown(instance: &Instance, calls: Calls) -> String {
    let Instance { generation, step, .. } = instance;
    format!("{step} of run {generation}: done {}, undone {}", calls.done, calls.undone)
}
