//! The state of the world: what is in queues and in hand, the order's document, what the services have done.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use orderfleet_domain::{
    Command, CommandKind, Fingerprint,
    saga::{
        Delivered, Effect, Ending, EventType, Handling, Input, Lane, Millis, Moment, Nonce, Phase, Record,
        Tier, WorkerId,
    },
};

use crate::{Budget, Fault, Judged, Outcome, Property, Setup, Skew, services::Services};

/// A message in a queue or in hand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Message {
    pub(crate) command: Arc<Command>,
    pub(crate) lane: Lane,
    pub(crate) redelivered: bool,
    pub(crate) wait: Option<Tier>,
    /// When its wait is over, where time passes.
    pub(crate) due: Millis,
}

/// One delivery in the hands of one worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub(crate) handling: Handling,
    pub(crate) effect: Effect,
    pub(crate) message: Message,
    /// False once the channel is lost: the worker goes on as a zombie while the message is delivered again.
    pub(crate) owns_delivery: bool,
    pub(crate) draining: bool,
    pub(crate) skew: Skew,
    pub(crate) number: u16,
    pub(crate) inputs: u16,
    /// Something was confirmed, or an owed publish committed: there is a reason to ack.
    pub(crate) may_ack: bool,
    /// A repeat of its write has met a majority that lags behind; once is enough.
    pub(crate) lagged: bool,
    /// It has tried to write that a publish is owed.
    pub(crate) owing: bool,
    /// Fingerprint of the order at hand, which calls are made from.
    pub(crate) body: Option<Fingerprint>,
    /// A write of unknown outcome turned out to be applied.
    pub(crate) resolved: bool,
}

/// The world. Equal worlds have equal futures.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub(crate) budget: Budget,
    judged: Judged,
    pub(crate) now: Millis,
    pub(crate) doc: Option<Record>,
    pub(crate) conflicts: BTreeSet<Fingerprint>,
    pub(crate) ready: Vec<Message>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) blocked: bool,
    pub(crate) services: Services,
    /// Database operations whose answer was lost and that may still be applied.
    pub(crate) late_writes: Vec<Effect>,
    pub(crate) events: BTreeSet<(u32, u8)>,
    /// Ids of dead letters, with the queue they are in.
    pub(crate) letters: BTreeMap<String, Letter>,
    /// Another body was posted under the same key.
    pub(crate) other_posted: bool,
    /// The customer has cancelled.
    pub(crate) cancel_asked: bool,
    /// A cancel was recorded before the last step was declared.
    pub(crate) cancel_in_time: bool,
    /// A cancel was answered with "too late" in the order's history.
    pub(crate) cancel_too_late: bool,
    /// Runs that an operator has asked for.
    pub(crate) runs_asked: BTreeSet<u32>,
    /// Holds that a person has decided about.
    pub(crate) holds_decided: BTreeSet<String>,
    pub(crate) violation: Option<(Property, String)>,
    /// As in the scope.
    pub(crate) begun: bool,
}

/// Where a dead letter is, as far as anything depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Letter {
    /// Undone for a technical cause, in this run.
    Step(u32),
    /// Written off by a worker.
    Poison,
    /// In `dead.poison` by the delivery limit, not parked yet.
    Crashed(Crashed),
    /// The same, parked: the order is held, if it was there to be held.
    Parked(Crashed),
    Held,
    Conflict,
}

/// What the parker can tell of a message that the delivery limit wrote off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Crashed {
    pub(crate) generation: u32,
    /// It is about another body than the first one posted.
    pub(crate) is_other: bool,
    pub(crate) asked: Asked,
}

/// What a message asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Asked {
    /// To go on with the order.
    Work,
    /// To cancel it: the order's own message is elsewhere.
    Cancel,
    /// To begin a further run.
    Run,
    /// To apply a person's decision.
    Resolve,
}

impl Asked {
    pub(crate) fn by(kind: &CommandKind) -> Self {
        match kind {
            CommandKind::Place { .. } | CommandKind::Resume {} | CommandKind::Compensate { .. } => Self::Work,
            CommandKind::Cancel { .. } => Self::Cancel,
            CommandKind::Run { .. } => Self::Run,
            CommandKind::Resolve { .. } => Self::Resolve,
        }
    }
}

impl Message {
    pub(crate) fn fresh(command: Arc<Command>, lane: Lane) -> Self {
        Self { command, lane, redelivered: false, wait: None, due: 0 }
    }

    /// An order among messages that does not depend on how they came about.
    fn rank(&self) -> impl Ord + use<> {
        let kind = match &self.command.kind {
            CommandKind::Place { .. } => 0,
            CommandKind::Resume {} => 1,
            CommandKind::Run { .. } => 2,
            CommandKind::Compensate { .. } => 3,
            CommandKind::Cancel { .. } => 4,
            CommandKind::Resolve { decision, .. } => 5 + *decision as u8,
        };
        let lane = match self.lane {
            Lane::New(_) => 0,
            Lane::Retry => 1,
            Lane::Replay => 2,
            Lane::Compensate(_) => 3,
            Lane::Quarantine => 4,
        };
        let fp = self.command.fp.as_ref().map(|fp| fp.as_str().as_bytes()[8]);
        (self.due, kind, self.command.generation, fp, lane, self.redelivered, self.wait)
    }
}

