//! A dead letter as its document.

use std::collections::BTreeMap;

use mongodb::bson::{self, Binary, Bson, DateTime, Document, RawDocument, doc, spec::BinarySubtype};
use orderfleet_domain::{
    AccountId, FailureFingerprint, Order, OrderId, StepName,
    failure::{Failure, FailureClass},
};
use serde::{Deserialize, de::Error as _};

use super::letter::{Attempt, Content, Ended, How, Lease, Letter, queue_name, queue_of_word};
use crate::{
    StoreError,
    document::{date, timestamp},
    order::StoredOrder,
    store::DEAD_LETTERS,
};

/// A document as it is read: every field of it but those of the content. Letters of the first build tell neither class, answer,
/// fingerprint nor attempts.
#[derive(Deserialize)]
struct StoredLetter {
    #[serde(rename = "_id")]
    id: String,
    queue: String,
    order_id: Option<OrderId>,
    account: Option<AccountId>,
    #[serde(rename = "gen")]
    generation: Option<u32>,
    kind: String,
    reason: String,
    step: Option<StepName>,
    class: Option<String>,
    code: Option<String>,
    answer: Option<String>,
    fingerprint: Option<FailureFingerprint>,
    build: Option<String>,
    trace_id: Option<String>,
    #[serde(default)]
    attempts: Vec<StoredAttempt>,
    size: i64,
    first_seen: DateTime,
    last_seen: DateTime,
    seen: i64,
    ended: Option<StoredEnded>,
    lease: Option<StoredLease>,
}

