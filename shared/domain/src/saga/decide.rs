//! What each decision writes: pure functions from the document to the next document.

use crate::{
    Decision,
    saga::{
        Cause, CauseClass, Entry, Expect, Handling, Hold, Lane, Millis, Moment, Phase, Policy, Record,
        StepResult, StepState, Tier, Write, dead_letter_id,
    },
};

/// A decision, apart from the document it is applied to: the same decision can meet a newer base.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Choice {
    /// Step `cur` took effect.
    StepDone(String),
    /// Step `cur` has net effect zero.
    StepUndone(String),
    /// Turn to COMP.
    Compensate(Cause),
    /// Wait in a tier and try again.
    Defer { what: String, charged: bool, retry_after: Option<Millis> },
    /// Wait for a person.
    Hold(String),
    /// Give the order back because this process is shutting down.
    HandBack,
    /// Apply a person's decision to the hold.
    Resolve(Decision),
    /// No further run.
    MakeFinal,
}

/// The write that a choice leads to.
pub(super) fn plan(
    base: &Record,
    choice: &Choice,
    handling: &Handling,
    policy: &Policy,
    moment: &Moment,
) -> Write {
    let mut plan = Plan::on(base, moment);
    plan.next.lease_until = moment.now + policy.lease_ms;
    plan.entries.clone_from(&handling.unwritten);
    match choice {
        Choice::StepDone(result) => plan.step_done(result, handling),
        Choice::StepUndone(result) => plan.step_settled(StepState::Undone, result.clone()),
        Choice::Compensate(cause) => plan.compensate(cause.clone(), handling),
        Choice::Defer { what, charged, .. } => plan.defer(what, *charged, choice, handling),
        Choice::Hold(reason) => plan.hold(reason, handling),
        Choice::HandBack => plan.hand_back(handling),
        Choice::Resolve(decision) => plan.resolve(*decision, handling),
        Choice::MakeFinal => plan.make_final(),
    }
    plan.finish()
}

/// The write that makes an UNDONE order final, by a worker that has not claimed it.
pub(super) fn make_final(base: &Record, moment: &Moment) -> Write {
    let mut plan = Plan::on(base, moment);
    plan.make_final();
    plan.finish()
}

/// The tier that a deferral waits in, from the record it wrote.
pub(super) fn wait_of(record: &Record, choice: &Choice) -> Tier {
    match choice {
        Choice::Defer { charged: true, retry_after, .. } => Tier::after_attempts(record.att, *retry_after),
        _ => Tier::after_waits(record.waits),
    }
}

/// The record after step `cur` took effect, where no write has to come before the next step, and the line for its history.
pub(super) fn go_on(base: &Record, result: String, moment: &Moment) -> (Record, Entry) {
    let mut plan = Plan::on(base, moment);
    plan.step_took_effect(result);
    plan.move_to(base.cur + 1);
    let Record { rev, nonce, .. } = *base;
    let entry = plan.entries.swap_remove(0);
    (Record { rev, nonce, ..plan.next }, entry)
}

struct Plan<'a> {
    base: &'a Record,
    next: Record,
    uncancelled: bool,
    owes: bool,
    entries: Vec<Entry>,
    moment: &'a Moment,
}

impl<'a> Plan<'a> {
    fn on(base: &'a Record, moment: &'a Moment) -> Self {
        let mut next = base.clone();
        next.rev += 1;
        next.nonce = moment.nonce;
        Self { base, next, uncancelled: false, owes: false, entries: Vec::new(), moment }
    }

    fn finish(mut self) -> Write {
        self.next.evp |= self.owes;
        let expect = Expect {
            generation: self.base.generation,
            epoch: self.base.epoch,
            rev: self.base.rev,
            uncancelled: self.uncancelled,
        };
        Write { expect, next: self.next, owes: self.owes, entries: self.entries }
    }

    fn step_done(&mut self, result: &str, handling: &Handling) {
        self.step_took_effect(result.to_owned());
        let may_still_cancel = handling.reach.highest() < Some(self.base.pivot());
        if self.base.cancel && may_still_cancel {
            let step = self.base.step(self.base.cur).clone();
            let message = "the customer cancelled".to_owned();
            return self.compensate(
                Cause { class: CauseClass::Cancelled, step, code: None, message, rev: 0 },
                handling,
            );
        }
        // The write that would declare the intent of a step up to the pivot is the last chance to honour a cancel.
        // The pivot's own write expects it too, so that a cancel that came too late is recorded.
        self.uncancelled = !self.base.cancel;
        if self.base.cur == self.base.pivot() {
            if self.base.cancel {
                self.entry("cancel_too_late", None);
            }
            self.end(Phase::Done);
        } else {
            self.move_to(self.base.cur + 1);
            self.next.declare();
        }
    }

    fn step_took_effect(&mut self, result: String) {
        self.result(StepState::Done, result);
        self.entry("step_done", None);
    }

