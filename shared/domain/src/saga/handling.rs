//! The core's state machine: what to do next with one delivery in the hands of one worker.

use crate::{
    CommandKind, OrderId,
    saga::{
        CallOutcome, Cause, CauseClass, Claim, DOCUMENT_VERSION, Delivered, Effect, Ending, Entry, Input,
        Lane, Millis, Moment, Note, Phase, Policy, Publication, Record, StoreReply, Tier, Verb, WorkerId,
        Write,
        decide::{Choice, go_on, plan, wait_of},
    },
};

/// One delivery in the hands of one worker, from its arrival to its ack.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Handling {
    pub(super) delivered: Delivered,
    pub(super) worker: WorkerId,
    /// The document as last seen committed; the writer's own from its claim on.
    pub(super) base: Option<Record>,
    pub(super) reach: Reach,
    /// What was done since the last write, for the order's history.
    pub(super) unwritten: Vec<Entry>,
    pub(super) at: At,
}

/// How far this run's steps may have been attempted, as far as this worker has to care.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Reach {
    /// `hi` as it stood before this worker's claim; none if the worker began the run.
    pub(super) hi_before: Option<u32>,
    /// Highest step this worker called.
    pub(super) called: Option<u32>,
}

impl Reach {
    /// Highest step that may have been attempted by anybody: whoever else could call one had to claim, which fences us.
    pub(super) fn highest(self) -> Option<u32> {
        self.hi_before.max(self.called)
    }
}

/// What the last effect was, and so what the next input answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum At {
    Arrived,
    Inserting(Box<Record>),
    Claiming {
        claim: Claim,
        claims: u32,
    },
    /// Reading the document: after a claim that missed, or before a cancel.
    Looking {
        claims: u32,
    },
    Calling {
        verb: Verb,
        quick_retry: u32,
    },
    Writing {
        write: Box<Write>,
        choice: Choice,
    },
    /// Reading the document after a write that matched nothing.
    Judging {
        write: Box<Write>,
        choice: Choice,
    },
    Publishing {
        publications: Vec<Publication>,
        then: Then,
    },
    Noting {
        note: Note,
        then: Then,
    },
    Over,
}

/// What follows a confirmed publish or an applied note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Then {
    /// Ack. There is no document to record in that something is owed: an unconfirmed publish is repeated.
    End(Ending),
    /// Ack. The document was read or written at this run and revision, with `evp` as in `owed`. After the confirm the flag
    /// is lowered if this settles what the document owes; without one it is raised.
    Recorded { generation: u32, rev: u64, owed: bool, settled: bool, ending: Ending },
    /// Ack. Without a confirm a copy of the message waits: a subscriber that takes no more events must not hold an order.
    OrLater(Ending),
    /// Lower the flag at this run and revision, then look at the document again.
    LookAgain { generation: u32, rev: u64 },
    /// Record the conflict on the document, then ack.
    NoteConflict,
}

impl Handling {
    /// Takes a delivery in hand.
    #[must_use]
    pub fn new(delivered: Delivered, worker: WorkerId) -> Self {
        let (reach, unwritten) = (Reach::default(), Vec::new());
        Self { delivered, worker, base: None, reach, unwritten, at: At::Arrived }
    }

    /// The order the delivery is about.
    #[must_use]
    pub fn order_id(&self) -> &OrderId {
        &self.delivered.command.order_id
    }

    /// The delivery itself.
    #[must_use]
    pub fn delivered(&self) -> &Delivered {
        &self.delivered
    }

