//! What can happen next: work that goes on by itself, and trouble as far as the budget allows.

use orderfleet_domain::{
    Decision,
    saga::{Effect, Lane, Millis, Phase, Verb},
};
use serde::{Deserialize, Serialize};

use crate::{
    Fault, Setup, World,
    world::{Crashed, Letter, Message},
};

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A worker gets a message.
    Deliver {
        /// Which of the ready messages.
        message: u8,
        /// How wrong the worker's clock is.
        #[serde(default, skip_serializing_if = "Skew::is_none")]
        skew: Skew,
    },
    /// A worker's effect is performed.
    Perform {
        /// Which worker.
        slot: u8,
        /// What comes of it.
        outcome: Outcome,
    },
    /// [`Fault::LoseChannel`]
    LoseChannel(u8),
    /// [`Fault::Crash`]
    Crash(u8, CrashTo),
    /// [`Fault::Drain`]
    Drain(u8),
    /// A database operation whose answer was lost is applied now.
    ApplyLate(u8),
    /// A request whose answer was lost reaches its service now.
    CallLate(u8),
    /// [`Fault::Alarm`], or its end.
    Block(bool),
    /// [`Fault::Tick`]: the leases run out; where time passes, two hours.
    Tick,
    /// [`Fault::Repost`]
    Repost,
    /// [`Fault::OtherBody`]
    OtherBody,
    /// [`Fault::Cancel`]
    Cancel,
    /// [`Fault::NewRun`]
    NewRun,
    /// [`Fault::Decision`]
    Decide(Decision),
    /// The sweeper brings the order back.
    Sweep,
    /// The parker takes a dead letter that the broker moved, and holds its order.
    Park,
}

/// What comes of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is performed and answered.
    Fine,
    /// It is performed, the answer is lost.
    AnswerLost,
    /// It is never performed, and there is no answer.
    Lost,
    /// There is no answer; it may be performed later.
    Late,
    /// The same write is applied but not yet majority-committed: this repeat of it matches nothing.
    Pending,
    /// The service says no.
    Refused,
    /// Nothing is sent.
    NotSent,
    /// Not confirmed; these publications of the list are queued all the same (bits).
    Unconfirmed(u8),
}

/// Where the delivery of a crashed worker goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrashTo {
    /// Back into its queue.
    Requeued,
    /// To the quarantine lane, or from there to `dead.poison`.
    Onwards,
}

/// How wrong a worker's clock is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skew {
    /// Right.
    #[default]
    None,
    /// An hour fast.
    Fast,
    /// An hour slow.
    Slow,
}

impl Skew {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
    fn is_none(&self) -> bool {
        *self == Self::None
    }

    pub(crate) fn millis(self) -> Millis {
        match self {
            Self::None => 0,
            Self::Fast => 3_600_000,
            Self::Slow => -3_600_000,
        }
    }
}