    /// Compensation starts at the highest step anybody may have attempted, also after a definite refusal: the refusal may
    /// not have been recorded by the downstream, and a late "do" of another worker could still succeed.
    fn compensate(&mut self, cause: Cause, handling: &Handling) {
        self.entry(
            "compensating",
            Some(match &cause.code {
                Some(code) => format!("{}: {code}", cause.class.as_str()),
                None => cause.class.as_str().to_owned(),
            }),
        );
        self.next.cause = Some(Cause { rev: self.next.rev, ..cause });
        self.next.phase = Phase::Comp;
        self.move_to(handling.reach.highest().unwrap_or(0));
        if !matches!(handling.delivered.lane, Lane::Quarantine) {
            self.release();
            self.owes = self.moment.blocked;
        }
    }

    fn step_settled(&mut self, state: StepState, result: String) {
        self.result(state, result);
        self.entry(if state == StepState::Undone { "step_undone" } else { "step_settled" }, None);
        if self.base.cur == 0 {
            let final_cause = self.base.cause.as_ref().is_some_and(|cause| cause.class.is_final());
            self.next.is_final = final_cause || self.base.cancel;
            self.uncancelled = !self.next.is_final;
            self.end(Phase::Undone);
        } else {
            self.move_to(self.base.cur - 1);
        }
    }

    fn defer(&mut self, what: &str, charged: bool, choice: &Choice, handling: &Handling) {
        self.declare_no_more(handling);
        if charged {
            self.next.att += 1;
            self.next.waits = 0;
            self.next.charged_at = self.next.charged_at.or(Some(self.moment.now));
        } else {
            self.next.waits += 1;
        }
        let wait = wait_of(&self.next, choice);
        if !charged && self.next.charged_at.is_some() {
            self.next.excused_ms = self.next.excused_ms.saturating_add(wait.millis());
        }
        self.next.due_at = Some(self.moment.now + wait.millis());
        // An outage must not push everything else out of the bounded history: its first wait is enough.
        if charged || self.next.waits == 1 {
            let kind = if charged { "attempt_failed" } else { "not_sent" };
            self.entry(kind, Some(format!("{what}; waits {}", wait.name())));
        }
        self.release();
        self.owes = self.moment.blocked;
    }

    /// Whoever comes next is to declare what they call: what nobody has attempted needs no undo.
    fn declare_no_more(&mut self, handling: &Handling) {
        if self.next.phase == Phase::Run {
            self.next.hi = self.next.cur.max(handling.reach.highest().unwrap_or(0));
        }
    }

    fn hold(&mut self, reason: &str, handling: &Handling) {
        self.next.hold = Some(Hold {
            id: dead_letter_id(handling.order_id(), self.next.generation, self.next.rev),
            step: self.base.step(self.base.cur).clone(),
            reason: reason.to_owned(),
            at: self.moment.now,
        });
        self.entry("held", Some(reason.to_owned()));
        self.release();
        self.owes = self.moment.blocked;
    }

    fn hand_back(&mut self, handling: &Handling) {
        self.declare_no_more(handling);
        self.next.due_at = Some(self.moment.now);
        self.release();
        self.owes = self.moment.blocked;
    }

    fn resolve(&mut self, decision: Decision, handling: &Handling) {
        self.next.hold = None;
        match (decision, self.base.phase) {
            (Decision::Release, _) | (Decision::Settle, Phase::Run) => {
                self.entry("hold_released", None);
                self.move_to(self.base.cur);
            }
            (Decision::Settle, _) => self.step_settled(StepState::SettledByPerson, String::new()),
            (Decision::Discard, Phase::Run) => {
                let step = self.base.step(self.base.cur).clone();
                let message = "discarded by a person".to_owned();
                let cause = Cause { class: CauseClass::Discarded, step, code: None, message, rev: 0 };
                self.compensate(cause, handling);
            }
            (Decision::Discard, _) => {
                self.entry("discarded", None);
                for step in 0..=self.base.cur {
                    self.result_of(step, StepState::SettledByPerson, String::new());
                }
                self.next.is_final = true;
                self.end(Phase::Undone);
            }
        }
        self.release();
    }

    fn make_final(&mut self) {
        self.next.is_final = true;
        self.entry("cancelled", None);
    }

    fn move_to(&mut self, cur: u32) {
        self.next.cur = cur;
        self.next.att = 0;
        self.next.waits = 0;
        self.next.due_at = None;
        self.next.charged_at = None;
        self.next.excused_ms = 0;
    }

    fn end(&mut self, phase: Phase) {
        self.move_to(self.next.cur);
        self.next.phase = phase;
        self.next.hold = None;
        self.entry(phase.as_str(), None);
        self.release();
        self.owes = self.moment.blocked;
    }

    fn release(&mut self) {
        self.next.owner = None;
        self.next.lease_until = 0;
    }

    fn result(&mut self, state: StepState, result: String) {
        self.result_of(self.base.cur, state, result);
    }

    fn result_of(&mut self, step: u32, state: StepState, result: String) {
        let step = self.base.step(step).clone();
        self.next.results.retain(|known| known.step != step);
        self.next.results.push(StepResult { step, state, result, at: self.moment.now });
    }

    fn entry(&mut self, what: &str, detail: Option<String>) {
        let step = self.base.step(self.base.cur).clone();
        self.entries.push(Entry { at: self.moment.now, what: what.to_owned(), step: Some(step), detail });
    }
}
