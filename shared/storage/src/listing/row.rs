//! An order in a list: where it stands, without what was ordered.

use std::str::FromStr;

use jiff::Timestamp;
use mongodb::bson::{self, DateTime, Document, RawDocument, RawDocumentBuf};
use orderfleet_domain::{
    AccountId, OrderId, StepName,
    saga::{Cause, Hold, Millis, Phase, WorkerId},
};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{OrderView, document::timestamp, failure::describe_bson};

/// Where an order stands, in the words of the query API: its phase, or `HELD` while it waits for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "they are those of Phase, and HELD")]
pub enum OrderStatus {
    Run,
    Comp,
    Held,
    Done,
    Undone,
}

impl OrderStatus {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Run, Self::Comp, Self::Held, Self::Done, Self::Undone];

    /// The word shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => Phase::Run.as_str(),
            Self::Comp => Phase::Comp.as_str(),
            Self::Held => "HELD",
            Self::Done => Phase::Done.as_str(),
            Self::Undone => Phase::Undone.as_str(),
        }
    }

    /// Whether the run has ended: `DONE` or `UNDONE`.
    #[must_use]
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Done | Self::Undone)
    }

    fn of(phase: Phase, is_held: bool) -> Self {
        match phase {
            _ if is_held => Self::Held,
            Phase::Run => Self::Run,
            Phase::Comp => Self::Comp,
            Phase::Done => Self::Done,
            Phase::Undone => Self::Undone,
        }
    }
}

impl FromStr for OrderStatus {
    type Err = String;

    /// In capitals or not.
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|status| status.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| format!("one of {}", Self::ALL.map(Self::as_str).join(", ").to_lowercase()))
    }
}

/// An order in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedOrder {
    /// Its id.
    pub order_id: OrderId,
    /// Whose it is.
    pub account: AccountId,
    /// Where it stands.
    pub status: OrderStatus,
    /// Where its run stands, held or not.
    pub phase: Phase,
    /// The run it is in.
    #[serde(rename = "gen")]
    pub generation: u32,
    /// No further run.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// The step in hand; of an order that has ended, the one that failed.
    pub step: Option<StepName>,
    /// Charged attempts at that step.
    pub attempts: u32,
    /// Waits at that step that were not charged.
    pub waits: u32,
    /// Why it turned to compensation.
    pub cause: Option<Cause>,
    /// What it waits for a person with.
    pub hold: Option<ListedHold>,
    /// The customer asked to cancel.
    pub cancel_requested: bool,
    /// How many other bodies were posted under its key; counted up to 16.
    pub conflicts: usize,
    /// A publish is owed.
    pub owes: bool,
    /// When its next try is due.
    pub due_at: Option<Timestamp>,
    /// When its first attempt at the step in hand was charged.
    pub charged_at: Option<Timestamp>,
    /// What the step's deadline leaves out, in milliseconds.
    pub excused_ms: Millis,
    /// Who claimed it last.
    pub owner: Option<WorkerId>,
    /// Until when others leave it to him.
    pub lease_until: Option<Timestamp>,
    /// When a worker inserted it, by the worker's clock.
    pub created_at: Timestamp,
    /// When it was last written, by the database's clock.
    pub updated_at: Timestamp,
}

/// Why an order waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedHold {
    /// Names the hold.
    pub id: String,
    /// The step.
    pub step: StepName,
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: Timestamp,
}

impl From<&OrderView> for ListedOrder {
    fn from(view: &OrderView) -> Self {
        let record = view.record.clone();
        let in_hand = record.steps.get(record.cur as usize).cloned();
        Self {
            order_id: view.order_id.clone(),
            account: view.account.clone(),
            status: OrderStatus::of(record.phase, record.hold.is_some()),
            phase: record.phase,
            generation: record.generation,
            is_final: record.is_final,
            step: step(record.phase, in_hand, record.cause.as_ref()),
            attempts: record.att,
            waits: record.waits,
            cause: record.cause,
            hold: record.hold.map(ListedHold::from),
            cancel_requested: record.cancel,
            conflicts: view.conflicts,
            owes: record.evp,
            due_at: record.due_at.map(time),
            charged_at: record.charged_at.map(time),
            excused_ms: record.excused_ms,
            owner: record.owner,
            lease_until: (record.lease_until != 0).then(|| time(record.lease_until)),
            created_at: view.created_at,
            updated_at: view.updated_at,
        }
    }
}

