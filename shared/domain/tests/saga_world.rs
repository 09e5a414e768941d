//! The saga core in a small hostile world: one order, up to three workers, a queue that redelivers, a database whose
//! answers get lost, downstreams whose requests arrive late, a broker that does not confirm. Every schedule must keep
//! custody of the order, and every schedule that is left in peace must end well.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken expectation is a failed test")]

use std::collections::{BTreeMap, BTreeSet};

use orderfleet_domain::{
    Command, CommandKind, Decision, Fingerprint, Order, OrderId, StepName,
    saga::{
        CallOutcome, Claim, ClaimKind, DeadLetterQueue, Delivered, Effect, Ending, EventType, Handling,
        Input, Lane, Moment, Nonce, Note, Phase, Policy, Publication, Record, StepState, StoreReply, Verb,
        WorkerId, Write,
    },
};
use proptest::{prelude::*, strategy::ValueTree};

const STEPS: [&str; 3] = ["inventory", "fulfilment", "accounting"];
const LEASE_MS: i64 = 30_000;

#[derive(Clone, Debug)]
struct Message {
    command: Command,
    lane: Lane,
    redelivered: bool,
}

struct Slot {
    handling: Handling,
    effect: Effect,
    message: Message,
    /// False once the channel is lost: the worker goes on as a zombie while the message is delivered again.
    owns_delivery: bool,
}

#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
enum Effected {
    #[default]
    Nothing,
    Done,
    Undone,
}

/// What may still go wrong; everything is bounded, so every schedule ends.
#[derive(Debug, Clone)]
struct Budget {
    lost_channels: u32,
    crashes: u32,
    lost_answers: u32,
    unconfirmed: u32,
    unknown_calls: u32,
    refusals: u32,
    undo_refusals: u32,
    not_sent: u32,
    duplicates: u32,
    conflicts: u32,
    cancels: u32,
    new_runs: u32,
    decisions: u32,
    drains: u32,
    quarantines: u32,
}

struct World {
    choices: std::vec::IntoIter<u16>,
    budget: Budget,
    now: i64,
    nonce: u128,
    policy: Policy,
    doc: Option<Record>,
    /// Highest (phase rank) per run, to see that phases are one-way.
    ranks: BTreeMap<u32, u8>,
    conflicts: BTreeSet<Fingerprint>,
    ready: Vec<Message>,
    slots: Vec<Slot>,
    workers: u32,
    steps: BTreeMap<(u32, String), Effected>,
    do_effects: BTreeMap<(u32, String), u32>,
    late: Vec<(u32, String, Verb)>,
    /// Database operations whose answer was lost and that may still be applied.
    late_writes: Vec<Effect>,
    events: Vec<(EventType, u32)>,
    dead: Vec<DeadLetterQueue>,
    conflicting_posts: u32,
    blocked: bool,
    log: Vec<(usize, Effect)>,
    ours: Message,
    other: Message,
}

fn order(payment: &str) -> Order {
    serde_json::from_value(serde_json::json!({
        "channel": "retail", "currency": "GBP", "payment_ref": payment, "ship_to": {},
        "lines": [{"sku": "A", "quantity": 1, "unit_price": "1"}]
    }))
    .unwrap()
}

fn place(payment: &str) -> Message {
    let (account, order) = ("demo".parse().unwrap(), order(payment));
    let command = Command {
        order_id: OrderId::derive(&"eu1".parse().unwrap(), &account, &"k".parse().unwrap()),
        account,
        generation: 1,
        fp: Some(Fingerprint::of(&order)),
        kind: CommandKind::Place { order: Box::new(order), accepted_at: jiff::Timestamp::UNIX_EPOCH },
    };
    Message { command, lane: Lane::New(0), redelivered: false }
}

fn other_command(
    ours: &Message,
    generation: u32,
    fp: Option<Fingerprint>,
    kind: CommandKind,
    lane: Lane,
) -> Message {
    let command = Command { generation, fp, kind, ..ours.command.clone() };
    Message { command, lane, redelivered: false }
}

