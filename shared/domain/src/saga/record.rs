//! The deciding part of an order's document.

use serde::{Deserialize, Serialize};

use crate::{Fingerprint, StepName};

/// Newest document version this build can work with. A document with a newer one is left to newer builds. A document has the
/// lowest version that describes it: 1, or 2 once it holds an order that a person corrected. The next build, as tests play it
/// (feature `next-build`), makes all of its own version.
pub const DOCUMENT_VERSION: u32 = if IS_NEXT { 3 } else { 2 };
/// The version of documents that hold the posted order alone.
const FIRST_VERSION: u32 = if IS_NEXT { DOCUMENT_VERSION } else { 1 };
const IS_NEXT: bool = cfg!(feature = "next-build");

/// Milliseconds since 1970 in UTC, by the clock of whoever wrote it. Only pace depends on clocks, never correctness.
pub type Millis = i64;

/// Names one write, so that its writer can tell after a lost answer whether it was applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Nonce(pub u128);

/// Names one worker process for the time it lives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WorkerId(pub String);

/// Where a run stands. RUN→COMP is one-way; DONE and UNDONE absorb within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Phase {
    /// Steps are being done, first to last.
    Run,
    /// Steps are being undone, last attempted to first.
    Comp,
    /// Every step took effect once.
    Done,
    /// The net effect is zero on every step, and stays zero.
    Undone,
}

impl Phase {
    /// Whether the run has ended.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Undone)
    }

    /// The word stored and shown: `RUN`, `COMP`, `DONE` or `UNDONE`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "RUN",
            Self::Comp => "COMP",
            Self::Done => "DONE",
            Self::Undone => "UNDONE",
        }
    }
}

/// What decides an order's way. Only workers write it, always by compare-and-set on (epoch, rev).
///
/// The cursor is the write-ahead intent: the write that records "step i done" is the intent of step i+1, and a step is
/// called only after that write is majority-committed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Record {
    /// Version of the document's shape.
    pub sv: u32,
    /// Fingerprint of the order that was inserted.
    pub fp: Fingerprint,
    /// The steps, pinned when the document was inserted; a later change of settings does not touch this order.
    pub steps: Vec<StepName>,
    /// Run number, from 1. Part of every step key.
    pub generation: u32,
    /// No further run: business refusal, cancel or discard.
    pub is_final: bool,
    /// Where the run stands.
    pub phase: Phase,
    /// RUN: steps below it are done. COMP: steps above it are settled, undo of it may have been attempted.
    pub cur: u32,
    /// Steps up to and including it may have been attempted in this run. Never below one that was: who lowers it has called no
    /// later one and has claimed after whoever could have.
    pub hi: u32,
    /// Charged attempts at (phase, cur).
    pub att: u32,
    /// Waits at (phase, cur) that were not charged: nothing was sent, or the circuit was open.
    pub waits: u32,
    /// When the next try is due; also what the sweeper looks at.
    pub due_at: Option<Millis>,
    /// When the first attempt at (phase, cur) was charged: the step's deadline runs from here.
    pub charged_at: Option<Millis>,
    /// Uncharged waiting since `charged_at`, and time in which the order was due and nobody came: the deadline leaves it out.
    pub excused_ms: Millis,
    /// No more automatic attempts until a person decides.
    pub hold: Option<Hold>,
    /// The customer asked to cancel. Set by anybody, without touching `rev`.
    pub cancel: bool,
    /// +1 at every claim: the fencing token.
    pub epoch: u64,
    /// +1 at every deciding write.
    pub rev: u64,
    /// Nonce of the last deciding write.
    pub nonce: Nonce,
    /// Who claimed last. Politeness only, as is `lease_until`.
    pub owner: Option<WorkerId>,
    /// Until when others leave the order to its owner; 0 for no lease.
    pub lease_until: Millis,
    /// A publish is owed: event, copy, compensating event or dead letter. Raised by whoever then acks without a confirm,
    /// lowered only after a confirmed publish.
    pub evp: bool,
    /// Why the run turned to COMP.
    pub cause: Option<Cause>,
    /// What the downstreams answered, one entry per step of this run.
    pub results: Vec<StepResult>,
}

impl Record {
    /// The document of an order seen for the first time, claimed by its inserter.
    #[must_use]
    pub fn first(
        fp: Fingerprint,
        steps: Vec<StepName>,
        owner: WorkerId,
        lease_until: Millis,
        nonce: Nonce,
    ) -> Self {
        let mut first = Self {
            sv: FIRST_VERSION,
            fp,
            steps,
            generation: 1,
            is_final: false,
            phase: Phase::Run,
            cur: 0,
            hi: 0,
            att: 0,
            waits: 0,
            due_at: None,
            charged_at: None,
            excused_ms: 0,
            hold: None,
            cancel: false,
            epoch: 1,
            rev: 1,
            nonce,
            owner: Some(owner),
            lease_until,
            evp: false,
            cause: None,
            results: Vec::new(),
        };
        first.declare();
        first
    }

