//! Dead letters counted by what failed: one group for each queue and failure fingerprint.

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{self, DateTime, RawDocumentBuf, doc};
use orderfleet_domain::{
    FailureFingerprint, StepName,
    saga::{DeadLetterQueue, Millis},
};
use serde::{Deserialize, Serialize, de::Error as _};

use super::{
    filter::LetterFilter,
    letter::{queue_of_word, to_word},
    stored::malformed,
};
use crate::{Store, StoreError, document::timestamp};

/// Most groups that are told apart, the largest.
pub const GROUPS_MAX: u32 = 500;
const HOUR_MS: Millis = 3_600_000;

/// Dead letters of one queue with one failure fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LetterGroup {
    /// The queue they came to; as JSON the last part of its name.
    #[serde(serialize_with = "to_word")]
    pub queue: DeadLetterQueue,
    /// What they have in common.
    #[serde(rename = "failure_fingerprint")]
    pub fingerprint: FailureFingerprint,
    /// The step that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepName>,
    /// What kind of failure.
    pub class: String,
    /// How many.
    pub count: u64,
    /// How many of them in the last hour.
    pub last_hour: u64,
    /// When the oldest was parked first.
    pub oldest: Timestamp,
    /// When the newest was parked first.
    pub newest: Timestamp,
    /// The build that gave the oldest one up, where a worker did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_build: Option<String>,
    /// The answer of the newest one.
    pub answer: String,
}

#[derive(Deserialize)]
struct StoredGroup {
    #[serde(rename = "_id")]
    key: Key,
    count: i64,
    last_hour: i64,
    oldest: DateTime,
    newest: DateTime,
    first: First,
    last: Last,
}

#[derive(Deserialize)]
struct Key {
    queue: String,
    fingerprint: FailureFingerprint,
}

#[derive(Deserialize)]
struct First {
    build: Option<String>,
}

#[derive(Deserialize)]
struct Last {
    step: Option<StepName>,
    class: String,
    answer: String,
}

impl Store {
    /// Groups of the dead letters that a filter chooses, the largest first, at most 500. The database groups them: the memory
    /// this takes depends on the number of groups, never on that of letters.
    ///
    /// # Errors
    /// The database did not answer in time, or a document cannot be read by this build.
    pub async fn letter_stats(
        &self,
        filter: &LetterFilter,
        now: Millis,
    ) -> Result<Vec<LetterGroup>, StoreError> {
        let hour_ago = DateTime::from_millis(now - HOUR_MS);
        let by_age = doc! { "first_seen": 1, "_id": 1 };
        let last = doc! { "step": "$step", "class": "$class", "answer": "$answer" };
        let group = doc! {
            "_id": { "queue": "$queue", "fingerprint": "$fingerprint" },
            "count": { "$sum": 1_i64 },
            "last_hour": { "$sum": { "$cond": [{ "$gte": ["$first_seen", hour_ago] }, 1_i64, 0_i64] } },
            "oldest": { "$min": "$first_seen" },
            "newest": { "$max": "$first_seen" },
            "first": { "$top": { "sortBy": by_age.clone(), "output": { "build": "$build" } } },
            "last": { "$bottom": { "sortBy": by_age, "output": last } },
        };
        let pipeline = [
            doc! { "$match": filter.document() },
            doc! { "$group": group },
            doc! { "$sort": { "count": -1, "oldest": 1, "_id": 1 } },
            doc! { "$limit": i64::from(GROUPS_MAX) },
        ];
        let aggregate = self.dead_letters.aggregate(pipeline).max_time(super::listing::SCAN_TIMEOUT);
        let aggregate = aggregate.with_type::<RawDocumentBuf>();
        let groups = async { aggregate.await?.try_collect::<Vec<_>>().await };
        self.scan("group dead letters", groups).await?.iter().map(read).collect()
    }
}

fn read(raw: &RawDocumentBuf) -> Result<LetterGroup, StoreError> {
    let stored: StoredGroup = bson::deserialize_from_slice(raw.as_bytes()).map_err(malformed)?;
    let StoredGroup { key, count, last_hour, oldest, newest, first, last } = stored;
    let unknown = || malformed(bson::error::Error::custom("an unknown queue"));
    Ok(LetterGroup {
        queue: queue_of_word(&key.queue).ok_or_else(unknown)?,
        fingerprint: key.fingerprint,
        step: last.step,
        class: last.class,
        count: u64::try_from(count).unwrap_or(0),
        last_hour: u64::try_from(last_hour).unwrap_or(0),
        oldest: timestamp(oldest),
        newest: timestamp(newest),
        first_build: first.build,
        answer: last.answer,
    })
}