impl World {
    /// Everything that can happen next. Nothing, once a property is violated.
    #[must_use]
    pub fn actions(&self, setup: &Setup) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.violation.is_none() {
            self.calm_actions(setup, &mut actions);
            self.faults(setup, &mut actions);
        }
        actions
    }

    /// What happens when everybody is left in peace: the order's way to its end. None of it costs budget.
    pub fn calm_actions(&self, setup: &Setup, actions: &mut Vec<Action>) {
        if self.slots.len() < usize::from(setup.scope.slots) {
            for index in 0..self.ready.len() {
                if index == 0 || self.ready[index] != self.ready[index - 1] {
                    actions.push(Action::Deliver { message: small(index), skew: Skew::None });
                }
            }
        }
        for slot in 0..self.slots.len() {
            actions.push(Action::Perform { slot: small(slot), outcome: self.usual(slot) });
        }
        if self.blocked {
            actions.push(Action::Block(false));
        }
        let nothing_moves = self.slots.is_empty() && self.ready.is_empty();
        if nothing_moves && self.doc.as_ref().is_some_and(|doc| doc.evp) {
            actions.push(Action::Sweep);
        }
        if self.crashed_letter().is_some() && !self.lease_is_live() {
            actions.push(Action::Park);
        } else if nothing_moves && self.crashed_letter().is_some() {
            actions.push(Action::Tick);
        }
    }

    /// What comes of an effect while nothing goes wrong.
    fn usual(&self, slot: usize) -> Outcome {
        match self.slots[slot].effect {
            Effect::Publish(_) if self.blocked => Outcome::Unconfirmed(0),
            _ => Outcome::Fine,
        }
    }

    fn faults(&self, setup: &Setup, actions: &mut Vec<Action>) {
        let may = |fault| self.budget.allows(fault);
        for slot in 0..self.slots.len() {
            self.bad_outcomes(slot, actions);
            let (at, owns) = (small(slot), self.slots[slot].owns_delivery);
            if may(Fault::LoseChannel) && owns {
                actions.push(Action::LoseChannel(at));
            }
            if may(Fault::Crash) {
                actions.push(Action::Crash(at, CrashTo::Requeued));
                if may(Fault::Quarantine) && owns {
                    actions.push(Action::Crash(at, CrashTo::Onwards));
                }
            }
            if may(Fault::Drain) && !self.slots[slot].draining {
                actions.push(Action::Drain(at));
            }
        }
        actions.extend((0..self.late_writes.len()).map(|index| Action::ApplyLate(small(index))));
        actions.extend((0..self.services.late.len()).map(|index| Action::CallLate(small(index))));
        if may(Fault::Skew) && self.slots.len() < usize::from(setup.scope.slots) && !self.ready.is_empty() {
            actions.extend([Skew::Fast, Skew::Slow].map(|skew| Action::Deliver { message: 0, skew }));
        }
        if may(Fault::Tick) && self.lease_is_live() {
            actions.push(Action::Tick);
        }
        if may(Fault::Alarm) && !self.blocked {
            actions.push(Action::Block(true));
        }
        self.people_may(actions);
    }

    fn people_may(&self, actions: &mut Vec<Action>) {
        let may = |fault| self.budget.allows(fault);
        for (fault, action) in [
            (Fault::Repost, Action::Repost),
            (Fault::OtherBody, Action::OtherBody),
            (Fault::Cancel, Action::Cancel),
            (Fault::Sweep, Action::Sweep),
        ] {
            let has_target = action != Action::Sweep || self.doc.is_some();
            if may(fault) && has_target {
                actions.push(action);
            }
        }
        let Some(doc) = &self.doc else { return };
        if may(Fault::NewRun) && doc.phase == Phase::Undone {
            actions.push(Action::NewRun);
        }
        if may(Fault::Decision) && doc.hold.is_some() {
            let all = [Decision::Release, Decision::Settle, Decision::Discard];
            actions.extend(all.map(Action::Decide));
        }
    }

    fn bad_outcomes(&self, slot: usize, actions: &mut Vec<Action>) {
        let mut push = |outcome| actions.push(Action::Perform { slot: small(slot), outcome });
        let may = |fault| self.budget.allows(fault);
        match &self.slots[slot].effect {
            Effect::Insert(_) | Effect::Claim(_) | Effect::Write(_) | Effect::Note(_) => {
                if may(Fault::LostAnswer) {
                    [Outcome::AnswerLost, Outcome::Lost, Outcome::Late].into_iter().for_each(&mut push);
                }
                // Notes match whether or not they are applied already.
                let may_miss = matches!(self.slots[slot].effect, Effect::Claim(_) | Effect::Write(_));
                let is_open = self.late_writes.contains(&self.slots[slot].effect);
                if may_miss && is_open && !self.slots[slot].lagged {
                    push(Outcome::Pending);
                }
            }
            Effect::Call { verb, .. } => {
                if may(Fault::UnknownCall) {
                    [Outcome::AnswerLost, Outcome::Lost, Outcome::Late].into_iter().for_each(&mut push);
                }
                if may(Fault::NotSent) {
                    push(Outcome::NotSent);
                }
                if may(if *verb == Verb::Do { Fault::Refusal } else { Fault::UndoRefusal }) {
                    push(Outcome::Refused);
                }
            }
            Effect::Publish(publications) => {
                let all = (1_u8 << publications.len()) - 1;
                if self.blocked {
                    // What was sent into a blocked connection may be queued when it is unblocked.
                    push(Outcome::Unconfirmed(all));
                } else if may(Fault::Unconfirmed) {
                    (0..=all).map(Outcome::Unconfirmed).for_each(push);
                }
            }
            Effect::Read | Effect::Ack(_) => {}
        }
    }

    /// Makes an action happen.
    ///
    /// Returns false, and changes nothing, if it cannot happen in this state: a schedule of which parts were left out may
    /// name workers and messages that are not there.
    pub fn apply(&mut self, setup: &Setup, action: Action) -> bool {
        let possible = self.violation.is_none() && self.is_possible(setup, action);
        if possible {
            self.happen(setup, action);
        }
        possible
    }

    /// As [`World::apply`], for an action that is known to be possible.
    pub(crate) fn happen(&mut self, setup: &Setup, action: Action) {
        match action {
            Action::Deliver { message, skew } => {
                if skew != Skew::None {
                    self.budget.spend(Fault::Skew);
                }
                self.deliver(setup, message.into(), skew);
            }
            Action::Perform { slot, outcome } => self.perform(setup, slot.into(), outcome),
            Action::LoseChannel(slot) => self.lose_channel(slot.into()),
            Action::Crash(slot, to) => self.crash(setup, slot.into(), to),
            Action::Drain(slot) => {
                self.budget.spend(Fault::Drain);
                self.slots[usize::from(slot)].draining = true;
            }
            Action::ApplyLate(index) => self.apply_late(index.into()),
            Action::CallLate(index) => self.call_late(index.into()),
            Action::Block(block) => {
                if block {
                    self.budget.spend(Fault::Alarm);
                }
                self.blocked = block;
            }
            Action::Tick => self.tick(setup),
            Action::Repost => self.repost(setup),
            Action::OtherBody => self.post_other(setup),
            Action::Cancel => self.cancel(setup),
            Action::NewRun => self.new_run(setup),
            Action::Decide(decision) => self.decide(setup, decision),
            Action::Sweep => self.sweep(setup),
            Action::Park => self.park(setup),
        }
        self.check(setup);
    }

    fn is_possible(&self, setup: &Setup, action: Action) -> bool {
        if let Action::Deliver { message, skew } = action {
            let has_room = self.slots.len() < usize::from(setup.scope.slots);
            let may = skew == Skew::None || self.budget.allows(Fault::Skew);
            return has_room && may && usize::from(message) < self.ready.len();
        }
        self.actions(setup).contains(&action)
    }

    fn tick(&mut self, setup: &Setup) {
        self.budget.spend(Fault::Tick);
        if setup.scope.timed {
            self.now += 2 * 3_600_000;
        } else {
            self.expire_lease();
        }
    }

    fn crash(&mut self, setup: &Setup, index: usize, to: CrashTo) {
        self.budget.spend(Fault::Crash);
        let slot = self.slots.remove(index);
        if !slot.owns_delivery {
            return;
        }
        let back = Message { redelivered: true, wait: None, ..slot.message };
        if to == CrashTo::Requeued {
            self.enqueue(back);
            return;
        }
        self.budget.spend(Fault::Quarantine);
        if back.lane == Lane::Quarantine {
            self.write_off(setup, &back);
        } else {
            self.enqueue(Message { redelivered: false, lane: Lane::Quarantine, ..back });
        }
    }

    /// The oldest dead letter in `dead.poison` that the broker moved there.
    pub(crate) fn crashed_letter(&self) -> Option<(&String, Crashed)> {
        self.letters.iter().find_map(|(id, letter)| match letter {
            Letter::Crashed(crashed) => Some((id, *crashed)),
            _ => None,
        })
    }
}

fn small(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(u8::MAX)
}
