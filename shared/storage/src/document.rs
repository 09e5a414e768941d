//! The order's document, in three parts by who writes them: once at the insert, by deciding writes, by anybody.

use jiff::Timestamp;
use mongodb::bson::{self, Binary, DateTime, RawDocument, spec::BinarySubtype};
use orderfleet_domain::{
    AccountId, Fingerprint, Order, OrderId, StepName,
    saga::{Cause, Entry, Hold, Millis, Nonce, Phase, Record, StepResult, StepState, WorkerId},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::order::StoredOrder;

/// Entries kept of an order's history, the newest.
pub(crate) const HISTORY_MAX: i32 = 64;
/// Other bodies kept that were posted under the order's key, the newest.
pub(crate) const CONFLICTS_MAX: i32 = 16;

/// Written once, at the insert.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pinned {
    #[serde(rename = "_id")]
    pub(crate) id: OrderId,
    pub(crate) account: AccountId,
    pub(crate) fp: Fingerprint,
    pub(crate) order: StoredOrder,
    pub(crate) steps: Vec<StepName>,
    pub(crate) accepted_at: DateTime,
    pub(crate) created_at: DateTime,
    /// Trace context (W3C) of the message that the order came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) traceparent: Option<String>,
}

/// Written by the claim of a run that a person began with a corrected order.
#[derive(Debug, Deserialize)]
pub(crate) struct Corrected {
    #[serde(default)]
    pub(crate) corrected: Option<Correction>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Correction {
    /// The first run that works on it.
    #[serde(rename = "gen")]
    pub(crate) generation: u32,
    pub(crate) order: StoredOrder,
}

/// Written by the insert, by claims and by every compare-and-set.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Deciding {
    sv: u32,
    #[serde(rename = "gen")]
    generation: u32,
    #[serde(rename = "final")]
    is_final: bool,
    phase: Phase,
    cur: u32,
    hi: u32,
    att: u32,
    waits: u32,
    due_at: Option<DateTime>,
    charged_at: Option<DateTime>,
    excused_ms: Millis,
    hold: Option<StoredHold>,
    epoch: u64,
    rev: u64,
    #[serde(serialize_with = "to_binary", deserialize_with = "from_binary")]
    nonce: Nonce,
    owner: Option<WorkerId>,
    lease_until: Option<DateTime>,
    cause: Option<Cause>,
    results: Vec<StoredResult>,
}

/// Written by others too, without touching rev, epoch or nonce.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Shared {
    pub(crate) cancel: bool,
    pub(crate) evp: bool,
    /// Sweeps since the order last owed something new, and when the next one is due.
    pub(crate) sweeps: u32,
    pub(crate) sweep_due: Option<DateTime>,
    pub(crate) history: Vec<StoredEntry>,
    pub(crate) conflicts: Vec<StoredConflict>,
    pub(crate) updated_at: DateTime,
}

/// A whole document, as it is inserted.
#[derive(Debug, Serialize)]
pub(crate) struct NewDocument {
    #[serde(flatten)]
    pub(crate) pinned: Pinned,
    #[serde(flatten)]
    pub(crate) deciding: Deciding,
    #[serde(flatten)]
    pub(crate) shared: Shared,
}

/// A whole document, as it is read: each part takes its own fields and leaves newer ones alone.
#[derive(Debug)]
pub(crate) struct StoredDocument {
    pub(crate) pinned: Pinned,
    pub(crate) deciding: Deciding,
    pub(crate) shared: Shared,
    pub(crate) correction: Option<Correction>,
}

impl StoredDocument {
    pub(crate) fn read(raw: &RawDocument) -> Result<Self, bson::error::Error> {
        Ok(Self {
            pinned: bson::deserialize_from_slice(raw.as_bytes())?,
            deciding: bson::deserialize_from_slice(raw.as_bytes())?,
            shared: bson::deserialize_from_slice(raw.as_bytes())?,
            correction: bson::deserialize_from_slice::<Corrected>(raw.as_bytes())?.corrected,
        })
    }

    /// What a worker works on: the posted order, or what a person made of it.
    pub(crate) fn order_to_work(self) -> Order {
        self.correction.map_or(self.pinned.order, |correction| correction.order).into()
    }

