//! Pauses: what an operator has stopped, for how long, and why. Workers read them over and over.
//!
//! A pause ends by its time for everybody who reads it, whether or not the database has removed its document by then.

mod target;

use std::time::Duration;

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::{
    Collection, IndexModel,
    bson::{self, DateTime, Document, RawDocument, RawDocumentBuf, doc},
    options::{IndexOptions, ReturnDocument},
};
use orderfleet_domain::saga::Millis;
use serde::{Deserialize, Serialize};

pub use target::{BadTarget, PauseTarget, WorkedQueue};

use crate::{
    Store, StoreError,
    document::{date, timestamp},
    schema::text,
};

/// Name of the collection.
pub(crate) const PAUSES: &str = "pauses";
/// Most pauses that are obeyed at once, those that end first.
pub const PAUSES_MAX: u32 = 256;
/// Longest reason, in characters: it is shown in a row of a table.
pub const PAUSE_REASON_CHARS_MAX: usize = 200;
/// Raised with every change of the validator.
const VALIDATOR_VERSION: i32 = 1;

/// A pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pause {
    /// What it stops.
    pub target: PauseTarget,
    /// Who paused it.
    pub owner: String,
    /// Why; no personal data.
    pub reason: String,
    /// When, by the owner's clock.
    pub at: Timestamp,
    /// When it is over, by the clock of whoever reads it.
    pub until: Timestamp,
}

impl Pause {
    /// Whether it is in force at this time.
    #[must_use]
    pub fn is_in_force(&self, now: Millis) -> bool {
        self.until.as_millisecond() > now
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredPause {
    #[serde(rename = "_id")]
    target: String,
    owner: String,
    reason: String,
    at: DateTime,
    until: DateTime,
}

impl Store {
    /// The pauses in force, at most [`PAUSES_MAX`]. What a newer build has paused and this one does not know is left out.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn pauses(&self, now: Millis) -> Result<Vec<Pause>, StoreError> {
        let in_force = doc! { "until": { "$gt": DateTime::from_millis(now) } };
        let pauses = self.pause_documents();
        let find = pauses.find(in_force).limit(i64::from(PAUSES_MAX)).max_time(self.timeout);
        let found: Vec<_> = self.call("read the pauses", async { find.await?.try_collect().await }).await?;
        let mut pauses: Vec<_> = found.iter().filter_map(|raw| read(raw)).collect();
        pauses.sort_by_cached_key(|pause| pause.target.to_string());
        Ok(pauses)
    }

    /// Pauses, majority-committed, and returns the pause of the same target that it takes the place of, even if that was over.
    /// A second call is the same pause again. A crash leaves the one or the other.
    ///
    /// # Errors
    /// The database did not answer in time; the pause may be there all the same.
    pub async fn pause(&self, pause: &Pause) -> Result<Option<Pause>, StoreError> {
        let id = pause.target.to_string();
        let stored = StoredPause {
            target: id.clone(),
            owner: pause.owner.clone(),
            reason: pause.reason.chars().take(PAUSE_REASON_CHARS_MAX).collect(),
            at: date(pause.at),
            until: date(pause.until),
        };
        let stored = bson::serialize_to_raw_document_buf(&stored)
            .map_err(|source| StoreError::Malformed { collection: PAUSES, source: source.into() })?;
        let pauses = self.pause_documents();
        let replace = pauses
            .find_one_and_replace(doc! { "_id": id }, stored)
            .upsert(true)
            .return_document(ReturnDocument::Before);
        Ok(self.call("pause", replace).await?.and_then(|raw| read(&raw)))
    }

    /// Ends a pause, majority-committed, and returns it. A second call finds none.
    ///
    /// # Errors
    /// The database did not answer in time; the pause may be over all the same.
    pub async fn resume(&self, target: &PauseTarget) -> Result<Option<Pause>, StoreError> {
        let pauses = self.pause_documents();
        let delete = pauses.find_one_and_delete(doc! { "_id": target.to_string() });
        Ok(self.call("resume", delete).await?.and_then(|raw| read(&raw)))
    }

    fn pause_documents(&self) -> Collection<RawDocumentBuf> {
        self.database.collection(PAUSES)
    }
}

fn read(raw: &RawDocument) -> Option<Pause> {
    let StoredPause { target, owner, reason, at, until } =
        bson::deserialize_from_slice(raw.as_bytes()).ok()?;
    let target = target.parse().ok()?;
    Some(Pause { target, owner, reason, at: timestamp(at), until: timestamp(until) })
}

pub(crate) fn indexes() -> [IndexModel; 1] {
    let expires = IndexOptions::builder().expire_after(Duration::ZERO).build();
    [IndexModel::builder().keys(doc! { "until": 1 }).options(expires).build()]
}

pub(crate) fn validator() -> (Document, i32) {
    let properties = doc! {
        "_id": text(),
        "owner": text(),
        "reason": text(),
        "at": { "bsonType": "date" },
        "until": { "bsonType": "date" },
    };
    let required: Vec<_> = properties.keys().cloned().collect();
    let title = format!("orderfleet pause, version {VALIDATOR_VERSION}");
    let schema =
        doc! { "title": title, "bsonType": "object", "required": required, "properties": properties };
    (doc! { "$jsonSchema": schema }, VALIDATOR_VERSION)
}