    /// The document as this worker knows it: what a call is made from.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        self.base.as_ref()
    }

    /// Takes the answer to the last effect and names the next one. After [`Effect::Ack`] it names only that again.
    ///
    /// An input that does not answer the last effect is a driver's mistake; the effect is named again.
    pub fn on(&mut self, policy: &Policy, moment: &Moment, input: Input) -> Effect {
        let at = std::mem::replace(&mut self.at, At::Over);
        match (at, input) {
            (At::Arrived, Input::Delivered) => self.arrive(policy, moment),
            (At::Inserting(record), Input::Store(reply)) => self.inserted(policy, moment, record, reply),
            (At::Claiming { claim, claims }, Input::Store(reply)) => {
                self.claimed(policy, moment, claim, claims, reply)
            }
            (At::Looking { claims }, Input::Store(StoreReply::Found(found))) => {
                self.look(policy, moment, claims, found.map(|record| *record))
            }
            (At::Looking { claims }, Input::Store(_)) => self.read(claims),
            (At::Calling { verb, quick_retry }, Input::Called(outcome)) => {
                self.called(policy, moment, verb, quick_retry, outcome)
            }
            (At::Writing { write, choice }, Input::Store(reply)) => {
                self.written(policy, moment, write, choice, reply)
            }
            (At::Judging { write, choice }, Input::Store(StoreReply::Found(found))) => {
                self.judge(policy, moment, write, choice, found.map(|record| *record))
            }
            (At::Judging { write, choice }, Input::Store(_)) => {
                self.at = At::Judging { write, choice };
                Effect::Read
            }
            (At::Publishing { then, .. }, Input::Confirmed) => self.published(then),
            (At::Publishing { publications, then }, Input::NotConfirmed) => {
                self.not_published(publications, then)
            }
            (At::Noting { note, then }, Input::Store(reply)) => self.noted(note, then, reply),
            (at, _) => self.again(at),
        }
    }

    /// The document is ours and in one of our phases: what now?
    pub(super) fn proceed(&mut self, policy: &Policy, moment: &Moment) -> Effect {
        let Some(base) = &self.base else { return self.read(0) };
        if let CommandKind::Resolve { hold, decision, .. } = &self.delivered.command.kind
            && base.hold.as_ref().is_some_and(|held| held.id == *hold)
        {
            let choice = Choice::Resolve(*decision);
            return self.write(policy, moment, choice);
        }
        if base.phase.is_terminal() {
            let record = base.clone();
            return self.finish(moment, &record);
        }
        // Set by somebody who took this worker for dead: what it has done is recorded, and no more is done.
        if base.hold.is_some() {
            let record = base.clone();
            return self.park_held(&record);
        }
        if !self.delivered.lane.phases().contains(base.phase) {
            let record = base.clone();
            return self.hand_over(&record);
        }
        if base.phase == Phase::Run && base.cancel && self.reach.highest() < Some(base.pivot()) {
            let cause = Cause {
                class: CauseClass::Cancelled,
                step: base.step(base.cur).clone(),
                code: None,
                message: "the customer cancelled".into(),
                rev: 0,
            };
            return self.write(policy, moment, Choice::Compensate(cause));
        }
        if moment.draining {
            return self.write(policy, moment, Choice::HandBack);
        }
        let verb = if base.phase == Phase::Run { Verb::Do } else { Verb::Undo };
        self.call(verb, 0)
    }

    pub(super) fn call(&mut self, verb: Verb, quick_retry: u32) -> Effect {
        let step = self.base.as_ref().map_or(0, |base| base.cur);
        if verb == Verb::Do {
            self.reach.called = self.reach.called.max(Some(step));
        }
        self.at = At::Calling { verb, quick_retry };
        Effect::Call { step, verb, quick_retry }
    }

    fn called(
        &mut self,
        policy: &Policy,
        moment: &Moment,
        verb: Verb,
        quick_retry: u32,
        outcome: CallOutcome,
    ) -> Effect {
        let Some(base) = &self.base else { return self.read(0) };
        let settings = policy.step(base.step(base.cur));
        let choice = match (verb, outcome) {
            // The next step is declared already: whoever comes after us starts at the last write, or compensates from `hi`.
            (Verb::Do, CallOutcome::Success { result }) if self.may_go_on(policy, moment, base) => {
                let (next, entry) = go_on(base, result, moment);
                self.base = Some(next);
                self.unwritten.push(entry);
                return self.proceed(policy, moment);
            }
            (Verb::Do, CallOutcome::Success { result }) => Choice::StepDone(result),
            (Verb::Undo, CallOutcome::Success { result }) => Choice::StepUndone(result),
            (Verb::Do, CallOutcome::Refused { code, message }) => {
                self.compensation(CauseClass::Refused, Some(code), message)
            }
            (Verb::Do, CallOutcome::Cancelled) => self.compensation(
                CauseClass::Tombstone,
                None,
                "the downstream holds a tombstone for this step".into(),
            ),
            (Verb::Undo, CallOutcome::Refused { code, message }) => {
                Choice::Hold(format!("{code}: {message}"))
            }
            (Verb::Undo, CallOutcome::Cancelled) => Choice::Defer {
                what: "an undo was answered with cancelled".into(),
                charged: true,
                retry_after: None,
            },
            (_, CallOutcome::NotSent { what }) => Choice::Defer { what, charged: false, retry_after: None },
            (_, CallOutcome::Unknown { what, retry_after }) => {
                let quick_retries = settings.map_or(0, |settings| settings.quick_retries);
                if quick_retry < quick_retries && retry_after.is_none() && !moment.draining {
                    return self.call(verb, quick_retry + 1);
                }
                match (verb, exhausted(policy, moment, base)) {
                    (Verb::Do, Some(class)) => self.compensation(class, None, what),
                    _ => Choice::Defer { what, charged: true, retry_after },
                }
            }
        };
        self.write(policy, moment, choice)
    }

    /// Whether the next step may be called before it is written that this one is done. Not where something went wrong before: then
    /// each step is written, so that it is known which one crashes workers, and which one's attempts are counted. Nor once half of
    /// the lease is over, which every write renews.
    fn may_go_on(&self, policy: &Policy, moment: &Moment, base: &Record) -> bool {
        let lease_left = base.lease_until.saturating_sub(moment.now);
        base.next_is_declared()
            && base.due_at.is_none()
            && self.delivered.lane != Lane::Quarantine
            && lease_left.saturating_mul(2) >= policy.lease_ms
    }

    pub(super) fn compensation(&self, class: CauseClass, code: Option<String>, message: String) -> Choice {
        let step = self.base.as_ref().map(|base| base.step(base.cur).clone());
        match step {
            Some(step) => Choice::Compensate(Cause { class, step, code, message, rev: 0 }),
            None => Choice::HandBack,
        }
    }

    pub(super) fn write(&mut self, policy: &Policy, moment: &Moment, choice: Choice) -> Effect {
        let Some(base) = &self.base else { return self.read(0) };
        let write = Box::new(plan(base, &choice, self, policy, moment));
        self.at = At::Writing { write: write.clone(), choice };
        Effect::Write(write)
    }

    pub(super) fn written(
        &mut self,
        policy: &Policy,
        moment: &Moment,
        write: Box<Write>,
        choice: Choice,
        reply: StoreReply,
    ) -> Effect {
        match reply {
            StoreReply::Applied => self.follow(policy, moment, *write, &choice),
            StoreReply::NoMatch => {
                self.at = At::Judging { write, choice };
                Effect::Read
            }
            StoreReply::Refused(reason) => self.poison(&reason),
            _ => {
                self.at = At::Writing { write: write.clone(), choice };
                Effect::Write(write)
            }
        }
    }

    /// A write matched nothing, and this is the document: was it applied before, is it still open, or has somebody
    /// else moved on?
    pub(super) fn judge(
        &mut self,
        policy: &Policy,
        moment: &Moment,
        write: Box<Write>,
        choice: Choice,
        found: Option<Record>,
    ) -> Effect {
        let Some(record) = found else { return self.copy(Some(Tier::S5), Then::End(Ending::Fenced)) };
        if record.nonce == write.next.nonce {
            return self.follow(policy, moment, *write, &choice);
        }
        // Claimed meanwhile by a newer build: what its phase or its run number mean to that one is not known here.
        if record.sv > DOCUMENT_VERSION {
            return self.leave_to_newer();
        }
        if choice == Choice::MakeFinal {
            return self.look(policy, moment, 0, Some(record));
        }
        if record.generation > write.expect.generation {
            return self.finish_earlier_run();
        }
        if record.phase.is_terminal() {
            return self.finish(moment, &record);
        }
        if record.epoch == write.expect.epoch && record.rev <= write.expect.rev {
            if write.expect.uncancelled && record.cancel {
                // Of what is stored nothing else is news: what was done since the last write is not in it.
                if let Some(base) = &mut self.base {
                    (base.cancel, base.evp) = (true, record.evp);
                }
                return self.write(policy, moment, choice);
            }
            self.at = At::Writing { write: write.clone(), choice };
            return Effect::Write(write);
        }
        // A newer claim; or a revision that is not ours at our own epoch, which nobody should write: whether our write lies
        // beneath it cannot be known, so a fresh claim decides.
        let then = match choice {
            // The flag would bring the order back, not what a person has decided.
            Choice::Resolve(_) => Then::End(Ending::Fenced),
            _ => Then::recorded(&record, Ending::Fenced),
        };
        self.copy(Some(Tier::S5), then)
    }

    /// The write is committed: what does it lead to?
    pub(super) fn follow(
        &mut self,
        policy: &Policy,
        moment: &Moment,
        write: Write,
        choice: &Choice,
    ) -> Effect {
        let record = write.next;
        self.base = Some(record.clone());
        self.unwritten.clear();
        if write.owes {
            return self.end(Ending::Owed);
        }
        match choice {
            Choice::Defer { .. } => {
                let wait = wait_of(&record, choice);
                self.copy(Some(wait), Then::recorded(&record, Ending::Deferred))
            }
            Choice::HandBack => self.copy(None, Then::recorded(&record, Ending::HandedBack)),
            Choice::Hold(_) => self.park_held(&record),
            Choice::StepDone(_)
            | Choice::StepUndone(_)
            | Choice::Compensate(_)
            | Choice::Resolve(_)
            | Choice::MakeFinal => self.proceed(policy, moment),
        }
    }

    pub(super) fn end(&mut self, ending: Ending) -> Effect {
        self.at = At::Over;
        Effect::Ack(ending)
    }

    /// Names the last effect again.
    fn again(&mut self, at: At) -> Effect {
        let effect = match &at {
            At::Arrived | At::Looking { .. } | At::Judging { .. } => Effect::Read,
            At::Inserting(record) => Effect::Insert(record.clone()),
            At::Claiming { claim, .. } => Effect::Claim(claim.clone()),
            At::Calling { verb, quick_retry } => {
                let step = self.base.as_ref().map_or(0, |base| base.cur);
                Effect::Call { step, verb: *verb, quick_retry: *quick_retry }
            }
            At::Writing { write, .. } => Effect::Write(write.clone()),
            At::Publishing { publications, .. } => Effect::Publish(publications.clone()),
            At::Noting { note, .. } => Effect::Note(note.clone()),
            At::Over => Effect::Ack(Ending::NothingToDo),
        };
        self.at = at;
        effect
    }
}

/// Judged only after a charged unknown outcome, of which the one in hand is the next.
fn exhausted(policy: &Policy, moment: &Moment, base: &Record) -> Option<CauseClass> {
    let settings = policy.step(base.step(base.cur))?;
    if base.att + 1 >= settings.attempts_max {
        return Some(CauseClass::AttemptsExhausted);
    }
    let since_first = moment.now.saturating_sub(base.charged_at?).saturating_sub(base.excused_ms);
    (since_first >= Millis::from(settings.deadline_s) * 1_000).then_some(CauseClass::DeadlinePassed)
}
