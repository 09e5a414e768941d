//! Decides which of the fault rules in force a call runs into, and counts how often each one fired.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::call::{Refusal, Verb};
use crate::order::Order;
use crate::rules::{Fault, Rule};

/// The rules in force. They are tried in order, and of each sort (delay, failure, refusal, lost reply) the
/// first one that fires counts.
pub(crate) struct Faults {
    seed: u64,
    state: Mutex<State>,
    /// Told whenever the rules are replaced, which lets go of the calls that hang under them.
    replaced: watch::Sender<()>,
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
    faults: &'a Faults,
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
    /// Never to be answered. The receiver is told when the rules are replaced.
    Hang(watch::Receiver<()>),
}

/// What a do would run into.
pub(crate) enum Foreseen {
    Nothing,
    /// No answer, or one that leaves open what became of it.
    Error,
    Refused(Refusal),
    /// Only with the order at hand could it be told.
    DependsOnOrder,
}

impl Faults {
    pub(crate) fn new(rules: Vec<Rule>, seed: u64) -> Self {
        let faults = Self { seed, state: Mutex::default(), replaced: watch::Sender::default() };
        faults.replace(rules);
        faults
    }

    /// Puts these rules in place of those in force. Calls that hang are let go, without an answer.
    pub(crate) fn replace(&self, rules: Vec<Rule>) {
        let mut state = self.state();
        *state = State { rules: rules.into_iter().map(Armed::new).collect(), calls: HashMap::new() };
        // Told under the lock under which calls begin to hang, so that none is missed.
        self.replaced.send_replace(());
    }

    pub(crate) fn add(&self, rule: Rule) {
        self.state().rules.push(Armed::new(rule));
    }

    /// The rules as JSON, each with the number of times it fired: evidence that a planned fault happened.
    pub(crate) fn list(&self) -> Vec<impl Serialize + use<>> {
        self.state().rules.iter().map(|armed| armed.rule.listed(armed.fired)).collect()
    }

    /// What the rules in force do with a do of this order, as far as they pick every call. Nothing is counted.
    pub(crate) fn foresee(&self, service: &str, order: Option<&Order>) -> Foreseen {
        let state = self.state();
        let certain: Vec<_> = state.rules.iter().filter(|armed| armed.picks_every_do(service)).collect();
        let faults = || certain.iter().map(|armed| &armed.rule.fault);
        if faults().any(|fault| leaves_unanswered(fault, order)) {
            return Foreseen::Error;
        }
        if order.is_none() && faults().any(depends_on_order) {
            return Foreseen::DependsOnOrder;
        }
        faults().find_map(|fault| refusal(fault, order)).map_or(Foreseen::Nothing, Foreseen::Refused)
    }

    /// Takes note of a call before anything is decided about it.
    pub(crate) fn arrive<'a>(
        &'a self,
        service: &'static str,
        verb: Verb,
        instance: &'a str,
        order: Option<&'a Order>,
    ) -> Target<'a> {
        let nth = self.state().count(service, verb, instance);
        Target { faults: self, service, verb, instance, order, nth }
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

impl Target<'_> {
    /// How long this call waits before it is looked at.
    pub(crate) fn delay(&self) -> Option<Duration> {
        self.fire(|fault| match fault {
            Fault::Latency(delay) => Some(*delay),
            _ => None,
        })
    }

    /// How this call fails before it has an effect, if it does.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.fire(|fault| match fault {
            Fault::Error => Some(Failure::Error),
            Fault::ErrorCountry(country) => {
                (self.order?.country() == Some(country)).then_some(Failure::Error)
            }
            Fault::Unavailable => Some(Failure::Unavailable),
            Fault::Hang => Some(Failure::Hang(self.faults.replaced.subscribe())),
            _ => None,
        })
    }

    /// The business refusal scripted for this call. Asked only where the call would have an effect.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.fire(|fault| refusal(fault, self.order))
    }

    /// Whether the service has forgotten that it did this already. Asked only where it did.
    pub(crate) fn ignores_keys(&self) -> bool {
        self.fire(|fault| matches!(fault, Fault::IgnoreKeys).then_some(())).is_some()
    }

    /// Whether the service has forgotten that this was undone. Asked only where it was.
    pub(crate) fn ignores_tombstones(&self) -> bool {
        self.fire(|fault| matches!(fault, Fault::IgnoreTombstones).then_some(())).is_some()
    }

    /// Whether the answer to this call, which was judged and recorded, never leaves the house.
    pub(crate) fn loses_reply(&self) -> bool {
        self.fire(|fault| matches!(fault, Fault::LostReply).then_some(())).is_some()
    }

    fn fire<T>(&self, pick: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        self.faults.fire(self, pick)
    }
}

/// The business refusal that a fault is for this order.
fn refusal(fault: &Fault, order: Option<&Order>) -> Option<Refusal> {
    match fault {
        Fault::Refuse => Some(Refusal::new("refused_by_rule", "a fault rule refuses this call")),
        Fault::RefuseSku(sku) => order?
            .has_sku(sku)
            .then(|| Refusal::new("sku_refused", format!("{sku} is refused by a fault rule"))),
        Fault::RefuseCountry(country) => (order?.country() == Some(country))
            .then(|| Refusal::new("country_refused", format!("{country} is refused by a fault rule"))),
        _ => None,
    }
}

/// Whether the caller cannot know what became of a do that a fault picks.
fn leaves_unanswered(fault: &Fault, order: Option<&Order>) -> bool {
    match fault {
        Fault::Error | Fault::Unavailable | Fault::Hang | Fault::LostReply => true,
        Fault::ErrorCountry(country) => order.is_some_and(|order| order.country() == Some(country)),
        _ => false,
    }
}

fn depends_on_order(fault: &Fault) -> bool {
    matches!(fault, Fault::RefuseSku(_) | Fault::RefuseCountry(_) | Fault::ErrorCountry(_))
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

    fn picks_every_do(&self, service: &str) -> bool {
        self.rule.picks_every_do(service, self.fired)
    }
}