impl World {
    fn new(choices: Vec<u16>, budget: Budget) -> Self {
        let settings = STEPS.map(|name| {
            serde_json::from_value(serde_json::json!({
                "name": name, "url": "http://127.0.0.1/", "attempts_max": 2, "quick_retries": 0
            }))
            .unwrap()
        });
        let ours = place("p");
        Self {
            choices: choices.into_iter(),
            budget,
            now: 1_000,
            nonce: 0,
            policy: Policy::new(settings.to_vec(), LEASE_MS).unwrap(),
            doc: None,
            ranks: BTreeMap::new(),
            conflicts: BTreeSet::new(),
            ready: vec![ours.clone()],
            slots: Vec::new(),
            workers: 0,
            steps: BTreeMap::new(),
            do_effects: BTreeMap::new(),
            late: Vec::new(),
            late_writes: Vec::new(),
            events: Vec::new(),
            dead: Vec::new(),
            conflicting_posts: 0,
            blocked: false,
            log: Vec::new(),
            other: place("other"),
            ours,
        }
    }

    /// A choice below `n`; 0, the peaceful one, when the schedule has run out.
    fn choose(&mut self, n: usize) -> usize {
        self.choices.next().map_or(0, |choice| usize::from(choice) % n)
    }

    /// Spends from a budget if the schedule says so.
    fn fault(&mut self, pick: fn(&mut Budget) -> &mut u32) -> bool {
        if *pick(&mut self.budget) == 0 || self.choose(3) != 1 {
            return false;
        }
        *pick(&mut self.budget) -= 1;
        true
    }

    fn run(&mut self) {
        while self.choices.len() > 0 {
            self.step();
            self.check_custody();
        }
        self.blocked = false;
        for _ in 0..2_000 {
            if !self.calm_step() {
                return;
            }
            self.check_custody();
        }
        panic!("does not come to rest");
    }

    fn step(&mut self) {
        match self.choose(16) {
            0..=2 => self.deliver(),
            3..=9 => self.advance_some_slot(),
            10 if !self.slots.is_empty() && self.fault(|budget| &mut budget.lost_channels) => {
                self.lose_channel();
            }
            11 if !self.slots.is_empty() && self.fault(|budget| &mut budget.crashes) => self.crash(),
            12 => self.now += [100, LEASE_MS, 3_600_000][self.choose(3)],
            13 if self.choose(2) == 1 => self.apply_late_write(),
            13 => self.deliver_late_request(),
            14 => self.somebody_writes(),
            15 => self.blocked = self.choose(3) == 1,
            _ => self.sweep(),
        }
    }

    /// One peaceful move; false when nothing is left to do.
    fn calm_step(&mut self) -> bool {
        if let Some(slot) = (0..self.slots.len()).next() {
            self.advance(slot);
        } else if !self.ready.is_empty() {
            self.now += 1_000;
            self.deliver();
        } else if self.doc.as_ref().is_some_and(|doc| doc.evp) {
            self.sweep();
        } else {
            return false;
        }
        true
    }

    fn deliver(&mut self) {
        if self.ready.is_empty() || self.slots.len() >= 3 {
            return;
        }
        let index = self.choose(self.ready.len());
        let message = self.ready.remove(index);
        self.workers += 1;
        let delivered = Delivered {
            command: message.command.clone(),
            redelivered: message.redelivered,
            lane: message.lane.clone(),
        };
        let handling = Handling::new(delivered, WorkerId(format!("w{}", self.workers)));
        self.slots.push(Slot { handling, effect: Effect::Read, message, owns_delivery: true });
        let last = self.slots.len() - 1;
        self.feed(last, Input::Delivered);
    }

    fn moment(&mut self) -> Moment {
        self.nonce += 1;
        let draining = self.fault(|budget| &mut budget.drains);
        Moment { now: self.now, nonce: Nonce(self.nonce), blocked: self.blocked, draining }
    }

    fn feed(&mut self, slot: usize, input: Input) {
        let moment = self.moment();
        let slot = &mut self.slots[slot];
        slot.effect = slot.handling.on(&self.policy, &moment, input);
    }

    fn advance_some_slot(&mut self) {
        if !self.slots.is_empty() {
            let slot = self.choose(self.slots.len());
            self.advance(slot);
        }
    }

    fn advance(&mut self, slot: usize) {
        let effect = self.slots[slot].effect.clone();
        self.log.push((slot, effect.clone()));
        let input = match effect {
            Effect::Ack(_) => {
                self.slots.remove(slot);
                return;
            }
            Effect::Insert(_) | Effect::Claim(_) | Effect::Write(_) | Effect::Note(_) => self.store(effect),
            Effect::Read => Input::Store(StoreReply::Found(self.doc.clone().map(Box::new))),
            Effect::Call { step, verb, .. } => self.call(slot, step, verb),
            Effect::Publish(publications) => self.publish(slot, &publications),
        };
        self.feed(slot, input);
    }