    /// What the saga core decides by.
    pub(crate) fn record(&self) -> Record {
        let Self { pinned, deciding, shared, .. } = self;
        Record {
            sv: deciding.sv,
            fp: pinned.fp.clone(),
            steps: pinned.steps.clone(),
            generation: deciding.generation,
            is_final: deciding.is_final,
            phase: deciding.phase,
            cur: deciding.cur,
            hi: deciding.hi,
            att: deciding.att,
            waits: deciding.waits,
            due_at: deciding.due_at.map(DateTime::timestamp_millis),
            charged_at: deciding.charged_at.map(DateTime::timestamp_millis),
            excused_ms: deciding.excused_ms,
            hold: deciding.hold.as_ref().map(StoredHold::hold),
            cancel: shared.cancel,
            epoch: deciding.epoch,
            rev: deciding.rev,
            nonce: deciding.nonce,
            owner: deciding.owner.clone(),
            lease_until: deciding.lease_until.map_or(0, DateTime::timestamp_millis),
            evp: shared.evp,
            cause: deciding.cause.clone(),
            results: deciding.results.iter().map(StoredResult::result).collect(),
        }
    }
}

impl From<&Record> for Deciding {
    fn from(record: &Record) -> Self {
        Self {
            sv: record.sv,
            generation: record.generation,
            is_final: record.is_final,
            phase: record.phase,
            cur: record.cur,
            hi: record.hi,
            att: record.att,
            waits: record.waits,
            due_at: record.due_at.map(DateTime::from_millis),
            charged_at: record.charged_at.map(DateTime::from_millis),
            excused_ms: record.excused_ms,
            hold: record.hold.as_ref().map(StoredHold::from),
            epoch: record.epoch,
            rev: record.rev,
            nonce: record.nonce,
            owner: record.owner.clone(),
            lease_until: (record.lease_until != 0).then(|| DateTime::from_millis(record.lease_until)),
            cause: record.cause.clone(),
            results: record.results.iter().map(StoredResult::from).collect(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredHold {
    id: String,
    step: StepName,
    reason: String,
    at: DateTime,
}

impl From<&Hold> for StoredHold {
    fn from(hold: &Hold) -> Self {
        let Hold { id, step, reason, at } = hold.clone();
        Self { id, step, reason, at: DateTime::from_millis(at) }
    }
}

impl StoredHold {
    fn hold(&self) -> Hold {
        Hold {
            id: self.id.clone(),
            step: self.step.clone(),
            reason: self.reason.clone(),
            at: self.at.timestamp_millis(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredResult {
    step: StepName,
    state: StepState,
    result: String,
    at: DateTime,
}

impl From<&StepResult> for StoredResult {
    fn from(result: &StepResult) -> Self {
        let StepResult { step, state, result, at } = result.clone();
        Self { step, state, result, at: DateTime::from_millis(at) }
    }
}

impl StoredResult {
    fn result(&self) -> StepResult {
        StepResult {
            step: self.step.clone(),
            state: self.state,
            result: self.result.clone(),
            at: self.at.timestamp_millis(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredEntry {
    at: DateTime,
    what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<StepName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl From<&Entry> for StoredEntry {
    fn from(entry: &Entry) -> Self {
        let Entry { at, what, step, detail } = entry.clone();
        Self { at: DateTime::from_millis(at), what, step, detail }
    }
}

impl From<StoredEntry> for Entry {
    fn from(StoredEntry { at, what, step, detail }: StoredEntry) -> Self {
        Self { at: at.timestamp_millis(), what, step, detail }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredConflict {
    pub(crate) fp: Fingerprint,
    pub(crate) at: DateTime,
}

/// A nonce as it is stored: 16 bytes, big-endian.
pub(crate) fn binary(nonce: Nonce) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: nonce.0.to_be_bytes().to_vec() }
}

/// A time as a date, cut to milliseconds.
pub(crate) fn date(at: Timestamp) -> DateTime {
    DateTime::from_millis(at.as_millisecond())
}

/// A date as a time. Dates beyond the year 9999, which nobody writes here, are cut to its end.
pub(crate) fn timestamp(date: DateTime) -> Timestamp {
    let end = if date.timestamp_millis() < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(date.timestamp_millis()).unwrap_or(end)
}

fn to_binary<S: Serializer>(nonce: &Nonce, serializer: S) -> Result<S::Ok, S::Error> {
    binary(*nonce).serialize(serializer)
}

fn from_binary<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Nonce, D::Error> {
    let bytes: [u8; 16] = Binary::deserialize(deserializer)?
        .bytes
        .try_into()
        .map_err(|_| D::Error::custom("a nonce has 16 bytes"))?;
    Ok(Nonce(u128::from_be_bytes(bytes)))
}
