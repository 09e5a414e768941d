//! The operator log: who changed what, and why, as a chain that is only ever appended to. Each entry holds the hash of the
//! one before, so that an entry that was changed, removed or put in between shows.

mod entry;

use std::time::Duration;

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::{
    Collection, IndexModel,
    bson::{self, Bson, DateTime, Document, RawDocument, RawDocumentBuf, doc},
    options::IndexOptions,
};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

pub use entry::{ActPhase, BadLogHead, LogEntry, LogHead, LogRecord};

use crate::{
    BadDocument, Store, StoreError,
    document::{date, timestamp},
    failure::is_duplicate,
    schema::{long, text},
};

/// Name of the collection.
pub(crate) const OPERATOR_LOG: &str = "operator_log";
/// Raised with every change of the validator.
const VALIDATOR_VERSION: i32 = 1;
/// Longest time an entry is tried for: others may be faster, or an answer be lost.
const APPEND_WITHIN: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(20);

/// A document in the log's collection that is no entry as this build writes them.
#[derive(Debug, thiserror::Error)]
#[error("entry {id} of the operator log cannot be read")]
pub struct BadLogEntry {
    /// Its id as it is shown: a number, if nobody has meddled.
    pub id: String,
    /// Why.
    pub source: BadDocument,
}

/// Which entries to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPage {
    /// Only those beyond this number, in the direction of reading.
    pub beyond: Option<i64>,
    /// From the newest back, and not from the first on.
    pub newest_first: bool,
    /// Only those recorded at this time or later, by the clocks of those who acted.
    pub since: Option<Timestamp>,
    /// At most so many.
    pub limit: u32,
}

impl Store {
    /// Appends an entry to the operator log, majority-committed, and returns it. The entry of this act and phase that is there
    /// already is returned as it is: a second call adds nothing, and neither does a repeat after a lost answer.
    ///
    /// Writers need no lock: the number of an entry is its `_id`, so of two that append at once one is refused and tries
    /// again behind the other. A crash leaves the entry there or not.
    ///
    /// # Errors
    /// The database did not answer; or, after up to 20 s, it is not known whether the entry is there.
    pub async fn append_to_log(&self, record: &LogRecord) -> Result<LogEntry, StoreError> {
        let deadline = Instant::now() + APPEND_WITHIN;
        let mut unanswered = false;
        loop {
            match self.place_for(record).await {
                Ok(Place::Taken(entry)) => return Ok(entry),
                Ok(Place::Free(entry)) => match self.insert_entry(&entry).await {
                    Ok(()) => return Ok(entry),
                    // Somebody else was faster, or it is this very entry, inserted by an earlier try.
                    Err(error) if is_duplicate(&error) => {}
                    Err(error) => {
                        tracing::warn!(%error, "not known whether the entry is in the operator log");
                        unanswered = true;
                    }
                },
                Err(error) if !unanswered => return Err(error),
                Err(_) => {}
            }
            if Instant::now() >= deadline {
                let operation = "append to the operator log";
                return Err(StoreError::Timeout { operation, after: APPEND_WITHIN });
            }
            sleep(PAUSE).await;
        }
    }