    /// Declares the steps that may be called without a further write: `cur`, and all before the pivot. The pivot has a write of
    /// its own, so that whoever asked to cancel before it is heard.
    pub(super) fn declare(&mut self) {
        let before_pivot = self.pivot().saturating_sub(1);
        self.hi = self.hi.max(self.cur).max(before_pivot);
    }

    /// Whether the step after `cur` is declared, so that it may be called before it is written that `cur` is done.
    pub(super) fn next_is_declared(&self) -> bool {
        self.cur < self.hi.min(self.pivot().saturating_sub(1))
    }

    /// This document at the start of its next run: what the claim of a new run writes, before owner and nonce.
    #[must_use]
    pub fn next_run(&self) -> Self {
        let mut next =
            Self::first(self.fp.clone(), self.steps.clone(), WorkerId(String::new()), 0, self.nonce);
        next.sv = self.sv;
        next.generation = self.generation + 1;
        next.epoch = self.epoch;
        next.rev = self.rev;
        next.owner = None;
        // Whoever claims does not know yet how many steps the order has: its first write declares them.
        next.hi = 0;
        next
    }

    /// Index of the pivot: the last step, after which there is only the way forward.
    #[must_use]
    pub fn pivot(&self) -> u32 {
        u32::try_from(self.steps.len()).unwrap_or(u32::MAX).saturating_sub(1)
    }

    /// Name of the step at an index. The document is refused at its border unless `cur` and `hi` are within its steps.
    #[must_use]
    pub fn step(&self, index: u32) -> &StepName {
        &self.steps[index as usize]
    }

    /// The step whose failure the run's dead letters and compensating events are named after.
    #[must_use]
    pub fn failed_step(&self) -> &StepName {
        self.cause.as_ref().map_or_else(|| self.step(self.cur.min(self.pivot())), |cause| &cause.step)
    }

    /// Revision of the write that recorded why the run failed.
    #[must_use]
    pub fn cause_rev(&self) -> u64 {
        self.cause.as_ref().map_or(self.rev, |cause| cause.rev)
    }

    /// Leaves out of the deadline what has passed since the order was due: the fleet could not work it, through no fault of
    /// the step's service. Never more than has passed since the first charged attempt, by the same clock.
    ///
    /// Stored by the write that moves `due_at` on, so that a worker killed before it leaves the next one as much to leave
    /// out and nothing twice.
    pub(super) fn excuse_lateness(&mut self, now: Millis) {
        let (Some(charged_at), Some(due_at)) = (self.charged_at, self.due_at) else { return };
        let late = now.saturating_sub(due_at).max(0);
        let most = now.saturating_sub(charged_at).max(self.excused_ms);
        self.excused_ms = self.excused_ms.saturating_add(late).min(most);
    }

    /// Whether the indices lie within the steps, so that the rest of the core may rely on it.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        !self.steps.is_empty() && self.cur <= self.pivot() && self.hi <= self.pivot()
    }
}

/// Why an order waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hold {
    /// Names this hold; a person's decision names it too, so that it cannot hit a later one.
    pub id: String,
    /// The step that cannot be undone, or that workers crashed at.
    pub step: StepName,
    /// The downstream's answer, shortened, or what is known of the crashes.
    pub reason: String,
    /// When it was set.
    pub at: Millis,
}

/// Why a run turned to COMP.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cause {
    /// What kind of failure.
    pub class: CauseClass,
    /// The step that failed.
    pub step: StepName,
    /// The downstream's own word for it, such as `out_of_stock`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The downstream's answer or the error, shortened.
    pub message: String,
    /// Revision of the write that recorded it: part of the ids of the compensating event and of the dead letter.
    #[serde(default)]
    pub rev: u64,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CauseClass {
    /// The downstream said no for a business reason.
    Refused,
    /// The customer cancelled before the pivot.
    Cancelled,
    /// Every attempt had an unknown outcome.
    AttemptsExhausted,
    /// The step's deadline passed after an attempt of unknown outcome.
    DeadlinePassed,
    /// The downstream holds a tombstone for this step instance.
    Tombstone,
    /// A person gave the order up.
    Discarded,
}

impl CauseClass {
    /// Whether no further run may follow: what business or a person decided stays decided, technical trouble may be
    /// tried again.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Refused | Self::Cancelled | Self::Discarded)
    }

    /// The word stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::DeadlinePassed => "deadline_passed",
            Self::Tombstone => "tombstone",
            Self::Discarded => "discarded",
        }
    }
}

/// What is known of one step of the current run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StepResult {
    /// The step.
    pub step: StepName,
    /// Done, undone, or settled by a person.
    pub state: StepState,
    /// The downstream's result as JSON text, shortened; empty where there is none.
    pub result: String,
    /// When it was recorded.
    pub at: Millis,
}

/// State of one step of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Took effect.
    Done,
    /// Net effect zero.
    Undone,
    /// A person took responsibility for undoing it.
    SettledByPerson,
}

/// One line of an order's history. Bounded by the storage layer; nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// When it was written.
    pub at: Millis,
    /// What happened, one stable word such as `step_done`.
    pub what: String,
    /// The step it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepName>,
    /// The rest, for people; no personal data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