    /// Performs a database operation; its answer may get lost, and then it may have been applied, never be, or be later.
    fn store(&mut self, operation: Effect) -> Input {
        if self.fault(|budget| &mut budget.lost_answers) {
            match self.choose(3) {
                0 => drop(self.apply(&operation)),
                1 => self.late_writes.push(operation),
                _ => {}
            }
            return Input::Store(StoreReply::Unknown);
        }
        Input::Store(self.apply(&operation))
    }

    fn apply(&mut self, operation: &Effect) -> StoreReply {
        match operation {
            Effect::Insert(_) if self.doc.is_some() => StoreReply::Exists,
            Effect::Insert(record) => {
                self.commit((**record).clone());
                StoreReply::Applied
            }
            Effect::Claim(claim) => self.claim(claim),
            Effect::Write(write) => self.compare_and_set(write),
            Effect::Note(note) => self.note(note),
            _ => StoreReply::NoMatch,
        }
    }

    fn commit(&mut self, record: Record) {
        let rank = match record.phase {
            Phase::Run => 0,
            Phase::Comp => 1,
            Phase::Done | Phase::Undone => 2,
        };
        let highest = self.ranks.entry(record.generation).or_default();
        assert!(rank >= *highest, "phase goes back to {:?}", record.phase);
        *highest = rank;
        if let Some(before) = &self.doc {
            assert!(
                record.rev > before.rev
                    && record.epoch >= before.epoch
                    && record.generation >= before.generation
            );
            assert!(record.generation > before.generation || record.hi >= before.hi, "hi was lowered");
        }
        self.doc = Some(record);
    }

    fn claim(&mut self, claim: &Claim) -> StoreReply {
        let Some(doc) = &self.doc else { return StoreReply::NoMatch };
        let free =
            doc.lease_until < claim.now || doc.owner.as_ref() == Some(&claim.owner) || claim.redelivered;
        let fits = match &claim.kind {
            ClaimKind::Continue(phases) => phases.contains(doc.phase) && doc.hold.is_none(),
            ClaimKind::NewRun => doc.phase == Phase::Undone && !doc.is_final && !doc.evp,
            ClaimKind::Resolve(id) => doc.hold.as_ref().is_some_and(|hold| hold.id == *id),
        };
        let same_fp = claim.fp.as_ref().is_none_or(|fp| *fp == doc.fp);
        if doc.generation != claim.generation || !free || !fits || !same_fp {
            return StoreReply::NoMatch;
        }
        let mut next = if claim.kind == ClaimKind::NewRun { doc.next_run() } else { doc.clone() };
        next.epoch += 1;
        next.rev += 1;
        next.nonce = claim.nonce;
        next.owner = Some(claim.owner.clone());
        next.lease_until = claim.lease_until;
        self.commit(next.clone());
        StoreReply::Claimed(Box::new(next))
    }

    fn compare_and_set(&mut self, write: &Write) -> StoreReply {
        let Some(doc) = &self.doc else { return StoreReply::NoMatch };
        let expect = write.expect;
        let matches =
            doc.generation == expect.generation && doc.epoch == expect.epoch && doc.rev == expect.rev;
        if !matches || (expect.uncancelled && doc.cancel) {
            return StoreReply::NoMatch;
        }
        let next = Record { cancel: doc.cancel, evp: doc.evp || write.owes, ..write.next.clone() };
        self.commit(next);
        StoreReply::Applied
    }

    fn note(&mut self, note: &Note) -> StoreReply {
        let Some(doc) = &mut self.doc else { return StoreReply::NoMatch };
        match note {
            Note::Conflict(fp) => {
                self.conflicts.insert(fp.clone());
            }
            Note::CancelTooLate(_) => {}
            Note::Cancel if doc.phase.is_terminal() => return StoreReply::NoMatch,
            Note::Cancel => doc.cancel = true,
            Note::Owed { generation, rev, owed } => {
                if doc.generation != *generation || doc.rev != *rev {
                    return StoreReply::NoMatch;
                }
                doc.evp = *owed;
            }
        }
        StoreReply::Applied
    }

