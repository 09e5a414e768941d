//! What every downstream service has in common: idempotency, tombstones and fences per step instance.
//!
//! A call is decided without changing anything, the decision is appended to the ledger, and only then
//! applied. A restart applies the ledger's records again, so it ends in the same state.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::call::{Call, Refusal, StepInstance, Verb};
use crate::faults::{Faults, Target};
use crate::ledger::{Ledger, LedgerError};
use crate::order::DoRequest;
use crate::outlook::{KnownOrders, Outlook};
use crate::record::{Counts, Outcome, Record};

/// What one kind of service does when a step takes effect.
pub(crate) trait Effects: Send + 'static {
    /// What a ledger record must hold so that the effect can be applied again.
    type Amounts: Clone + Serialize + DeserializeOwned + Send;

    /// The service's name in paths, rules and file names.
    const NAME: &'static str;

    /// Decides what a do would change, or why it must not happen.
    fn judge(&self, request: &DoRequest) -> Result<Self::Amounts, Refusal>;

    /// Applies a do.
    fn apply(&mut self, instance: &StepInstance, amounts: &Self::Amounts);

    /// Applies the undo of a do that was applied before.
    fn revert(&mut self, instance: &StepInstance, amounts: &Self::Amounts);

    /// The result that callers are told.
    fn result(verb: Verb, amounts: &Self::Amounts) -> Value;

    /// The service's own totals, for its summary.
    fn totals(&self) -> Map<String, Value>;
}

/// One service: its effects, what it knows about each step instance, and its ledger.
pub(crate) struct Service<E: Effects> {
    pub(crate) effects: E,
    pub(crate) ledger: Ledger,
    instances: HashMap<String, Entry<E::Amounts>>,
    known: KnownOrders,
    counts: Counts,
}

/// What a service remembers of a step instance.
#[derive(Debug)]
struct Entry<A> {
    fence: u64,
    state: State<A>,
}

#[derive(Debug)]
enum State<A> {
    None,
    /// For those who look; the next do is judged anew.
    Refused,
    Done {
        key: String,
        amounts: A,
    },
    /// Without amounts it is a tombstone: undone before it was done.
    Undone {
        amounts: Option<A>,
    },
}

/// What the caller is told.
pub(crate) enum Answer {
    Result(Value),
    Refused(Refusal),
    Cancelled,
    StaleFence(u64),
    KeyMismatch,
}

impl<E: Effects> Service<E> {
    /// Opens the service, with its state rebuilt from the ledger in this file if there is one.
    pub(crate) fn open(effects: E, path: Option<&Path>) -> Result<Self, LedgerError> {
        let (ledger, records): (_, Vec<Record<E::Amounts>>) = match path {
            Some(path) => Ledger::open(path)?,
            None => (Ledger::default(), Vec::new()),
        };
        let (instances, known, counts) = (HashMap::new(), KnownOrders::default(), Counts::default());
        let mut service = Self { effects, ledger, instances, known, counts };
        for (position, record) in records.iter().enumerate() {
            service.ledger.check_seq(position, record.seq)?;
            service.apply(record);
        }
        Ok(service)
    }

    /// Remembers the order of a do that arrived, whatever becomes of it.
    pub(crate) fn learn(&mut self, instance: &StepInstance, request: Arc<DoRequest>) {
        self.known.learn(&instance.order_id, request);
    }

    /// Does a step, as far as the fault rules let it.
    pub(crate) fn do_step(
        &mut self,
        call: Call,
        request: &DoRequest,
        faults: &Target<'_>,
    ) -> Result<Answer, LedgerError> {
        let outcome = self.decide_do(&call, request, faults);
        self.record(Verb::Do, call, outcome)
    }

    /// Undoes a step, or leaves a tombstone where there is nothing to undo yet.
    pub(crate) fn undo_step(&mut self, call: Call, faults: &Target<'_>) -> Result<Answer, LedgerError> {
        let outcome = self.decide_undo(&call, faults);
        self.record(Verb::Undo, call, outcome)
    }

    /// What the service has for a step instance, and what a do of it would be answered. Changes nothing.
    pub(crate) fn look(&self, instance: &StepInstance, faults: &Faults) -> Value {
        let entry = self.instances.get(&instance.id);
        let state = match entry.map(|entry| &entry.state) {
            None | Some(State::None) => "none",
            Some(State::Refused) => "refused",
            Some(State::Done { .. }) => "done",
            Some(State::Undone { .. }) => "undone",
        };
        let mut seen = json!({ "instance": instance.id, "state": state });
        if let Some(entry) = entry {
            seen["fence"] = entry.fence.into();
            if let Some(result) = entry.result::<E>() {
                seen["result"] = result;
            }
        }
        if matches!(state, "none" | "refused") {
            let request = self.known.get(&instance.order_id);
            if let Some(outlook) = Outlook::of(&self.effects, request, faults) {
                seen["outlook"] = json!(outlook);
            }
        }
        seen
    }

