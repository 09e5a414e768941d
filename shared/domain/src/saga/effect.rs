//! What goes into the saga core and what comes out of it.

use crate::{
    Command, Fingerprint, StepName,
    saga::{Entry, Millis, Nonce, Phase, Record, Tier, WorkerId},
};

/// The lane a delivery came by; its routing key on the exchange `orders`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Fresh orders of one partition.
    New(u16),
    /// Re-entry after a wait or a hand-back.
    Retry,
    /// Operators' replays, served after live orders.
    Replay,
    /// Compensation of an order that failed at this step.
    Compensate(StepName),
    /// One delivery at a time, after others crashed workers.
    Quarantine,
}

impl Lane {
    /// The phases a delivery of this lane may run.
    #[must_use]
    pub fn phases(&self) -> Phases {
        match self {
            Self::New(_) | Self::Retry | Self::Replay => Phases::Run,
            Self::Compensate(_) => Phases::Comp,
            Self::Quarantine => Phases::Either,
        }
    }

    /// The lane a copy of the delivery re-enters by: fresh orders come back by `retry`, which never rejects.
    #[must_use]
    pub fn re_entry(&self) -> Self {
        match self {
            Self::New(_) => Self::Retry,
            other => other.clone(),
        }
    }
}

/// Phases a delivery may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are those of Phase")]
pub enum Phases {
    Run,
    Comp,
    Either,
}

impl Phases {
    /// Whether the phase is one of these.
    #[must_use]
    pub fn contains(self, phase: Phase) -> bool {
        match self {
            Self::Run => phase == Phase::Run,
            Self::Comp => phase == Phase::Comp,
            Self::Either => !phase.is_terminal(),
        }
    }
}

/// A delivery as the core sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Delivered {
    /// The decoded message.
    pub command: Command,
    /// The broker has delivered it before, so its former holder may be gone.
    pub redelivered: bool,
    /// The lane it came by.
    pub lane: Lane,
}

/// The world at the moment of an input: what the core has no way to know by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Moment {
    /// The clock.
    pub now: Millis,
    /// A fresh nonce; used if this input leads to a new write, never for the repeat of one.
    pub nonce: Nonce,
    /// The broker has blocked publishing.
    pub blocked: bool,
    /// The process is shutting down: start no call.
    pub draining: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Input {
    /// The delivery arrived.
    Delivered,
    /// The database answered.
    Store(StoreReply),
    /// The downstream answered, or did not.
    Called(CallOutcome),
    /// All publications of the last [`Effect::Publish`] were confirmed.
    Confirmed,
    /// At least one of them was not: nacked, returned, timed out or blocked. It may have been published.
    NotConfirmed,
}

/// Answers of the database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StoreReply {
    /// The insert, write or note is majority-committed.
    Applied,
    /// The insert met an existing document.
    Exists,
    /// The claim is majority-committed; this is the document after it.
    Claimed(Box<Record>),
    /// No document matched the claim, write or note.
    NoMatch,
    /// Result of a linearizable read.
    Found(Option<Box<Record>>),
    /// Timeout, lost connection, write-concern timeout: applied or not, now or later.
    Unknown,
    /// The database will never accept it (too large, fails validation).
    Refused(String),
}

/// Outcome of a downstream call (docs/DOWNSTREAM.md says which answer is which).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    /// It took effect, now or before.
    Success {
        /// The downstream's result as JSON text, shortened.
        result: String,
    },
    /// A business no.
    Refused {
        /// The downstream's word for it.
        code: String,
        /// Its explanation, shortened.
        message: String,
    },
    /// The downstream holds a tombstone: this step instance was undone.
    Cancelled,
    /// It may or may not have taken effect, now or later.
    Unknown {
        /// What was seen, for people.
        what: String,
        /// How long the downstream asked to be left alone.
        retry_after: Option<Millis>,
    },
    /// Nothing can have happened: no connection, an open circuit, credentials or address wrong, step not configured.
    NotSent {
        /// What was seen, for people.
        what: String,
    },
}

/// Do or undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Take effect.
    Do,
    /// Take it back, or leave a tombstone.
    Undo,
}

impl Verb {
    /// The word used in keys.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Do => "do",
            Self::Undo => "undo",
        }
    }
}

/// The one thing to do next. Perform it, then feed what came of it to [`crate::saga::Handling::on`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Insert the order's document with this record.
    Insert(Box<Record>),
    /// Claim the document.
    Claim(Claim),
    /// Read the document linearizably.
    Read,
    /// Compare-and-set.
    Write(Box<Write>),
    /// Write something that decides nothing: never touches rev, epoch or nonce.
    Note(Note),
    /// Call the downstream of the step at this index.
    Call {
        /// Index into the record's steps.
        step: u32,
        /// Do or undo.
        verb: Verb,
        /// How many times it was called before without a pause of a wait tier; a driver waits a little before a repeat.
        quick_retry: u32,
    },
    /// Publish all of these, confirmed.
    Publish(Vec<Publication>),
    /// Acknowledge the delivery: over.
    Ack(Ending),
}

/// A claim: raises the epoch, so that whoever claimed before is fenced.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    /// What is claimed.
    pub kind: ClaimKind,
    /// The run the document must be in (for [`ClaimKind::NewRun`]: the run before).
    pub generation: u32,
    /// The fingerprint the document must have, where the message carries one.
    pub fp: Option<Fingerprint>,
    /// The delivery was redelivered: a live lease is no obstacle.
    pub redelivered: bool,
    /// Leases that end before this are over.
    pub now: Millis,
    /// The claimer.
    pub owner: WorkerId,
    /// Its lease.
    pub lease_until: Millis,
    /// Nonce of this claim.
    pub nonce: Nonce,
}