    fn call(&mut self, slot: usize, step: u32, verb: Verb) -> Input {
        let record = self.slots[slot].handling.record().unwrap().clone();
        let name = record.step(step).to_string();
        let doc = self.doc.as_ref().expect("a call comes after a committed document");
        assert!(
            doc.generation > record.generation || doc.hi >= step,
            "step {step} is called before its intent is committed"
        );
        let (generation, unknown) =
            (record.generation, CallOutcome::Unknown { what: "timeout".into(), retry_after: None });
        if self.fault(|budget| &mut budget.not_sent) {
            return Input::Called(CallOutcome::NotSent { what: "connection refused".into() });
        }
        if verb == Verb::Do && self.fault(|budget| &mut budget.refusals) {
            // Not recorded by the downstream: a late request of somebody else may still succeed.
            return Input::Called(CallOutcome::Refused {
                code: "out_of_stock".into(),
                message: String::new(),
            });
        }
        if verb == Verb::Undo && self.fault(|budget| &mut budget.undo_refusals) {
            return Input::Called(CallOutcome::Refused { code: "shipped".into(), message: String::new() });
        }
        if self.fault(|budget| &mut budget.unknown_calls) {
            match self.choose(3) {
                0 => drop(self.downstream(generation, &name, verb)),
                1 => self.late.push((generation, name, verb)),
                _ => {}
            }
            return Input::Called(unknown);
        }
        Input::Called(self.downstream(generation, &name, verb))
    }

    /// A downstream that follows the contract.
    fn downstream(&mut self, generation: u32, step: &str, verb: Verb) -> CallOutcome {
        let key = (generation, step.to_owned());
        let state = self.steps.entry(key.clone()).or_default();
        match (verb, *state) {
            (Verb::Do, Effected::Nothing) => {
                *state = Effected::Done;
                *self.do_effects.entry(key).or_default() += 1;
            }
            (Verb::Do, Effected::Done) => {}
            (Verb::Do, Effected::Undone) => return CallOutcome::Cancelled,
            (Verb::Undo, _) => *state = Effected::Undone,
        }
        CallOutcome::Success { result: "{}".into() }
    }

    /// Publishes all of a list; without a confirm, any part of it.
    fn publish(&mut self, slot: usize, publications: &[Publication]) -> Input {
        let confirmed = !self.blocked && !self.fault(|budget| &mut budget.unconfirmed);
        for publication in publications {
            if confirmed || self.choose(2) == 1 {
                self.publish_one(slot, publication);
            }
        }
        if confirmed { Input::Confirmed } else { Input::NotConfirmed }
    }

    fn publish_one(&mut self, slot: usize, publication: &Publication) {
        match publication {
            Publication::Copy { lane, .. } => {
                let command = self.slots[slot].message.command.clone();
                self.ready.push(Message { command, lane: lane.clone(), redelivered: false });
            }
            Publication::Compensate(record) => {
                let lane = Lane::Compensate(record.failed_step().clone());
                let fp = Some(record.fp.clone());
                self.ready.push(other_command(
                    &self.ours,
                    record.generation,
                    fp,
                    CommandKind::Resume {},
                    lane,
                ));
            }
            Publication::DeadLetter { queue, .. } => self.dead.push(queue.clone()),
            Publication::Event(event) => {
                if event.seq > 0 {
                    let doc = self.doc.as_ref().unwrap();
                    assert!(
                        doc.generation > event.generation || doc.phase.is_terminal(),
                        "event before its cause"
                    );
                }
                self.events.push((event.event, event.generation));
            }
        }
    }

    fn lose_channel(&mut self) {
        let slot = self.choose(self.slots.len());
        if std::mem::take(&mut self.slots[slot].owns_delivery) {
            let message = Message { redelivered: true, ..self.slots[slot].message.clone() };
            self.ready.push(message);
        }
    }

    fn crash(&mut self) {
        let slot = self.choose(self.slots.len());
        let slot = self.slots.remove(slot);
        if slot.owns_delivery {
            let quarantined = self.fault(|budget| &mut budget.quarantines);
            let lane = if quarantined { Lane::Quarantine } else { slot.message.lane.clone() };
            self.ready.push(Message { redelivered: !quarantined, lane, ..slot.message });
        }
    }

    fn apply_late_write(&mut self) {
        if !self.late_writes.is_empty() {
            let index = self.choose(self.late_writes.len());
            let operation = self.late_writes.remove(index);
            self.apply(&operation);
        }
    }

    fn deliver_late_request(&mut self) {
        if let Some((generation, step, verb)) = self.late.pop() {
            self.downstream(generation, &step, verb);
            if self.choose(2) == 1 {
                self.downstream(generation, &step, verb);
            }
        }
    }

