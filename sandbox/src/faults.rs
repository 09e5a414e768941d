//! Decides which of the fault rules in force a call runs into, and counts how often each one fired.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::call::{Refusal, Verb};
use crate::order::Order;
use crate::rules::{Fault, Rule};

/// The rules in force. They are tried in order, and of each sort (delay, failure, refusal, lost reply) the
/// first one that fires counts.
pub(crate) struct Faults {
    seed: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rules: Vec<Armed>,
    /// Calls seen per service, verb and instance. Counted only while some rule has a share.
    calls: HashMap<String, u64>,
}

struct Armed {
    rule: Rule,
    fired: u64,
}

/// A call as the rules see it.
pub(crate) struct Target<'a> {
    service: &'static str,
    verb: Verb,
    instance: &'a str,
    order: Option<&'a Order>,
    /// This is the how-manieth call of its kind, so that a share picks the same calls in every run, in
    /// whatever order the calls of different orders arrive.
    nth: u64,
}

/// A call that ends here, without effect.
pub(crate) enum Failure {
    Error,
    Unavailable,
    Hang,
}

impl Faults {
    pub(crate) fn new(rules: Vec<Rule>, seed: u64) -> Self {
        let faults = Self { seed, state: Mutex::default() };
        faults.replace(rules);
        faults
    }

    pub(crate) fn replace(&self, rules: Vec<Rule>) {
        *self.state() = State { rules: rules.into_iter().map(Armed::new).collect(), calls: HashMap::new() };
    }

    pub(crate) fn add(&self, rule: Rule) {
        self.state().rules.push(Armed::new(rule));
    }

    /// The rules as JSON, each with the number of times it fired: evidence that a planned fault happened.
    pub(crate) fn list(&self) -> Vec<impl Serialize + use<>> {
        self.state().rules.iter().map(|armed| armed.rule.listed(armed.fired)).collect()
    }

    /// Takes note of a call before anything is decided about it.
    pub(crate) fn arrive<'a>(
        &self,
        service: &'static str,
        verb: Verb,
        instance: &'a str,
        order: Option<&'a Order>,
    ) -> Target<'a> {
        let nth = self.state().count(service, verb, instance);
        Target { service, verb, instance, order, nth }
    }

    /// How long this call waits before it is looked at.
    pub(crate) fn delay(&self, target: &Target<'_>) -> Option<Duration> {
        self.fire(target, |fault| match fault {
            Fault::Latency(delay) => Some(*delay),
            _ => None,
        })
    }

    /// How this call fails before it has an effect, if it does.
    pub(crate) fn failure(&self, target: &Target<'_>) -> Option<Failure> {
        self.fire(target, |fault| match fault {
            Fault::Error => Some(Failure::Error),
            Fault::Unavailable => Some(Failure::Unavailable),
            Fault::Hang => Some(Failure::Hang),
            _ => None,
        })
    }

    /// The business refusal scripted for this call. Asked only where the call would have an effect.
    pub(crate) fn refusal(&self, target: &Target<'_>) -> Option<Refusal> {
        self.fire(target, |fault| match fault {
            Fault::Refuse => Some(Refusal::new("refused_by_rule", "a fault rule refuses this call")),
            Fault::RefuseSku(sku) => target
                .order?
                .has_sku(sku)
                .then(|| Refusal::new("sku_refused", format!("{sku} is refused by a fault rule"))),
            Fault::RefuseCountry(country) => (target.order?.country() == Some(country))
                .then(|| Refusal::new("country_refused", format!("{country} is refused by a fault rule"))),
            _ => None,
        })
    }

    /// Whether the answer to this call, which was judged and recorded, never leaves the house.
    pub(crate) fn loses_reply(&self, target: &Target<'_>) -> bool {
        self.fire(target, |fault| matches!(fault, Fault::LostReply).then_some(())).is_some()
    }

    fn fire<T>(&self, target: &Target<'_>, pick: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        let mut state = self.state();
        state.rules.iter_mut().enumerate().find_map(|(position, armed)| {
            let rule = &armed.rule;
            if !rule.is_for(target.service, target.verb) || !rule.is_live(armed.fired) {
                return None;
            }
            let picked = pick(&rule.fault)?;
            if !self.is_in_share(rule.share, position, target) {
                return None;
            }
            armed.fired += 1;
            Some(picked)
        })
    }

    fn is_in_share(&self, share: f64, position: usize, target: &Target<'_>) -> bool {
        if share >= 1.0 {
            return true;
        }
        let Target { service, verb, instance, nth, .. } = target;
        let digest = Sha256::digest(format!("{} {position} {service} {verb} {instance} {nth}", self.seed));
        let drawn = digest.iter().take(4).fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
        f64::from(drawn) / (f64::from(u32::MAX) + 1.0) < share
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while holding the rules")
    }
}

impl State {
    fn count(&mut self, service: &str, verb: Verb, instance: &str) -> u64 {
        if self.rules.iter().all(|armed| armed.rule.share >= 1.0) {
            return 0;
        }
        let calls = self.calls.entry(format!("{service} {verb} {instance}")).or_default();
        *calls += 1;
        *calls
    }
}

impl Armed {
    fn new(rule: Rule) -> Self {
        Self { rule, fired: 0 }
    }
}
