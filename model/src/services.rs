//! The shop's services, which follow docs/DOWNSTREAM.md to the letter and not beyond.

use std::collections::{BTreeMap, BTreeSet};

use orderfleet_domain::{
    Fingerprint,
    saga::{CallOutcome, Input, Record, Verb, step_instance, step_key},
};

use crate::{Fault, Outcome, Property, Setup, World};

/// What the services keep, and what they have done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Services {
    /// Keys whose result is recorded.
    keys: BTreeSet<String>,
    /// By step instance: done, or undone, which also is what a tombstone is.
    instances: BTreeMap<String, bool>,
    /// What took effect, by run and step.
    pub(crate) effects: BTreeMap<(u32, u32), Effects>,
    /// Requests on their way whose sender has given up.
    pub(crate) late: Vec<Request>,
}

/// Effects of one step of one run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Effects {
    pub(crate) done: u8,
    pub(crate) undone: u8,
}

impl Services {
    /// A do that somebody else has sent.
    pub(crate) fn send_elsewhere(&mut self, setup: &Setup, record: &Record, step: u32) {
        let (generation, name) = (record.generation, record.step(step));
        self.late.push(Request {
            generation,
            step,
            verb: Verb::Do,
            instance: step_instance(setup.order_id(), generation, name),
            key: step_key(setup.order_id(), generation, name, Verb::Do),
            body: Some(record.fp.clone()),
        });
    }
}

impl Effects {
    pub(crate) fn net(self) -> i16 {
        i16::from(self.done) - i16::from(self.undone)
    }
}

/// A call on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    generation: u32,
    step: u32,
    verb: Verb,
    instance: String,
    key: String,
    body: Option<Fingerprint>,
}

impl World {
    pub(crate) fn call(
        &mut self,
        setup: &Setup,
        slot: usize,
        step: u32,
        verb: Verb,
        outcome: Outcome,
    ) -> Input {
        let request = self.request(setup, slot, step, verb);
        let unknown = CallOutcome::Unknown { what: "timeout".into(), retry_after: None };
        Input::Called(match outcome {
            Outcome::NotSent => {
                self.budget.spend(Fault::NotSent);
                CallOutcome::NotSent { what: "connection refused".into() }
            }
            Outcome::Refused => {
                self.budget.spend(if verb == Verb::Do { Fault::Refusal } else { Fault::UndoRefusal });
                CallOutcome::Refused { code: "no".into(), message: String::new() }
            }
            Outcome::Lost => {
                self.budget.spend(Fault::UnknownCall);
                unknown
            }
            Outcome::Late => {
                self.budget.spend(Fault::UnknownCall);
                self.services.late.push(request);
                unknown
            }
            Outcome::AnswerLost => {
                self.budget.spend(Fault::UnknownCall);
                self.serve(&request);
                unknown
            }
            _ => self.serve(&request),
        })
    }

    fn request(&mut self, setup: &Setup, slot: usize, step: u32, verb: Verb) -> Request {
        let slot = &self.slots[slot];
        let record = slot.handling.record().expect("a call is made from a record");
        let generation = record.generation;
        let declared = self.doc.as_ref().is_some_and(|doc| {
            doc.generation > generation || (doc.generation == generation && doc.hi >= step)
        });
        let name = record.step(step);
        let request = Request {
            generation,
            step,
            verb,
            instance: step_instance(setup.order_id(), generation, name),
            key: step_key(setup.order_id(), generation, name, verb),
            body: slot.body.clone(),
        };
        if !declared {
            self.violate(Property::IntentBeforeCall, || {
                format!("{} of step {step} in run {generation} was never declared", verb.as_str())
            });
        }
        request
    }

    /// A late request arrives; it may arrive once more.
    pub(crate) fn call_late(&mut self, index: usize) {
        let request = self.services.late.remove(index);
        self.serve(&request);
        self.serve(&request);
    }

    fn serve(&mut self, request: &Request) -> CallOutcome {
        let success = CallOutcome::Success { result: "{}".into() };
        let state = self.services.instances.get(&request.instance).copied();
        let is_repeat = self.services.keys.contains(&request.key);
        match (request.verb, state) {
            (Verb::Do, Some(false)) => CallOutcome::Cancelled,
            _ if is_repeat => success,
            (Verb::Do, _) => {
                self.services.keys.insert(request.key.clone());
                self.services.instances.insert(request.instance.clone(), true);
                self.effect(request);
                success
            }
            (Verb::Undo, _) => {
                self.services.keys.insert(request.key.clone());
                self.services.instances.insert(request.instance.clone(), false);
                if state == Some(true) {
                    self.effect(request);
                }
                success
            }
        }
    }

    fn effect(&mut self, request: &Request) {
        let (generation, step) = (request.generation, request.step);
        let fp = self.doc.as_ref().map(|doc| doc.fp.clone());
        if request.verb == Verb::Do {
            self.services.effects.entry((generation, step)).or_default().done += 1;
            if fp.is_some() && request.body != fp {
                self.violate(Property::OneEffectPerKey, || {
                    format!("step {step} was done for a body that is not the order's")
                });
            }
            return;
        }
        self.services.effects.entry((generation, step)).or_default().undone += 1;
        let later = self
            .services
            .effects
            .iter()
            .find(|((of, later), effects)| *of == generation && *later > step && effects.net() > 0);
        if let Some(((_, later), _)) = later {
            let later = *later;
            self.violate(Property::UndoOrder, || format!("step {step} is undone before step {later}"));
        }
    }

    /// The highest step of a run that a service was asked to do, or may be asked yet.
    pub(crate) fn highest_asked(&self, generation: u32) -> Option<u32> {
        let done =
            self.services.effects.iter().filter(|(_, effects)| effects.done > 0).map(|(step, _)| *step);
        let late = self.services.late.iter().filter(|request| request.verb == Verb::Do);
        let late = late.map(|request| (request.generation, request.step));
        done.chain(late).filter(|(of, _)| *of == generation).map(|(_, step)| step).max()
    }

    /// A person takes the effect of a step back by hand.
    pub(crate) fn reverse_by_hand(&mut self, setup: &Setup, generation: u32, step: u32) {
        let Some(doc) = &self.doc else { return };
        let instance = step_instance(setup.order_id(), generation, doc.step(step));
        if self.services.instances.insert(instance, false) == Some(true) {
            self.services.effects.entry((generation, step)).or_default().undone += 1;
        }
    }
}
