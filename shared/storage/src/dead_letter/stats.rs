//! Dead letters counted by what failed: one group for each queue and failure fingerprint.

use std::collections::HashMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use mongodb::bson::{self, Bson, DateTime, Document, RawDocumentBuf, doc};
use orderfleet_domain::{
    FailureFingerprint, StepName,
    saga::{DeadLetterQueue, Millis},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    filter::LetterFilter,
    letter::{queue_name, queue_of_word, to_word},
    listing::{SCAN_TIMEOUT, by_age},
    stored::{UNTOLD, malformed, untold},
};
use crate::{Store, StoreError, document::timestamp, scatter};

/// Most groups that are told apart, the largest.
pub const GROUPS_MAX: u32 = 500;
const HOUR_MS: Millis = 3_600_000;
/// Groups whose first letter is looked up at once.
const LOOKS_AT_ONCE: usize = 16;

/// Groups of dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterStats {
    /// The groups, the largest first.
    pub groups: Vec<LetterGroup>,
    /// How many more match, in groups that this build cannot read.
    pub unreadable: u64,
}

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
    /// How many like them were parked first in the last hour, open or not by now.
    pub last_hour: u64,
    /// The same of the hour before: with the one above, whether it grows.
    pub hour_before: u64,
    /// When the oldest was parked first.
    pub oldest: Timestamp,
    /// When the newest was parked first.
    pub newest: Timestamp,
    /// The build that gave up the first one ever, open or not by now, where a worker did.
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
    oldest: DateTime,
    newest: DateTime,
    last: Last,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
struct Key {
    queue: String,
    fingerprint: FailureFingerprint,
}

#[derive(Deserialize)]
struct Last {
    step: Option<StepName>,
    class: String,
    answer: String,
}

#[derive(Deserialize)]
struct StoredHours {
    #[serde(rename = "_id")]
    key: Key,
    last: i64,
    before: i64,
}

#[derive(Deserialize)]
struct First {
    build: Option<String>,
}

impl Store {
    /// Groups of the dead letters that a filter chooses, the first `limit` of them where there is one, the largest group first,
    /// at most 500. What is counted by the hour takes in letters that were replayed or discarded since, unless the filter speaks
    /// of that; so does the first build, whatever the filter says. The database groups them: the memory this takes depends on
    /// the number of groups, never on that of letters.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn letter_stats(
        &self,
        filter: &LetterFilter,
        limit: Option<u32>,
        now: Millis,
    ) -> Result<LetterStats, StoreError> {
        let mut stats = LetterStats::default();
        for raw in self.grouped(grouping(filter, limit)).await? {
            match read::<StoredGroup>(&raw).ok().and_then(group) {
                Some(group) => stats.groups.push(group),
                None => stats.unreadable += raw.get_i64("count").map_or(0, unsigned),
            }
        }
        let hours = self.hours(filter, &stats.groups, now).await?;
        for group in &mut stats.groups {
            (group.last_hour, group.hour_before) = hours.get(&group.key()).copied().unwrap_or_default();
        }
        self.first_builds(&mut stats.groups).await?;
        Ok(stats)
    }

    /// How many letters like those of these groups were parked in the last hour, and in the one before.
    async fn hours(
        &self,
        filter: &LetterFilter,
        groups: &[LetterGroup],
        now: Millis,
    ) -> Result<HashMap<Key, (u64, u64)>, StoreError> {
        if groups.is_empty() {
            return Ok(HashMap::new());
        }
        let queues: Vec<_> = groups.iter().map(|group| queue_name(&group.queue)).collect();
        let fingerprints: Vec<_> = groups.iter().flat_map(LetterGroup::fingerprints).collect();
        let [hour, two_hours] = [1, 2].map(|hours| DateTime::from_millis(now - hours * HOUR_MS));
        let counted = |condition: Document| doc! { "$sum": { "$cond": [condition, 1_i64, 0_i64] } };
        let recent = doc! {
            "fingerprint": { "$in": fingerprints },
            "queue": { "$in": queues },
            "first_seen": { "$gte": two_hours },
        };
        let pipeline = vec![
            doc! { "$match": { "$and": [recent, filter.matching()] } },
            doc! { "$group": {
                "_id": key(),
                "last": counted(doc! { "$gte": ["$first_seen", hour] }),
                "before": counted(doc! { "$lt": ["$first_seen", hour] }),
            } },
        ];
        let found = self.grouped(pipeline).await?;
        let hours = |raw: &RawDocumentBuf| {
            let StoredHours { key, last, before } = read(raw)?;
            Ok((key, (unsigned(last), unsigned(before))))
        };
        found.iter().map(hours).collect()
    }

    async fn first_builds(&self, groups: &mut [LetterGroup]) -> Result<(), StoreError> {
        let looks: Vec<_> = groups.iter().map(|group| self.first_build(group.alike())).collect();
        let builds: Vec<_> = stream::iter(looks).buffered(LOOKS_AT_ONCE).try_collect().await?;
        for (group, build) in groups.iter_mut().zip(builds) {
            group.first_build = build;
        }
        Ok(())
    }

    /// The build of the oldest letter of a filter, by the index of letters that failed alike.
    async fn first_build(&self, alike: Document) -> Result<Option<String>, StoreError> {
        let find = self.dead_letters.find_one(alike).sort(doc! { "first_seen": 1 });
        let find = find.projection(doc! { "build": 1 }).comment(scatter::LETTERS).max_time(self.timeout);
        let found = self.call("find a dead letter", find).await?;
        Ok(found.map(|raw| read::<First>(&raw)).transpose()?.and_then(|first| first.build))
    }

    async fn grouped(&self, pipeline: Vec<Document>) -> Result<Vec<RawDocumentBuf>, StoreError> {
        let aggregate =
            self.dead_letters.aggregate(pipeline).comment(scatter::LETTERS).max_time(SCAN_TIMEOUT);
        let aggregate = aggregate.with_type::<RawDocumentBuf>();
        self.scan("group dead letters", async { aggregate.await?.try_collect().await }).await
    }
}