pub(crate) fn event_rank(event: EventType) -> u8 {
    match event {
        EventType::Completed => 0,
        EventType::Cancelled => 1,
        EventType::Failed => 2,
    }
}

pub(crate) fn phase_rank(phase: Phase) -> u8 {
    match phase {
        Phase::Run => 0,
        Phase::Comp => 1,
        Phase::Done | Phase::Undone => 2,
    }
}

const START: Millis = 1_000_000;

impl World {
    /// One order was accepted: its message is in `orders.new.0`, and nothing else has happened.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        let mut world = Self {
            budget: setup.scope.budget,
            judged: setup.scope.judged,
            now: START,
            doc: None,
            conflicts: BTreeSet::new(),
            ready: vec![setup.ours.clone()],
            slots: Vec::new(),
            blocked: false,
            services: Services::default(),
            late_writes: Vec::new(),
            events: BTreeSet::new(),
            letters: BTreeMap::new(),
            other_posted: false,
            cancel_asked: false,
            cancel_in_time: false,
            cancel_too_late: false,
            runs_asked: BTreeSet::new(),
            holds_decided: BTreeSet::new(),
            violation: None,
            begun: setup.scope.begun,
        };
        if setup.scope.begun {
            world.begin_elsewhere(setup);
        }
        world
    }

    fn begin_elsewhere(&mut self, setup: &Setup) {
        let Some(fp) = setup.ours.command.fp.clone() else { return };
        let names = setup.policy.step_names();
        let mut doc = Record::first(fp, names, WorkerId("another build".into()), START - 1, Nonce(1 << 64));
        doc.hi = doc.pivot();
        for step in 0..=doc.pivot() {
            self.services.send_elsewhere(setup, &doc, step);
        }
        self.doc = Some(doc);
        self.ready[0].redelivered = true;
    }

    /// The first property that was violated, and how.
    #[must_use]
    pub fn violation(&self) -> Option<&(Property, String)> {
        self.violation.as_ref()
    }

    pub(crate) fn violate(&mut self, property: Property, how: impl FnOnce() -> String) {
        let counts = self.judged == Judged::Everything || property.is_outcome();
        if counts && self.violation.is_none() {
            self.violation = Some((property, how()));
        }
    }

    /// How far the order has come, and with it what is told of it. Claims, waits and copies are no progress.
    pub(crate) fn stands(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let order = self.doc.as_ref().map(|doc| {
            let held = doc.hold.is_some();
            (doc.generation, doc.phase, doc.cur, doc.is_final, held, doc.evp, doc.cancel)
        });
        (order, self.letters.len(), self.events.len(), self.conflicts.len())
    }

    pub(crate) fn enqueue(&mut self, message: Message) {
        let rank = message.rank();
        let at = self.ready.partition_point(|other| other.rank() <= rank);
        self.ready.insert(at, message);
    }

    pub(crate) fn deliver(&mut self, setup: &Setup, index: usize, skew: Skew) {
        let message = self.ready.remove(index);
        if message.wait.is_some() {
            self.pass_wait(setup, &message);
        }
        let number = self.unused_number();
        let delivered = Delivered {
            command: (*message.command).clone(),
            redelivered: message.redelivered,
            lane: message.lane.clone(),
        };
        let body = match &message.command.kind {
            CommandKind::Place { .. } => message.command.fp.clone(),
            _ => None,
        };
        self.slots.push(Slot {
            handling: Handling::new(delivered, WorkerId(number.to_string())),
            effect: Effect::Read,
            message,
            owns_delivery: true,
            draining: false,
            skew,
            number,
            inputs: 0,
            may_ack: false,
            lagged: false,
            owing: false,
            body,
            resolved: false,
        });
        self.feed(setup, self.slots.len() - 1, Input::Delivered);
    }

    /// The least number that nothing refers to: nonces and owners made from it are unique, and equal states stay
    /// equal however often messages went around before.
    fn unused_number(&self) -> u16 {
        let of_nonce = |nonce: Nonce| u16::try_from(nonce.0 >> 16).unwrap_or(0);
        let of_owner = |owner: &WorkerId| owner.0.parse().unwrap_or(0);
        let stored =
            self.doc.iter().flat_map(|doc| [of_nonce(doc.nonce), doc.owner.as_ref().map_or(0, of_owner)]);
        let late = self.late_writes.iter().map(|write| match write {
            Effect::Insert(record) => of_nonce(record.nonce),
            Effect::Claim(claim) => of_nonce(claim.nonce),
            Effect::Write(write) => of_nonce(write.next.nonce),
            _ => 0,
        });
        let in_hand = self.slots.iter().map(|slot| slot.number);
        let used: Vec<u16> = stored.chain(late).chain(in_hand).collect();
        (1..).find(|number| !used.contains(number)).unwrap_or(0)
    }

    /// A wait is longer than it takes for the lease of a worker that is gone to run out, or comes again. The lease of one
    /// that is not gone runs out by a tick alone: claims that fence each other for ever are no schedule of interest.
    fn pass_wait(&mut self, setup: &Setup, message: &Message) {
        let owner = self.doc.as_ref().and_then(|doc| doc.owner.as_ref());
        let is_gone = |owner: &WorkerId| self.slots.iter().all(|slot| slot.number.to_string() != owner.0);
        if setup.scope.timed {
            self.now = self.now.max(message.due);
        } else if owner.is_some_and(is_gone) {
            self.expire_lease();
        }
    }

    /// The lease runs out without the clock being moved: an expired lease is not the same as one given back.
    pub(crate) fn expire_lease(&mut self) {
        if let Some(doc) = &mut self.doc
            && doc.lease_until > 1
        {
            doc.lease_until = 1;
        }
    }

    pub(crate) fn lease_is_live(&self) -> bool {
        self.doc.as_ref().is_some_and(|doc| doc.lease_until > self.now)
    }

    fn feed(&mut self, setup: &Setup, index: usize, input: Input) {
        let blocked = self.blocked;
        let now = self.now;
        let slot = &mut self.slots[index];
        slot.inputs += 1;
        let moment = Moment {
            now: now + slot.skew.millis(),
            nonce: Nonce(u128::from(slot.number) << 16 | u128::from(slot.inputs)),
            blocked,
            draining: slot.draining,
        };
        slot.effect = slot.handling.on(&setup.policy, &moment, input);
    }

    /// Performs a slot's effect with an outcome, and feeds what came of it to the core.
    pub(crate) fn perform(&mut self, setup: &Setup, index: usize, outcome: Outcome) {
        let effect = self.slots[index].effect.clone();
        let input = match &effect {
            Effect::Ack(_) => {
                self.acknowledge(index);
                return;
            }
            Effect::Insert(_) | Effect::Claim(_) | Effect::Write(_) | Effect::Note(_) => {
                self.store(index, &effect, outcome)
            }
            Effect::Read => Input::Store(self.read(index)),
            Effect::Call { step, verb, .. } => self.call(setup, index, *step, *verb, outcome),
            Effect::Publish(publications) => self.publish(setup, index, publications, outcome),
        };
        self.feed(setup, index, input);
    }

    /// What a message only asks for may be impossible or done already, and then nothing follows from it: custody says which.
    fn acknowledge(&mut self, index: usize) {
        let slot = self.slots.remove(index);
        if slot.effect == Effect::Ack(Ending::Fenced) {
            self.check_fenced(&slot);
        }
        let asks_only = Asked::by(&slot.message.command.kind) != Asked::Work;
        if slot.owns_delivery && !slot.may_ack && !asks_only {
            let ending = slot.effect;
            self.violate(Property::AckDiscipline, || format!("{ending:?} with nothing confirmed or owed"));
        }
    }

    /// Only a newer claim fences: a worker that takes anything else for one gives up an order that is its own.
    fn check_fenced(&mut self, slot: &Slot) {
        let Some((doc, base)) = self.doc.as_ref().zip(slot.handling.record()) else { return };
        if (doc.generation, doc.epoch) == (base.generation, base.epoch) {
            self.violate(Property::Fence, || "fenced without a newer claim".to_owned());
        }
    }

    /// A slot's effect in few words, for people.
    pub(crate) fn in_hand(&self, index: usize) -> String {
        let Some(slot) = self.slots.get(index) else { return String::new() };
        let effect = match &slot.effect {
            Effect::Insert(_) => "insert".to_owned(),
            Effect::Claim(claim) => format!("claim {:?} of run {}", claim.kind, claim.generation),
            Effect::Write(write) => format!(
                "write {} cur {} at epoch {} rev {}{}",
                write.next.phase.as_str(),
                write.next.cur,
                write.expect.epoch,
                write.next.rev,
                if write.owes { ", owes" } else { "" }
            ),
            Effect::Publish(publications) => {
                let kinds = publications.iter().map(|publication| {
                    let text = format!("{publication:?}");
                    text.split(['(', '{', ' ']).next().unwrap_or_default().to_owned()
                });
                format!("publish {}", kinds.collect::<Vec<_>>().join(" and "))
            }
            other => format!("{other:?}"),
        };
        let zombie = if slot.owns_delivery { "" } else { " (zombie)" };
        format!("| worker {}{zombie}: {effect}", slot.number)
    }

    /// A ready message in few words, for people.
    pub(crate) fn at_ready(&self, index: usize) -> String {
        let Some(message) = self.ready.get(index) else { return String::new() };
        format!(
            "| {} of run {} by {:?}",
            message.command.kind.as_str(),
            message.command.generation,
            message.lane
        )
    }

    pub(crate) fn lose_channel(&mut self, index: usize) {
        self.budget.spend(Fault::LoseChannel);
        let slot = &mut self.slots[index];
        slot.owns_delivery = false;
        let message = Message { redelivered: true, wait: None, ..slot.message.clone() };
        self.enqueue(message);
    }
}