    fn somebody_writes(&mut self) {
        if self.fault(|budget| &mut budget.duplicates) {
            self.ready.push(self.ours.clone());
        } else if self.fault(|budget| &mut budget.conflicts) {
            self.conflicting_posts += 1;
            self.ready.push(self.other.clone());
        } else if self.fault(|budget| &mut budget.cancels) {
            let requested_at = jiff::Timestamp::from_millisecond(self.now).unwrap();
            self.ready.push(other_command(
                &self.ours,
                1,
                None,
                CommandKind::Cancel { requested_at },
                Lane::Retry,
            ));
        } else if let Some(hold) = self.doc.as_ref().and_then(|doc| doc.hold.clone()) {
            if self.fault(|budget| &mut budget.decisions) {
                let decision = [Decision::Release, Decision::Settle, Decision::Discard][self.choose(3)];
                let kind = CommandKind::Resolve { hold: hold.id, decision, reason: "r".into() };
                let generation = self.doc.as_ref().map_or(1, |doc| doc.generation);
                self.ready.push(other_command(&self.ours, generation, None, kind, Lane::Replay));
            }
        } else if let Some(doc) = &self.doc
            && doc.phase == Phase::Undone
        {
            let run = other_command(
                &self.ours,
                doc.generation + 1,
                Some(doc.fp.clone()),
                CommandKind::Run {},
                Lane::Replay,
            );
            if self.fault(|budget| &mut budget.new_runs) {
                self.ready.push(run);
            }
        } else {
            self.sweep();
        }
    }

    fn sweep(&mut self) {
        let Some(doc) = &self.doc else { return };
        if doc.evp {
            let resume = other_command(
                &self.ours,
                doc.generation,
                Some(doc.fp.clone()),
                CommandKind::Resume {},
                Lane::Retry,
            );
            self.ready.push(resume);
        }
    }

    /// Whatever has happened so far, the order is in somebody's hands: in a queue, unacked, owed, parked, or ended with
    /// its event published.
    fn check_custody(&self) {
        let fp = self.doc.as_ref().map_or(self.ours.command.fp.as_ref(), |doc| Some(&doc.fp));
        let unacked = self.slots.iter().filter(|slot| slot.owns_delivery).map(|slot| &slot.message);
        let carries = |message: &Message| match message.command.kind {
            CommandKind::Cancel { .. } => false,
            CommandKind::Resolve { .. } => true,
            _ => message.command.fp.as_ref() == fp,
        };
        let in_queue = self.ready.iter().chain(unacked).any(carries);
        let safe = match &self.doc {
            None => in_queue,
            Some(doc) if doc.evp => true,
            Some(doc) if doc.hold.is_some() => in_queue || self.dead.contains(&DeadLetterQueue::Held),
            Some(doc) if doc.phase.is_terminal() => {
                in_queue
                    || self.events.iter().any(|(event, generation)| {
                        *generation == doc.generation
                            && (*event == EventType::Completed) == (doc.phase == Phase::Done)
                    })
            }
            Some(_) => in_queue,
        };
        assert!(safe, "custody lost: {:?}\n{}", self.doc, self.story());
        for (step, count) in &self.do_effects {
            assert!(*count <= 1, "two effects of {step:?}");
        }
    }

    fn story(&self) -> String {
        self.log.iter().map(|(slot, effect)| format!("{slot}: {effect:?}\n")).collect()
    }

    fn acked(&self, ending: Ending) -> bool {
        self.log.iter().any(|(_, effect)| *effect == Effect::Ack(ending))
    }

    fn check_end(&mut self) {
        while !self.late.is_empty() {
            self.deliver_late_request();
        }
        let doc = self.doc.clone().expect("an accepted order has a document");
        let names: Vec<StepName> = doc.steps.clone();
        let net = |generation: u32, step: &StepName| {
            u32::from(self.steps.get(&(generation, step.to_string())).copied() == Some(Effected::Done))
        };
        let expected = match doc.phase {
            Phase::Done => Some(1),
            Phase::Undone => Some(0),
            Phase::Run | Phase::Comp => {
                assert!(doc.hold.is_some(), "neither ended nor held: {doc:?}\n{}", self.story());
                None
            }
        };
        for step in &names {
            let by_person = doc
                .results
                .iter()
                .any(|result| result.step == *step && result.state == StepState::SettledByPerson);
            if let Some(expected) = expected
                && !by_person
            {
                assert_eq!(net(doc.generation, step), expected, "{step} in {doc:?}\n{}", self.story());
            }
            for earlier in 1..doc.generation {
                assert_eq!(net(earlier, step), 0, "{step} of run {earlier}\n{}", self.story());
            }
        }
        if doc.phase == Phase::Undone && doc.is_final {
            assert!(self.events.contains(&(EventType::Cancelled, doc.generation)), "{}", self.story());
        }
        if doc.phase == Phase::Undone && !doc.is_final {
            let parked = DeadLetterQueue::Step(doc.failed_step().clone());
            assert!(self.dead.contains(&parked), "a failed order is not parked");
        }
        for earlier in 1..doc.generation {
            assert!(
                self.events.contains(&(EventType::Failed, earlier)),
                "run {earlier} ended without an event"
            );
        }
        for (event, generation) in &self.events {
            let final_event = matches!(event, EventType::Cancelled | EventType::Completed);
            assert!(!final_event || *generation == doc.generation, "a run after {event:?}");
        }
        assert!(!self.dead.contains(&DeadLetterQueue::Poison), "{}", self.story());
        let executed_the_first = Some(&doc.fp) == self.ours.command.fp.as_ref();
        assert_eq!(
            self.conflicting_posts > 0,
            self.dead.contains(&DeadLetterQueue::Conflict) || !executed_the_first,
            "every body posted is either executed or a conflict"
        );
    }
}

