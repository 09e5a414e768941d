//! An order's document in memory, changed as the storage crate changes the real one. It has one user at a time, so leases
//! keep nobody away.

use orderfleet_domain::saga::{Claim, ClaimKind, Effect, Note, Phase, Record, StoreReply, Write};

/// A document, or none.
#[derive(Debug)]
pub(super) struct Document(pub(super) Option<Record>);

impl Document {
    /// Performs an insert, claim, write, note or read.
    pub(super) fn perform(&mut self, operation: &Effect) -> StoreReply {
        match operation {
            Effect::Insert(record) => self.insert(record),
            Effect::Claim(claim) => self.claim(claim),
            Effect::Write(write) => self.write(write),
            Effect::Note(note) => self.note(note),
            _ => StoreReply::Found(self.0.clone().map(Box::new)),
        }
    }

    fn insert(&mut self, record: &Record) -> StoreReply {
        if self.0.is_some() {
            return StoreReply::Exists;
        }
        self.0 = Some(record.clone());
        StoreReply::Applied
    }

    fn claim(&mut self, claim: &Claim) -> StoreReply {
        let Some(doc) = &mut self.0 else { return StoreReply::NoMatch };
        let fits = match &claim.kind {
            ClaimKind::Continue(phases) => phases.contains(doc.phase) && doc.hold.is_none(),
            ClaimKind::NewRun => doc.phase == Phase::Undone && !doc.is_final && !doc.evp,
            ClaimKind::Resolve(id) => doc.hold.as_ref().is_some_and(|hold| hold.id == *id),
        };
        let same_fp = claim.fp.as_ref().is_none_or(|fp| *fp == doc.fp);
        if !fits || !same_fp || doc.generation != claim.generation {
            return StoreReply::NoMatch;
        }
        if claim.kind == ClaimKind::NewRun {
            *doc = doc.next_run();
        }
        doc.epoch += 1;
        doc.rev += 1;
        doc.nonce = claim.nonce;
        doc.owner = Some(claim.owner.clone());
        doc.lease_until = claim.lease_until;
        StoreReply::Claimed(Box::new(doc.clone()))
    }

    fn write(&mut self, write: &Write) -> StoreReply {
        let Some(doc) = &mut self.0 else { return StoreReply::NoMatch };
        let expect = write.expect;
        let stands = (doc.generation, doc.epoch, doc.rev);
        if stands != (expect.generation, expect.epoch, expect.rev) || (expect.uncancelled && doc.cancel) {
            return StoreReply::NoMatch;
        }
        *doc = Record { cancel: doc.cancel, evp: doc.evp || write.owes, ..write.next.clone() };
        StoreReply::Applied
    }

    fn note(&mut self, note: &Note) -> StoreReply {
        let Some(doc) = &mut self.0 else { return StoreReply::NoMatch };
        match note {
            Note::Conflict(_) | Note::CancelTooLate(_) => {}
            Note::Cancel if doc.phase.is_terminal() => return StoreReply::NoMatch,
            Note::Cancel => doc.cancel = true,
            Note::Owed { generation, rev, .. } if (doc.generation, doc.rev) != (*generation, *rev) => {
                return StoreReply::NoMatch;
            }
            Note::Owed { owed, .. } => doc.evp = *owed,
        }
        StoreReply::Applied
    }
}