impl From<Hold> for ListedHold {
    fn from(Hold { id, step, reason, at }: Hold) -> Self {
        Self { id, step, reason, at: time(at) }
    }
}

/// The rows, and the ids of the documents that cannot be read.
pub(super) fn read_all(found: &[RawDocumentBuf]) -> (Vec<ListedOrder>, Vec<String>) {
    let (mut rows, mut unreadable) = (Vec::with_capacity(found.len()), Vec::new());
    for raw in found {
        match bson::deserialize_from_slice::<StoredRow>(raw.as_bytes()) {
            Ok(stored) => rows.push(stored.into()),
            Err(error) => {
                let id = id(raw).unwrap_or_else(|| "without an id".into());
                tracing::warn!(order.id = id, error = describe_bson(&error), "cannot list an order");
                unreadable.push(id);
            }
        }
    }
    (rows, unreadable)
}

pub(super) fn id(raw: &RawDocument) -> Option<String> {
    raw.get_str("_id").ok().map(str::to_owned)
}

/// What the database sends of a document.
pub(super) fn projection() -> Document {
    const FIELDS: [&str; 20] = [
        "account",
        "steps",
        "gen",
        "final",
        "phase",
        "cur",
        "att",
        "waits",
        "due_at",
        "charged_at",
        "excused_ms",
        "hold",
        "owner",
        "lease_until",
        "cause",
        "cancel",
        "evp",
        "conflicts",
        "created_at",
        "updated_at",
    ];
    FIELDS.into_iter().map(|field| (field.to_owned(), 1.into())).collect()
}

#[derive(Deserialize)]
struct StoredRow {
    #[serde(rename = "_id")]
    order_id: OrderId,
    account: AccountId,
    steps: Vec<StepName>,
    #[serde(rename = "gen")]
    generation: u32,
    #[serde(rename = "final")]
    is_final: bool,
    phase: Phase,
    cur: u32,
    att: u32,
    waits: u32,
    due_at: Option<DateTime>,
    charged_at: Option<DateTime>,
    excused_ms: Millis,
    hold: Option<StoredHold>,
    owner: Option<WorkerId>,
    lease_until: Option<DateTime>,
    cause: Option<Cause>,
    cancel: bool,
    evp: bool,
    conflicts: Vec<IgnoredAny>,
    created_at: DateTime,
    updated_at: DateTime,
}

#[derive(Deserialize)]
struct StoredHold {
    id: String,
    step: StepName,
    reason: String,
    at: DateTime,
}

impl From<StoredRow> for ListedOrder {
    fn from(stored: StoredRow) -> Self {
        let in_hand = stored.steps.get(stored.cur as usize).cloned();
        Self {
            order_id: stored.order_id,
            account: stored.account,
            status: OrderStatus::of(stored.phase, stored.hold.is_some()),
            phase: stored.phase,
            generation: stored.generation,
            is_final: stored.is_final,
            step: step(stored.phase, in_hand, stored.cause.as_ref()),
            attempts: stored.att,
            waits: stored.waits,
            cause: stored.cause,
            hold: stored.hold.map(|StoredHold { id, step, reason, at }| ListedHold {
                id,
                step,
                reason,
                at: timestamp(at),
            }),
            cancel_requested: stored.cancel,
            conflicts: stored.conflicts.len(),
            owes: stored.evp,
            due_at: stored.due_at.map(timestamp),
            charged_at: stored.charged_at.map(timestamp),
            excused_ms: stored.excused_ms,
            owner: stored.owner,
            lease_until: stored.lease_until.map(timestamp),
            created_at: timestamp(stored.created_at),
            updated_at: timestamp(stored.updated_at),
        }
    }
}

fn step(phase: Phase, in_hand: Option<StepName>, cause: Option<&Cause>) -> Option<StepName> {
    if phase.is_terminal() { cause.map(|cause| cause.step.clone()) } else { in_hand }
}

fn time(at: Millis) -> Timestamp {
    timestamp(DateTime::from_millis(at))
}