#[derive(Deserialize)]
struct StoredAttempt {
    at: DateTime,
    what: String,
    step: Option<StepName>,
    detail: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct StoredEnded {
    how: How,
    by: String,
    why: String,
    at: DateTime,
    job: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct StoredLease {
    holder: String,
    until: DateTime,
}

#[derive(Deserialize)]
struct StoredContent {
    headers: Vec<BTreeMap<String, String>>,
    body: Binary,
    correction: Option<StoredOrder>,
}

/// The fields that make a letter of a document.
pub(super) fn projection() -> Document {
    doc! { "headers": 0, "body": 0, "readings": 0, "correction": 0 }
}

/// The class of a letter that tells none.
pub(super) const UNTOLD: FailureClass = FailureClass::Unknown;

/// The fingerprint of a letter that tells none.
pub(super) fn untold() -> FailureFingerprint {
    Failure::new(None, UNTOLD, None, "").fingerprint()
}

pub(super) fn read(raw: &RawDocument) -> Result<Letter, StoreError> {
    let stored: StoredLetter = bson::deserialize_from_slice(raw.as_bytes()).map_err(malformed)?;
    let unknown = || malformed(bson::error::Error::custom("an unknown queue"));
    Ok(Letter {
        queue: queue_of_word(&stored.queue).ok_or_else(unknown)?,
        id: stored.id,
        order_id: stored.order_id,
        account: stored.account,
        generation: stored.generation,
        kind: stored.kind,
        step: stored.step,
        class: stored.class.unwrap_or_else(|| UNTOLD.as_str().to_owned()),
        code: stored.code,
        answer: stored.answer.unwrap_or_else(|| stored.reason.clone()),
        reason: stored.reason,
        fingerprint: stored.fingerprint.unwrap_or_else(untold),
        build: stored.build,
        trace_id: stored.trace_id,
        attempts: stored.attempts.into_iter().map(Attempt::from).collect(),
        size: u64::try_from(stored.size).unwrap_or(0),
        first_seen: timestamp(stored.first_seen),
        last_seen: timestamp(stored.last_seen),
        seen: u64::try_from(stored.seen).unwrap_or(0),
        ended: stored.ended.map(Ended::from),
        lease: stored.lease.map(Lease::from),
    })
}

pub(super) fn read_content(raw: &RawDocument) -> Result<Content, StoreError> {
    let stored: StoredContent = bson::deserialize_from_slice(raw.as_bytes()).map_err(malformed)?;
    let header =
        |mut header: BTreeMap<String, String>| Some((header.remove("name")?, header.remove("value")?));
    Ok(Content {
        headers: stored.headers.into_iter().filter_map(header).collect(),
        body: stored.body.bytes,
        correction: stored.correction.map(Order::from),
    })
}

pub(super) fn malformed(error: bson::error::Error) -> StoreError {
    StoreError::Malformed { collection: DEAD_LETTERS, source: error.into() }
}

impl From<StoredAttempt> for Attempt {
    fn from(StoredAttempt { at, what, step, detail }: StoredAttempt) -> Self {
        Self { at: timestamp(at), what, step, detail }
    }
}

impl From<StoredEnded> for Ended {
    fn from(StoredEnded { how, by, why, at, job }: StoredEnded) -> Self {
        Self { how, by, why, at: timestamp(at), job }
    }
}

impl From<StoredLease> for Lease {
    fn from(StoredLease { holder, until }: StoredLease) -> Self {
        Self { holder, until: timestamp(until) }
    }
}

/// The whole document of a letter with its content. Nobody has it in hand.
pub(super) fn document(letter: &Letter, content: &Content) -> Result<Document, StoreError> {
    let mut document = doc! {
        "_id": &letter.id,
        "queue": queue_name(&letter.queue),
        "kind": &letter.kind,
        "reason": &letter.reason,
        "class": &letter.class,
        "answer": &letter.answer,
        "fingerprint": letter.fingerprint.as_str(),
        "attempts": attempts(&letter.attempts),
        "headers": headers(&content.headers),
        "body": body(&content.body),
        "size": number(letter.size),
        "first_seen": date(letter.first_seen),
        "last_seen": date(letter.last_seen),
        "seen": number(letter.seen),
        "ended": letter.ended.as_ref().map_or(Bson::Null, |known| ended(known).into()),
        "lease": Bson::Null,
    };
    document.extend(known([
        ("order_id", letter.order_id.as_ref().map(OrderId::as_str)),
        ("account", letter.account.as_ref().map(AccountId::as_str)),
        ("step", letter.step.as_ref().map(StepName::as_str)),
        ("code", letter.code.as_deref()),
        ("build", letter.build.as_deref()),
        ("trace_id", letter.trace_id.as_deref()),
    ]));
    if let Some(generation) = letter.generation {
        document.insert("gen", i64::from(generation));
    }
    if let Some(correction) = &content.correction {
        document.insert("correction", order(correction)?);
    }
    Ok(document)
}

/// Those of these fields that have a value.
pub(crate) fn known<const N: usize>(fields: [(&str, Option<&str>); N]) -> Document {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect()
}

pub(super) fn body(bytes: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

pub(super) fn attempts(attempts: &[Attempt]) -> Vec<Document> {
    let document = |attempt: &Attempt| {
        let mut document = doc! { "at": date(attempt.at), "what": &attempt.what };
        if let Some(step) = &attempt.step {
            document.insert("step", step.as_str());
        }
        if let Some(detail) = &attempt.detail {
            document.insert("detail", detail);
        }
        document
    };
    attempts.iter().map(document).collect()
}

pub(super) fn headers(headers: &[(String, String)]) -> Vec<Document> {
    headers.iter().map(|(name, value)| doc! { "name": name, "value": value }).collect()
}

pub(super) fn ended(ended: &Ended) -> Document {
    let Ended { how, by, why, at, job } = ended;
    let mut document = doc! { "how": how.as_str(), "by": by, "why": why, "at": date(*at) };
    if let Some(job) = job {
        document.insert("job", job);
    }
    document
}

pub(super) fn order(order: &Order) -> Result<Document, StoreError> {
    bson::serialize_to_document(&StoredOrder::from(order)).map_err(malformed)
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
