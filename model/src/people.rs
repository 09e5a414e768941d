//! Clients, operators, and the fleet's own housekeepers: whoever else sends messages or writes notes.

use orderfleet_domain::{
    CommandKind, Decision,
    saga::{Hold, Lane, Nonce, Phase, Record, WorkerId, dead_letter_id},
};

use crate::{
    Fault, Setup, World,
    world::{Asked, Letter},
};

impl World {
    pub(crate) fn repost(&mut self, setup: &Setup) {
        self.budget.spend(Fault::Repost);
        self.enqueue(setup.ours.clone());
    }

    pub(crate) fn post_other(&mut self, setup: &Setup) {
        self.budget.spend(Fault::OtherBody);
        self.other_posted = true;
        self.enqueue(setup.other.clone());
    }

    pub(crate) fn cancel(&mut self, setup: &Setup) {
        self.budget.spend(Fault::Cancel);
        self.cancel_asked = true;
        let requested_at = jiff::Timestamp::from_millisecond(self.now).unwrap_or_default();
        self.enqueue(setup.message(1, None, CommandKind::Cancel { requested_at }, Lane::Retry));
    }

    pub(crate) fn new_run(&mut self, setup: &Setup) {
        self.budget.spend(Fault::NewRun);
        let Some(doc) = &self.doc else { return };
        let (next, fp) = (doc.generation + 1, Some(doc.fp.clone()));
        self.runs_asked.insert(next);
        self.enqueue(setup.message(next, fp, CommandKind::Run { order: None }, Lane::Replay));
    }

    /// A person decides about the hold, after having done by hand what the decision says was done by hand.
    pub(crate) fn decide(&mut self, setup: &Setup, decision: Decision) {
        self.budget.spend(Fault::Decision);
        let Some((doc, hold)) = self.doc.as_ref().and_then(|doc| Some((doc, doc.hold.clone()?))) else {
            return;
        };
        let (generation, cur, phase) = (doc.generation, doc.cur, doc.phase);
        let by_hand = match (decision, phase) {
            (Decision::Settle, Phase::Comp) => cur..=cur,
            (Decision::Discard, Phase::Comp) => 0..=cur,
            #[expect(clippy::reversed_empty_ranges, reason = "nothing was done by hand")]
            _ => 1..=0,
        };
        for step in by_hand.rev() {
            self.reverse_by_hand(setup, generation, step);
        }
        self.holds_decided.insert(hold.id.clone());
        let kind = CommandKind::Resolve { hold: hold.id, decision, reason: "r".into() };
        self.enqueue(setup.message(generation, None, kind, Lane::Replay));
    }

    pub(crate) fn sweep(&mut self, setup: &Setup) {
        let Some(doc) = &self.doc else { return };
        let nothing_moves = self.slots.is_empty() && self.ready.is_empty();
        if !(nothing_moves && doc.evp) {
            self.budget.spend(Fault::Sweep);
        }
        let Some(doc) = &self.doc else { return };
        let (generation, fp) = (doc.generation, Some(doc.fp.clone()));
        self.enqueue(setup.message(generation, fp, CommandKind::Resume {}, Lane::Retry));
    }

    /// As the role `park` does: an order without a document gets one that is held, or somebody who is late could still begin
    /// it unseen; an order that is under way is claimed and held; one that has ended may still owe its
    /// event.
    pub(crate) fn park(&mut self, setup: &Setup) {
        let Some((id, crashed)) = self.crashed_letter() else { return };
        let (id, now) = (id.clone(), self.now);
        self.letters.insert(id, Letter::Parked(crashed));
        let Some(doc) = &mut self.doc else {
            if crashed.asked == Asked::Work {
                self.insert_held(setup, crashed.is_other);
            }
            return;
        };
        if doc.phase.is_terminal() {
            doc.evp = true;
            return;
        }
        let is_other = Some(&doc.fp) == setup.other.command.fp.as_ref();
        let is_about_it = crashed.generation == doc.generation && crashed.is_other == is_other;
        if crashed.asked == Asked::Cancel || !is_about_it || doc.hold.is_some() {
            return;
        }
        let mut next = doc.clone();
        let reason = "workers crashed".to_owned();
        next.epoch += 1;
        next.rev += 1;
        // Named after the write, not after the dead letter: a second crash of the same message is a second hold.
        let id = dead_letter_id(setup.order_id(), next.generation, next.rev);
        next.hold = Some(Hold { id, step: doc.step(doc.cur).clone(), reason, at: now });
        next.nonce = Nonce(u128::from(next.rev) << 64);
        self.commit(next);
    }

    fn insert_held(&mut self, setup: &Setup, is_other: bool) {
        let body = if is_other { &setup.other } else { &setup.ours };
        let Some(fp) = body.command.fp.clone() else { return };
        let mut first =
            Record::first(fp, setup.policy.step_names(), WorkerId("park".into()), 0, Nonce(1 << 64));
        first.owner = None;
        first.hi = 0;
        let (step, reason) = (first.step(0).clone(), "workers crashed".to_owned());
        let id = dead_letter_id(setup.order_id(), first.generation, first.rev);
        first.hold = Some(Hold { id, step, reason, at: self.now });
        self.commit(first);
    }
}