    /// The entry of an act, if it is there and can be read.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn logged(&self, act: &str, phase: ActPhase) -> Result<Option<LogEntry>, StoreError> {
        let filter = doc! { "act": act, "phase": phase.as_str() };
        let found = self.call("find", self.log().find_one(filter).max_time(self.timeout)).await?;
        Ok(found.and_then(|raw| entry(&raw).ok()))
    }

    /// A page of the operator log.
    ///
    /// # Errors
    /// The database did not answer in time. A document that is no entry is an error in its own place.
    pub async fn log_page(&self, page: &LogPage) -> Result<Vec<Result<LogEntry, BadLogEntry>>, StoreError> {
        let (beyond, order) = if page.newest_first { ("$lt", -1) } else { ("$gt", 1) };
        let mut filter = Document::new();
        if let Some(seq) = page.beyond {
            filter.insert("_id", doc! { beyond: seq });
        }
        if let Some(since) = page.since {
            filter.insert("at", doc! { "$gte": date(since) });
        }
        let log = self.log();
        let find = log.find(filter).sort(doc! { "_id": order }).limit(i64::from(page.limit));
        let find = find.max_time(self.timeout);
        let found: Vec<_> = self.call("find", async { find.await?.try_collect().await }).await?;
        Ok(found.iter().map(|raw| entry(raw)).collect())
    }

    /// A document in the log's collection whose id is no number, so that it stands beside the chain: nothing of this fleet
    /// writes one.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn stranger_in_log(&self) -> Result<Option<String>, StoreError> {
        let filter = doc! { "_id": { "$not": { "$type": "number" } } };
        let found = self.call("find", self.log().find_one(filter).max_time(self.timeout)).await?;
        Ok(found.map(|raw| shown_id(&raw)))
    }

    async fn place_for(&self, record: &LogRecord) -> Result<Place, StoreError> {
        if let Some(entry) = self.logged(&record.act, record.phase).await? {
            return Ok(Place::Taken(entry));
        }
        Ok(Place::Free(LogEntry::after(self.last_of_log().await?.as_ref(), record)))
    }

    async fn insert_entry(&self, entry: &LogEntry) -> Result<(), StoreError> {
        let log = self.database.collection::<StoredEntry>(OPERATOR_LOG);
        self.call("insert", log.insert_one(StoredEntry::from(entry))).await.map(drop)
    }

    /// Number and hash of the last entry. Of one that somebody has spoilt there may be no hash: the log goes on, and shows it.
    async fn last_of_log(&self) -> Result<Option<LogHead>, StoreError> {
        let log = self.log();
        let find = log.find_one(doc! { "_id": { "$type": "long" } });
        let last = self.call("find", find.sort(doc! { "_id": -1 }).max_time(self.timeout)).await?;
        Ok(last.and_then(|raw| {
            let hash = raw.get_str("hash").unwrap_or_default().to_owned();
            Some(LogHead { seq: raw.get_i64("_id").ok()?, hash })
        }))
    }

    fn log(&self) -> Collection<RawDocumentBuf> {
        self.database.collection(OPERATOR_LOG)
    }
}

/// Where a record stands in the log, or could.
enum Place {
    Taken(LogEntry),
    Free(LogEntry),
}

/// An entry as it is stored. A field more would not be covered by the hash, so there is none.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredEntry {
    #[serde(rename = "_id")]
    seq: i64,
    at: DateTime,
    who: String,
    what: String,
    why: String,
    target: String,
    phase: ActPhase,
    act: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<String>,
    prev: String,
    hash: String,
}

impl From<&LogEntry> for StoredEntry {
    fn from(entry: &LogEntry) -> Self {
        let LogEntry { seq, record, prev, hash } = entry.clone();
        let LogRecord { at, who, what, why, target, phase, act, result } = record;
        Self { seq, at: date(at), who, what, why, target, phase, act, result, prev, hash }
    }
}

impl From<StoredEntry> for LogEntry {
    fn from(stored: StoredEntry) -> Self {
        let StoredEntry { seq, at, who, what, why, target, phase, act, result, prev, hash } = stored;
        let record = LogRecord { at: timestamp(at), who, what, why, target, phase, act, result };
        Self { seq, record, prev, hash }
    }
}

fn entry(raw: &RawDocument) -> Result<LogEntry, BadLogEntry> {
    bson::deserialize_from_slice::<StoredEntry>(raw.as_bytes())
        .map(LogEntry::from)
        .map_err(|source| BadLogEntry { id: shown_id(raw), source: source.into() })
}

fn shown_id(raw: &RawDocument) -> String {
    let id = raw.get("_id").ok().flatten().and_then(|id| Bson::try_from(id).ok());
    id.map_or_else(|| "without an id".into(), |id| id.to_string())
}

pub(crate) fn indexes() -> [IndexModel; 2] {
    let unique = IndexOptions::builder().unique(true).build();
    [
        IndexModel::builder().keys(doc! { "act": 1, "phase": 1 }).options(unique).build(),
        IndexModel::builder().keys(doc! { "at": 1 }).build(),
    ]
}

pub(crate) fn validator() -> (Document, i32) {
    let hash = doc! { "bsonType": "string", "minLength": 64, "maxLength": 64 };
    let mut properties = doc! {
        "_id": long(1),
        "at": { "bsonType": "date" },
        "who": text(),
        "what": text(),
        "why": text(),
        "target": text(),
        "phase": { "enum": [ActPhase::Begin.as_str(), ActPhase::End.as_str()] },
        "act": text(),
        "prev": hash.clone(),
        "hash": hash,
    };
    let required: Vec<_> = properties.keys().cloned().collect();
    properties.insert("result", doc! { "bsonType": "string" });
    let title = format!("orderfleet operator log, version {VALIDATOR_VERSION}");
    let schema =
        doc! { "title": title, "bsonType": "object", "required": required, "properties": properties };
    (doc! { "$jsonSchema": schema }, VALIDATOR_VERSION)
}
