//! From a delivery to an order that is ours: first sight, claim, and what a claim that misses means.

use crate::{
    CommandKind,
    saga::{
        Claim, ClaimKind, DOCUMENT_VERSION, Effect, Ending, Handling, Lane, Millis, Moment, Note, Phase,
        Policy, Record, StoreReply, Tier,
        decide::{Choice, make_final},
        handling::{At, Reach, Then},
    },
};

/// Claims of one delivery before it is put aside for a second.
const CLAIMS_MAX: u32 = 3;
/// How long a cancel waits for the order it names.
const CANCEL_WAITS_MAX_MS: Millis = 24 * 3_600_000;

impl Handling {
    pub(super) fn arrive(&mut self, policy: &Policy, moment: &Moment) -> Effect {
        match &self.delivered.command.kind {
            CommandKind::Place { .. }
                if !self.delivered.redelivered && matches!(self.delivered.lane, Lane::New(_)) =>
            {
                self.insert(policy, moment)
            }
            CommandKind::Cancel { .. } => self.read(0),
            CommandKind::Run { .. } => self.claim(policy, moment, ClaimKind::NewRun, 0),
            CommandKind::Resolve { hold, .. } => {
                let kind = ClaimKind::Resolve(hold.clone());
                self.claim(policy, moment, kind, 0)
            }
            CommandKind::Place { .. } | CommandKind::Resume {} | CommandKind::Compensate { .. } => {
                self.claim(policy, moment, ClaimKind::Continue(self.delivered.lane.phases()), 0)
            }
        }
    }

    pub(super) fn insert(&mut self, policy: &Policy, moment: &Moment) -> Effect {
        let Some(fp) = self.delivered.command.fp.clone() else {
            return self.poison("the message has no fingerprint");
        };
        let lease_until = moment.now + policy.lease_ms;
        let record = Record::first(fp, policy.step_names(), self.worker.clone(), lease_until, moment.nonce);
        self.at = At::Inserting(Box::new(record.clone()));
        Effect::Insert(Box::new(record))
    }

    pub(super) fn inserted(
        &mut self,
        policy: &Policy,
        moment: &Moment,
        record: Box<Record>,
        reply: StoreReply,
    ) -> Effect {
        match reply {
            StoreReply::Applied => {
                self.base = Some(*record);
                self.proceed(policy, moment)
            }
            // Also when it is our own insert whose answer was lost: the lease in it is ours, so the claim passes.
            StoreReply::Exists => {
                self.claim(policy, moment, ClaimKind::Continue(self.delivered.lane.phases()), 0)
            }
            StoreReply::Refused(reason) => self.poison(&reason),
            _ => {
                self.at = At::Inserting(record.clone());
                Effect::Insert(record)
            }
        }
    }

    pub(super) fn claim(&mut self, policy: &Policy, moment: &Moment, kind: ClaimKind, claims: u32) -> Effect {
        let claim = self.new_claim(policy, moment, kind);
        self.at = At::Claiming { claim: claim.clone(), claims: claims + 1 };
        Effect::Claim(claim)
    }

    fn new_claim(&self, policy: &Policy, moment: &Moment, kind: ClaimKind) -> Claim {
        let command = &self.delivered.command;
        let generation = if kind == ClaimKind::NewRun { command.generation - 1 } else { command.generation };
        Claim {
            kind,
            generation,
            fp: command.fp.clone(),
            redelivered: self.delivered.redelivered,
            now: moment.now,
            owner: self.worker.clone(),
            lease_until: moment.now + policy.lease_ms,
            nonce: moment.nonce,
        }
    }

    pub(super) fn claimed(
        &mut self,
        policy: &Policy,
        moment: &Moment,
        claim: Claim,
        claims: u32,
        reply: StoreReply,
    ) -> Effect {
        match reply {
            StoreReply::Claimed(record) if !record.is_consistent() => {
                self.poison("the order's document is inconsistent")
            }
            StoreReply::Claimed(mut record) => {
                record.excuse_lateness(moment.now);
                let began_run = claim.kind == ClaimKind::NewRun;
                self.unwritten.clear();
                self.reach = Reach { hi_before: (!began_run).then_some(record.hi), called: None };
                self.base = Some(*record);
                self.proceed(policy, moment)
            }
            StoreReply::NoMatch => self.read(claims),
            StoreReply::Refused(reason) => self.poison(&reason),
            // A claim that was applied unseen only cost an epoch: the next one passes, the lease is ours.
            _ => {
                self.at = At::Claiming { claim: claim.clone(), claims };
                Effect::Claim(claim)
            }
        }
    }

    pub(super) fn read(&mut self, claims: u32) -> Effect {
        self.at = At::Looking { claims };
        Effect::Read
    }