fn grouping(filter: &LetterFilter, limit: Option<u32>) -> Vec<Document> {
    let last = doc! {
        "step": "$step",
        "class": { "$ifNull": ["$class", UNTOLD.as_str()] },
        "answer": { "$ifNull": ["$answer", "$reason"] },
    };
    let group = doc! {
        "_id": key(),
        "count": { "$sum": 1_i64 },
        "oldest": { "$min": "$first_seen" },
        "newest": { "$max": "$first_seen" },
        "last": { "$bottom": { "sortBy": by_age(), "output": last } },
    };
    let mut pipeline = vec![doc! { "$match": filter.document() }];
    if let Some(limit) = limit {
        pipeline.extend([doc! { "$sort": by_age() }, doc! { "$limit": i64::from(limit.max(1)) }]);
    }
    pipeline.extend([
        doc! { "$group": group },
        doc! { "$sort": { "count": -1, "oldest": 1, "_id": 1 } },
        doc! { "$limit": i64::from(GROUPS_MAX) },
    ]);
    pipeline
}

fn key() -> Document {
    doc! { "queue": "$queue", "fingerprint": { "$ifNull": ["$fingerprint", untold().as_str()] } }
}

impl LetterGroup {
    fn key(&self) -> Key {
        Key { queue: queue_name(&self.queue), fingerprint: self.fingerprint.clone() }
    }

    /// The filter for all letters of the queue that failed like these.
    fn alike(&self) -> Document {
        doc! { "fingerprint": { "$in": self.fingerprints() }, "queue": queue_name(&self.queue) }
    }

    /// What is stored as their fingerprint: nothing stands for that of letters which tell none.
    fn fingerprints(&self) -> Vec<Bson> {
        let untold = (self.fingerprint == untold()).then_some(Bson::Null);
        [self.fingerprint.as_str().into()].into_iter().chain(untold).collect()
    }
}

/// A group without what is counted apart; `None` where its queue is not known.
fn group(stored: StoredGroup) -> Option<LetterGroup> {
    let StoredGroup { key, count, oldest, newest, last } = stored;
    Some(LetterGroup {
        queue: queue_of_word(&key.queue)?,
        fingerprint: key.fingerprint,
        step: last.step,
        class: last.class,
        count: unsigned(count),
        last_hour: 0,
        hour_before: 0,
        oldest: timestamp(oldest),
        newest: timestamp(newest),
        first_build: None,
        answer: last.answer,
    })
}

fn read<T: DeserializeOwned>(raw: &RawDocumentBuf) -> Result<T, StoreError> {
    bson::deserialize_from_slice(raw.as_bytes()).map_err(malformed)
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