fn play(choices: Vec<u16>, budget: Budget) -> World {
    let mut world = World::new(choices, budget);
    world.run();
    world.check_end();
    world
}

fn hostile() -> Budget {
    Budget {
        lost_channels: 3,
        crashes: 3,
        lost_answers: 3,
        unconfirmed: 2,
        unknown_calls: 6,
        refusals: 1,
        undo_refusals: 0,
        not_sent: 1,
        duplicates: 1,
        conflicts: 0,
        cancels: 1,
        new_runs: 2,
        decisions: 2,
        drains: 2,
        quarantines: 1,
    }
}

fn peaceful() -> Budget {
    Budget {
        lost_channels: 0,
        crashes: 0,
        lost_answers: 0,
        unconfirmed: 0,
        unknown_calls: 0,
        refusals: 0,
        undo_refusals: 0,
        not_sent: 0,
        duplicates: 0,
        conflicts: 0,
        cancels: 0,
        new_runs: 0,
        decisions: 0,
        drains: 0,
        quarantines: 0,
    }
}

/// How many schedules each property tries; `PROPTEST_CASES` sets another number.
fn schedules() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(4_000);
    ProptestConfig { cases, max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(schedules())]

    #[test]
    fn every_schedule_keeps_custody_and_ends_with_all_or_nothing(choices in prop::collection::vec(any::<u16>(), 0..400)) {
        play(choices, hostile());
    }

    #[test]
    fn a_refused_undo_ends_held_or_undone(choices in prop::collection::vec(any::<u16>(), 0..300)) {
        play(choices, Budget { undo_refusals: 2, refusals: 2, cancels: 0, new_runs: 0, ..hostile() });
    }

    #[test]
    fn one_of_two_bodies_under_a_key_is_executed(choices in prop::collection::vec(any::<u16>(), 0..300)) {
        play(choices, Budget { conflicts: 2, cancels: 0, new_runs: 0, ..hostile() });
    }
}

#[test]
fn an_undisturbed_order_is_done_with_one_insert_and_three_writes() {
    let world = play(Vec::new(), peaceful());
    let doc = world.doc.unwrap();
    assert_eq!((doc.phase, doc.epoch, doc.rev), (Phase::Done, 1, 4));
    assert_eq!(world.events, [(EventType::Completed, 1)]);
    assert!(world.dead.is_empty());
}

#[test]
fn the_hostile_world_reaches_every_ending() {
    let mut seen = BTreeSet::new();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let schedule = prop::collection::vec(any::<u16>(), 100..400);
    for _ in 0..1_500 {
        let choices = schedule.new_tree(&mut runner).unwrap().current();
        let world = play(choices, Budget { undo_refusals: 1, ..hostile() });
        let doc = world.doc.clone().unwrap();
        seen.insert(match (doc.phase, doc.is_final, doc.generation > 1) {
            (Phase::Done, _, false) => "done",
            (Phase::Done, _, true) => "done in a later run",
            (Phase::Undone, true, _) => "cancelled",
            (Phase::Undone, false, _) => "failed",
            _ => "held",
        });
        if world.acked(Ending::Fenced) {
            seen.insert("fenced");
        }
        if world.acked(Ending::Owed) {
            seen.insert("owed");
        }
    }
    let all = ["cancelled", "done", "done in a later run", "failed", "fenced", "held", "owed"];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), all);
}