impl Claim {
    /// Leases that end later than this were written by a clock that is wrong, and are not respected: twice the claimer's own
    /// lease from now.
    #[must_use]
    pub fn latest_lease(&self) -> Millis {
        self.lease_until + (self.lease_until - self.now)
    }

    /// Whether a lease keeps this claim from passing.
    #[must_use]
    pub fn respects(&self, owner: Option<&WorkerId>, lease_until: Millis) -> bool {
        let live = (self.now..=self.latest_lease()).contains(&lease_until);
        live && !self.redelivered && owner != Some(&self.owner)
    }
}

/// What a claim is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClaimKind {
    /// Go on where the document stands: not held, in one of these phases.
    Continue(Phases),
    /// Start the next run of an order that is UNDONE, not final, and owes no publish.
    NewRun,
    /// Apply a person's decision to the hold of this id.
    Resolve(String),
}

/// What a compare-and-set expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Expect {
    /// The run.
    pub generation: u32,
    /// The epoch of the writer's claim.
    pub epoch: u64,
    /// The revision the decision was based on.
    pub rev: u64,
    /// Nobody has asked to cancel: expected by writes that would be decided otherwise.
    pub uncancelled: bool,
}

/// One deciding write. Its repeat is the same write with the same nonce.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Write {
    /// Condition.
    pub expect: Expect,
    /// The whole record after it, but for `cancel` and `evp`, which others write too and this write leaves alone.
    pub next: Record,
    /// Raise `evp`: publishing is blocked, so what follows from this write is owed. A write never lowers the flag: it may
    /// be all that is left of a message that somebody else has acked, and the writer may hold no delivery any more.
    pub owes: bool,
    /// Lines for the order's history.
    pub entries: Vec<Entry>,
}

impl Write {
    /// Whether the order owes something new after it: a publish, or what follows from a step, an end or a hold. One that only
    /// goes on waiting owes what it owed before.
    #[must_use]
    pub fn owes_anew(&self) -> bool {
        self.owes || self.next.due_at.is_none() || self.next.hold.is_some()
    }
}

/// Writes that decide nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Note {
    /// Record that another body was posted under the same key.
    Conflict(Fingerprint),
    /// Ask the owner of a running order to cancel.
    Cancel,
    /// Record in the history that a cancel came after the order was done.
    CancelTooLate(Millis),
    /// Raise the owed-publish flag of the document at this run and revision, or, after a confirmed publish, lower it.
    Owed {
        /// The run.
        generation: u32,
        /// The revision.
        rev: u64,
        /// Whether a publish is owed.
        owed: bool,
    },
}

/// Something to publish.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Publication {
    /// The delivery's own message again, into a lane, after a wait or at once.
    Copy {
        /// Where it re-enters.
        lane: Lane,
        /// How long it waits.
        wait: Option<Tier>,
    },
    /// The compensating event: to `orders.dlx` as `compensate.<failed step>`, mandatory.
    Compensate(Box<Record>),
    /// A dead letter: the delivery's message with a reason, to `orders.dlx` as `dead.<queue>`, mandatory.
    DeadLetter {
        /// Which queue.
        queue: DeadLetterQueue,
        /// Its id: a repeat has the same.
        id: String,
        /// Why, for people; no personal data.
        reason: String,
    },
    /// A domain event: to `orders.events`, confirmed but not mandatory.
    Event(Event),
}

/// Queues that park messages for people.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DeadLetterQueue {
    /// Orders undone for a technical cause at this step; they may be run again.
    Step(StepName),
    /// Messages nobody can work with.
    Poison,
    /// Orders that wait for a person.
    Held,
    /// Bodies posted under a key that another body has.
    Conflict,
}

/// A terminal event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Event {
    /// Its id, a function of order, run and type.
    pub id: String,
    /// Its type.
    pub event: EventType,
    /// The run it tells of.
    pub generation: u32,
    /// Revision of the write that ended the run, where it is known: consumers ignore lower (gen, seq).
    pub seq: u64,
}

/// Types of terminal events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// Every step took effect.
    Completed,
    /// Undone for good: refused, cancelled or discarded.
    Cancelled,
    /// Undone for a technical cause; may be run again.
    Failed,
}

impl EventType {
    /// What is told of a run that has ended so.
    #[must_use]
    pub fn of_end(phase: Phase, is_final: bool) -> Self {
        match (phase, is_final) {
            (Phase::Done, _) => Self::Completed,
            (_, true) => Self::Cancelled,
            (_, false) => Self::Failed,
        }
    }

    /// Routing key and CloudEvents type.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "order.completed",
            Self::Cancelled => "order.cancelled",
            Self::Failed => "order.failed",
        }
    }
}

/// How the handling of a delivery ended; for metrics and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Terminal events are confirmed.
    Finished,
    /// A copy waits in a tier.
    Deferred,
    /// The compensating event is confirmed.
    HandedOver,
    /// A copy is back in its lane because this process is shutting down.
    HandedBack,
    /// Parked for a person.
    Held,
    /// Parked as a conflict.
    Conflict,
    /// Parked as unusable.
    Poison,
    /// A newer claim exists; a copy waits.
    Fenced,
    /// The publish that is owed is recorded in the document.
    Owed,
    /// The command asked for something that is no longer possible or already so.
    NothingToDo,
    /// The cancel request is recorded in the document.
    CancelRequested,
}

impl Ending {
    /// The word used as a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Deferred => "deferred",
            Self::HandedOver => "handed_over",
            Self::HandedBack => "handed_back",
            Self::Held => "held",
            Self::Conflict => "conflict",
            Self::Poison => "poison",
            Self::Fenced => "fenced",
            Self::Owed => "owed",
            Self::NothingToDo => "nothing_to_do",
            Self::CancelRequested => "cancel_requested",
        }
    }
}
