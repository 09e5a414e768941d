//! The database: one document, changed only as the storage crate changes it.

use orderfleet_domain::saga::{Claim, ClaimKind, Effect, Input, Note, Phase, Record, StoreReply, Write};

use crate::{Fault, Outcome, Property, Setup, World, world::phase_rank};

/// The model's database by itself, to be compared with the real one.
#[derive(Debug, Clone)]
pub struct Database {
    world: World,
}

impl Database {
    /// One with no document in it.
    #[must_use]
    pub fn empty(setup: &Setup) -> Self {
        Self { world: World::new(setup) }
    }

    /// Performs an operation, and answers it: an insert, claim, write, note or read. Whether it should have been asked for is
    /// no concern of a database.
    pub fn perform(&mut self, operation: &Effect) -> StoreReply {
        match operation {
            Effect::Read => StoreReply::Found(self.document().cloned().map(Box::new)),
            operation => self.world.operate(operation),
        }
    }

    /// The document.
    #[must_use]
    pub fn document(&self) -> Option<&Record> {
        self.world.doc.as_ref()
    }
}

impl World {
    /// Performs a database operation for a slot.
    pub(crate) fn store(&mut self, slot: usize, operation: &Effect, outcome: Outcome) -> Input {
        self.slots[slot].owing |= matches!(operation, Effect::Write(write) if write.owes);
        if outcome == Outcome::Pending {
            self.slots[slot].lagged = true;
            return Input::Store(StoreReply::NoMatch);
        }
        if outcome != Outcome::Fine {
            self.budget.spend(Fault::LostAnswer);
        }
        match outcome {
            Outcome::Lost => Input::Store(StoreReply::Unknown),
            Outcome::Late => {
                self.late_writes.push(operation.clone());
                Input::Store(StoreReply::Unknown)
            }
            Outcome::AnswerLost => {
                let reply = self.operate(operation);
                self.note_reasons_to_ack(slot, operation, &reply);
                Input::Store(StoreReply::Unknown)
            }
            _ => {
                let reply = self.operate(operation);
                self.note_reasons_to_ack(slot, operation, &reply);
                Input::Store(reply)
            }
        }
    }

    pub(crate) fn apply_late(&mut self, index: usize) {
        let operation = self.late_writes.remove(index);
        self.operate(&operation);
    }

    /// A linearizable read.
    pub(crate) fn read(&mut self, slot: usize) -> StoreReply {
        let slot = &mut self.slots[slot];
        if let (Some(doc), Some(base)) = (&self.doc, slot.handling.record()) {
            let applied = doc.rev > base.rev && doc.epoch == base.epoch;
            slot.resolved |= applied;
            // The write that was applied unseen may have been one that owes; its flag may be down again by now.
            slot.may_ack |= applied && slot.owing;
        }
        if self.doc.as_ref().is_some_and(|doc| doc.evp) {
            slot.may_ack = true;
        }
        StoreReply::Found(self.doc.clone().map(Box::new))
    }

    fn note_reasons_to_ack(&mut self, slot: usize, operation: &Effect, reply: &StoreReply) {
        let slot = &mut self.slots[slot];
        match (operation, reply) {
            (Effect::Claim(_), StoreReply::Claimed(record)) => {
                slot.body = Some(record.fp.clone());
                slot.may_ack |= record.evp;
            }
            (Effect::Write(write), StoreReply::Applied) => slot.may_ack |= write.owes,
            (Effect::Note(Note::Owed { owed: true, .. }), StoreReply::Applied) => slot.may_ack = true,
            _ => {}
        }
    }

    fn operate(&mut self, operation: &Effect) -> StoreReply {
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

    fn claim(&mut self, claim: &Claim) -> StoreReply {
        let Some(doc) = &self.doc else { return StoreReply::NoMatch };
        let free = !claim.respects(doc.owner.as_ref(), doc.lease_until);
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
            Note::CancelTooLate(_) => self.cancel_too_late = true,
            Note::Cancel if doc.phase.is_terminal() => return StoreReply::NoMatch,
            Note::Cancel => {
                self.cancel_in_time |=
                    doc.phase == Phase::Run && doc.cur < doc.pivot() && (!self.begun || doc.hi < doc.pivot());
                doc.cancel = true;
            }
            Note::Owed { generation, rev, owed } => {
                if doc.generation != *generation || doc.rev != *rev {
                    return StoreReply::NoMatch;
                }
                doc.evp = *owed;
            }
        }
        StoreReply::Applied
    }

    /// A deciding write is majority-committed.
    pub(crate) fn commit(&mut self, next: Record) {
        if let Some(before) = &self.doc {
            let same_run = next.generation == before.generation;
            let fenced =
                next.epoch < before.epoch || next.rev <= before.rev || next.generation < before.generation;
            let back = same_run
                && (phase_rank(next.phase) < phase_rank(before.phase)
                    || Some(next.hi) < self.highest_asked(next.generation)
                    || (before.phase.is_terminal() && next.phase != before.phase));
            let described = || {
                format!(
                    "{} at gen {} epoch {} rev {} over {} at gen {} epoch {} rev {}",
                    next.phase.as_str(),
                    next.generation,
                    next.epoch,
                    next.rev,
                    before.phase.as_str(),
                    before.generation,
                    before.epoch,
                    before.rev
                )
            };
            let found = match (fenced, back) {
                (true, _) => Some((Property::Fence, described())),
                (_, true) => Some((Property::OneWay, described())),
                _ => None,
            };
            if let Some((property, how)) = found {
                self.violate(property, || how);
            }
        }
        self.doc = Some(next);
    }
}
