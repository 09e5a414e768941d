//! Heartbeats: what each worker says of itself every few seconds. Nothing is decided by them.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::{
    Collection, IndexModel,
    bson::{self, DateTime, Document, RawDocument, RawDocumentBuf, doc},
    options::{Acknowledgment, CollectionOptions, IndexOptions, ReadConcern, WriteConcern},
};
use serde::{Deserialize, Serialize};

use crate::{
    Store, StoreError,
    document::{date, timestamp},
    schema::text,
};

/// Name of the collection.
pub(crate) const WORKER_STATUS: &str = "worker_status";
/// Most workers that one call tells of, those heard of last.
pub const WORKERS_MAX: u32 = 1_000;
/// How long the last heartbeat of a worker is kept that ended without a word.
const KEPT: Duration = Duration::from_secs(600);
/// Raised with every change of the validator.
const VALIDATOR_VERSION: i32 = 1;

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkerStatus {
    /// The worker: what orders name as their owner begins with it.
    pub instance: String,
    /// The machine it runs on.
    pub host: String,
    /// Its process there.
    pub pid: u32,
    /// Its build.
    pub build: String,
    /// What it does.
    pub roles: Vec<String>,
    /// When it started, by its own clock.
    pub started_at: Timestamp,
    /// When it said so, by the database's clock.
    pub at: Timestamp,
    /// It is shutting down and finishes what it has in hand.
    pub draining: bool,
    /// The queues it consumes.
    pub queues: Vec<QueueLoad>,
    /// Its circuits.
    pub circuits: Vec<CircuitState>,
    /// The targets of the pauses that it obeys.
    pub pauses: Vec<String>,
}

/// A worker's part in a queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueLoad {
    /// The queue, such as `new.0`.
    pub queue: String,
    /// Deliveries it works on, or holds until it can.
    pub in_hand: u64,
    /// Deliveries handled since its start.
    pub handled: u64,
    /// Of those, per second since its heartbeat before.
    pub per_second: f64,
    /// How long the last one taken had waited in the queue, in milliseconds; `None` where its message does not tell, and where
    /// none was taken since the heartbeat before.
    #[serde(default)]
    pub taken_age_ms: Option<u64>,
}

/// A worker's circuit for one step, and what it has heard from the service since its heartbeat before. Builds that tell no
/// figures have none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CircuitState {
    /// The step.
    pub step: String,
    /// `closed`, `open` or `half_open`.
    pub state: String,
    /// Calls that have ended, with or without an answer.
    #[serde(default)]
    pub calls: u64,
    /// How long these took on average, in milliseconds.
    #[serde(default)]
    pub latency_ms: Option<u64>,
    /// Calls that were not made, since so many were in flight that no place came free in time.
    #[serde(default)]
    pub crowded_out: u64,
}

#[derive(Debug, Deserialize)]
struct StoredStatus {
    #[serde(rename = "_id")]
    instance: String,
    host: String,
    pid: u32,
    build: String,
    roles: Vec<String>,
    started_at: DateTime,
    at: DateTime,
    draining: bool,
    queues: Vec<QueueLoad>,
    circuits: Vec<CircuitState>,
    pauses: Vec<String>,
}

impl Store {
    /// Writes a heartbeat over the one before, for whoever looks; `at` is the database's own clock. Acknowledged by the primary
    /// alone: a heartbeat may be lost.
    ///
    /// # Errors
    /// The database did not answer in time, or the status cannot be stored.
    pub async fn beat(&self, status: &WorkerStatus) -> Result<(), StoreError> {
        let malformed = |source: bson::error::Error| StoreError::Malformed {
            collection: WORKER_STATUS,
            source: source.into(),
        };
        let fields = doc! {
            "host": &status.host,
            "pid": i64::from(status.pid),
            "build": &status.build,
            "roles": &status.roles,
            "started_at": date(status.started_at),
            "draining": status.draining,
            "queues": bson::serialize_to_bson(&status.queues).map_err(malformed)?,
            "circuits": bson::serialize_to_bson(&status.circuits).map_err(malformed)?,
            "pauses": &status.pauses,
        };
        let update = doc! { "$set": fields, "$currentDate": { "at": true } };
        let statuses = self.statuses();
        let beat = statuses.update_one(doc! { "_id": &status.instance }, update).upsert(true);
        self.call("heartbeat", beat).await.map(drop)
    }

    /// Forgets a worker that has ended in order. A second call does nothing.
    ///
    /// # Errors
    /// The database did not answer in time. What is left is forgotten ten minutes later.
    pub async fn forget_worker(&self, instance: &str) -> Result<(), StoreError> {
        let statuses = self.statuses();
        let delete = statuses.delete_one(doc! { "_id": instance });
        self.call("forget a worker", delete).await.map(drop)
    }

    /// The last heartbeats, newest first, at most [`WORKERS_MAX`]; those of workers that ended without a word for ten minutes.
    /// One that this build cannot read is left out.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn workers(&self) -> Result<Vec<WorkerStatus>, StoreError> {
        let statuses = self.statuses();
        let find = statuses.find(doc! {}).sort(doc! { "at": -1 }).limit(i64::from(WORKERS_MAX));
        let find = find.max_time(self.timeout);
        let found: Vec<_> = self.call("read the workers", async { find.await?.try_collect().await }).await?;
        Ok(found.iter().filter_map(|raw| read(raw)).collect())
    }

    fn statuses(&self) -> Collection<RawDocumentBuf> {
        let primary_alone = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
        let options = CollectionOptions::builder()
            .write_concern(primary_alone)
            .read_concern(ReadConcern::local())
            .build();
        self.database.collection_with_options(WORKER_STATUS, options)
    }
}

fn read(raw: &RawDocument) -> Option<WorkerStatus> {
    let stored: StoredStatus = bson::deserialize_from_slice(raw.as_bytes()).ok()?;
    let StoredStatus {
        instance,
        host,
        pid,
        build,
        roles,
        started_at,
        at,
        draining,
        queues,
        circuits,
        pauses,
    } = stored;
    let (started_at, at) = (timestamp(started_at), timestamp(at));
    Some(WorkerStatus {
        instance,
        host,
        pid,
        build,
        roles,
        started_at,
        at,
        draining,
        queues,
        circuits,
        pauses,
    })
}

pub(crate) fn indexes() -> [IndexModel; 1] {
    let expires = IndexOptions::builder().expire_after(KEPT).build();
    [IndexModel::builder().keys(doc! { "at": 1 }).options(expires).build()]
}

pub(crate) fn validator() -> (Document, i32) {
    let properties = doc! { "_id": text(), "at": { "bsonType": "date" } };
    let required: Vec<_> = properties.keys().cloned().collect();
    let title = format!("orderfleet worker status, version {VALIDATOR_VERSION}");
    let schema =
        doc! { "title": title, "bsonType": "object", "required": required, "properties": properties };
    (doc! { "$jsonSchema": schema }, VALIDATOR_VERSION)
}