    /// Counts per outcome, and the service's own totals.
    pub(crate) fn summary(&self) -> Value {
        let mut summary = json!(self.counts);
        if let Value::Object(fields) = &mut summary {
            fields.insert("service".to_owned(), E::NAME.into());
            fields.extend(self.effects.totals());
        }
        summary
    }

    fn decide_do(&self, call: &Call, request: &DoRequest, faults: &Target<'_>) -> Outcome<E::Amounts> {
        let entry = self.instances.get(&call.instance.id);
        if let Some(highest) = entry.and_then(|entry| entry.newer_fence(call.fence)) {
            return Outcome::StaleFence { highest };
        }
        match entry.map(|entry| &entry.state) {
            Some(State::Undone { .. }) if !faults.ignores_tombstones() => Outcome::Cancelled,
            Some(State::Done { key, .. }) if !faults.ignores_keys() => {
                if *key == call.key {
                    Outcome::Repeat
                } else {
                    Outcome::KeyMismatch
                }
            }
            _ => match faults.refusal().map_or_else(|| self.effects.judge(request), Err) {
                Ok(amounts) => Outcome::Effect { amounts },
                Err(refused) => Outcome::Refused { refused },
            },
        }
    }

    fn decide_undo(&self, call: &Call, faults: &Target<'_>) -> Outcome<E::Amounts> {
        let entry = self.instances.get(&call.instance.id);
        if let Some(highest) = entry.and_then(|entry| entry.newer_fence(call.fence)) {
            return Outcome::StaleFence { highest };
        }
        if let Some(State::Undone { .. }) = entry.map(|entry| &entry.state) {
            return Outcome::Repeat;
        }
        match (faults.refusal(), entry.map(|entry| &entry.state)) {
            (Some(refused), _) => Outcome::Refused { refused },
            (None, Some(State::Done { amounts, .. })) => Outcome::Effect { amounts: amounts.clone() },
            (None, _) => Outcome::Tombstone,
        }
    }

    fn record(
        &mut self,
        verb: Verb,
        call: Call,
        outcome: Outcome<E::Amounts>,
    ) -> Result<Answer, LedgerError> {
        let Call { instance, key, fence } = call;
        let seq = self.ledger.len() + 1;
        let record = Record { time: Timestamp::now(), seq, instance, verb, key, fence, outcome };
        self.ledger.append(&record)?;
        self.apply(&record);
        Ok(self.answer(record))
    }

    fn apply(&mut self, record: &Record<E::Amounts>) {
        self.counts.count(record);
        let entry = self.instances.entry(record.instance.id.clone()).or_default();
        entry.fence = entry.fence.max(record.fence);
        match (record.verb, &record.outcome) {
            (Verb::Do, Outcome::Effect { amounts }) => {
                self.effects.apply(&record.instance, amounts);
                entry.state = State::Done { key: record.key.clone(), amounts: amounts.clone() };
            }
            (Verb::Undo, Outcome::Effect { amounts }) => {
                self.effects.revert(&record.instance, amounts);
                entry.state = State::Undone { amounts: Some(amounts.clone()) };
            }
            (Verb::Undo, Outcome::Tombstone) => entry.state = State::Undone { amounts: None },
            // A service that ignores keys may refuse what it did before; that stays done.
            (Verb::Do, Outcome::Refused { .. }) if matches!(entry.state, State::None) => {
                entry.state = State::Refused;
            }
            _ => {}
        }
    }

    fn answer(&self, record: Record<E::Amounts>) -> Answer {
        match record.outcome {
            Outcome::Refused { refused } => Answer::Refused(refused),
            Outcome::Cancelled => Answer::Cancelled,
            Outcome::StaleFence { highest } => Answer::StaleFence(highest),
            Outcome::KeyMismatch => Answer::KeyMismatch,
            Outcome::Effect { .. } | Outcome::Repeat | Outcome::Tombstone => {
                let entry = self.instances.get(&record.instance.id);
                Answer::Result(entry.and_then(Entry::result::<E>).unwrap_or_else(|| json!({})))
            }
        }
    }
}

impl<A> Entry<A> {
    fn newer_fence(&self, fence: u64) -> Option<u64> {
        (self.fence > fence).then_some(self.fence)
    }

    fn result<E: Effects<Amounts = A>>(&self) -> Option<Value> {
        match &self.state {
            State::None | State::Refused => None,
            State::Done { amounts, .. } => Some(E::result(Verb::Do, amounts)),
            State::Undone { amounts: Some(amounts) } => Some(E::result(Verb::Undo, amounts)),
            State::Undone { amounts: None } => Some(json!({ "tombstone": true })),
        }
    }
}

impl<A> Default for Entry<A> {
    fn default() -> Self {
        Self { fence: 0, state: State::None }
    }
}