    /// Decides by the document that a claim did not match.
    pub(super) fn look(
        &mut self,
        policy: &Policy,
        moment: &Moment,
        claims: u32,
        found: Option<Record>,
    ) -> Effect {
        let Some(record) = found else { return self.absent(policy, moment) };
        let generation = self.delivered.command.generation;
        let is_place = matches!(self.delivered.command.kind, CommandKind::Place { .. });
        if record.sv > DOCUMENT_VERSION {
            return self.leave_to_newer();
        }
        if !record.is_consistent() {
            return self.poison("the order's document is inconsistent");
        }
        if self.delivered.command.fp.as_ref().is_some_and(|fp| !fp.is_comparable_to(&record.fp)) {
            self.delivered.command.fp = None;
        }
        if self.delivered.command.fp.as_ref().is_some_and(|fp| *fp != record.fp) {
            return if is_place {
                self.conflict()
            } else {
                self.poison("the fingerprint is not that of the order")
            };
        }
        if matches!(self.delivered.command.kind, CommandKind::Cancel { .. }) {
            return self.cancel(moment, &record);
        }
        if record.generation > generation {
            return self.finish_earlier_run();
        }
        if record.generation < generation {
            return self.start_run(policy, moment, claims, &record);
        }
        // A decision on a hold that is gone has been applied, perhaps by a worker that got no further: go on as for any
        // other message.
        if let CommandKind::Resolve { hold, .. } = &self.delivered.command.kind
            && record.hold.as_ref().is_some_and(|held| held.id == *hold)
        {
            let kind = ClaimKind::Resolve(hold.clone());
            return match claims < CLAIMS_MAX {
                true => self.claim(policy, moment, kind, claims),
                false => self.copy(Some(Tier::S1), Then::End(Ending::Deferred)),
            };
        }
        if record.hold.is_some() {
            return self.park_held(&record);
        }
        if record.phase.is_terminal() {
            return self.finish(moment, &record);
        }
        if !self.delivered.lane.phases().contains(record.phase) {
            return self.hand_over(&record);
        }
        let kind = ClaimKind::Continue(self.delivered.lane.phases());
        let claim = self.new_claim(policy, moment, kind.clone());
        if claims >= CLAIMS_MAX || claim.respects(record.owner.as_ref(), record.lease_until) {
            return self.copy(Some(Tier::S1), Then::recorded(&record, Ending::Deferred));
        }
        self.claim(policy, moment, kind, claims)
    }

    /// A newer build has written the document: this message waits for one. The document's flag is not ours to touch: what it
    /// means may have changed.
    pub(super) fn leave_to_newer(&mut self) -> Effect {
        self.copy(Some(Tier::M2), Then::End(Ending::Deferred))
    }

    /// The message asks for a run that has not begun. What the run before still owes comes first: its event can no longer be
    /// told from the document once the next run has begun.
    fn start_run(&mut self, policy: &Policy, moment: &Moment, claims: u32, record: &Record) -> Effect {
        let is_next = record.generation + 1 == self.delivered.command.generation;
        let is_run = matches!(self.delivered.command.kind, CommandKind::Run { .. });
        if !is_run || !is_next || record.phase != Phase::Undone || record.is_final {
            return self.end(Ending::NothingToDo);
        }
        if record.evp {
            return self.settle_earlier_run(record);
        }
        if claims >= CLAIMS_MAX {
            return self.copy(Some(Tier::S1), Then::End(Ending::Deferred));
        }
        self.claim(policy, moment, ClaimKind::NewRun, claims)
    }

    pub(super) fn absent(&mut self, policy: &Policy, moment: &Moment) -> Effect {
        match &self.delivered.command.kind {
            CommandKind::Place { .. } => self.insert(policy, moment),
            CommandKind::Cancel { requested_at } => match moment.now - requested_at.as_millisecond() {
                age if age < CANCEL_WAITS_MAX_MS => {
                    self.copy(Some(cancel_wait(age)), Then::End(Ending::Deferred))
                }
                _ => self.poison("cancel of an order that did not appear within 24 hours"),
            },
            _ => self.poison("the order has no document"),
        }
    }

    pub(super) fn cancel(&mut self, moment: &Moment, record: &Record) -> Effect {
        match record.phase {
            Phase::Run | Phase::Comp => self.note(Note::Cancel, Then::End(Ending::CancelRequested)),
            Phase::Undone if !record.is_final => {
                let write = Box::new(make_final(record, moment));
                self.at = At::Writing { write: write.clone(), choice: Choice::MakeFinal };
                Effect::Write(write)
            }
            Phase::Undone => self.finish(moment, record),
            Phase::Done => self.note(Note::CancelTooLate(moment.now), Then::End(Ending::NothingToDo)),
        }
    }
}

/// A cancel that overtook its order looks for it as often as its age makes it likely to come: in time to be honoured.
fn cancel_wait(age: Millis) -> Tier {
    Tier::ALL.into_iter().rev().find(|tier| tier.millis() <= age / 2).unwrap_or(Tier::S1).min(Tier::M2)
}
