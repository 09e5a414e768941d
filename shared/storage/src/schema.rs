//! The collections, their indexes and their validators, as code.

use futures_util::{TryStreamExt as _, future::try_join_all};
use mongodb::{
    IndexModel,
    bson::{Document, doc},
    error::ErrorKind,
    options::IndexOptions,
};
use orderfleet_domain::saga::{CauseClass, Phase};

use crate::{
    Store, StoreError, dead_letter,
    operator_log::{self, OPERATOR_LOG},
    pause::{self, PAUSES},
    replay,
    store::{DEAD_LETTERS, ORDERS, READINGS, REPLAY_ITEMS, REPLAYS},
    unread,
    worker_status::{self, WORKER_STATUS},
};

/// Raised with every change of the validator: an older build does not put its own back.
const VALIDATOR_VERSION: i32 = 2;
const NAMESPACE_EXISTS: i32 = 48;

impl Store {
    /// Creates what is missing: the collections with their validators, and the indexes. Call it at every start, in as many
    /// processes as there are; a crash in between leaves what was created, and the next call creates the rest. A
    /// validator of a newer build is left alone.
    ///
    /// # Errors
    /// The database did not answer in time, or an index of the same name has other fields.
    pub async fn prepare(&self) -> Result<(), StoreError> {
        self.prepare_all(declared()).await
    }

    /// Creates the operator log alone, as [`Store::prepare`] does: for who has to record an act before there is anything else.
    ///
    /// # Errors
    /// As [`Store::prepare`].
    pub async fn prepare_operator_log(&self) -> Result<(), StoreError> {
        self.prepare_all(declared().into_iter().filter(|it| it.name == OPERATOR_LOG).collect()).await
    }

    /// All collections at once: a worker that is started for an order is waited for.
    async fn prepare_all(&self, declared: Vec<Declared>) -> Result<(), StoreError> {
        let list = self.database.list_collections();
        let found: Vec<_> = self.call("list collections", async { list.await?.try_collect().await }).await?;
        let in_place = |name: &str| {
            let present = found.iter().find(|collection| collection.name == name);
            present.and_then(|collection| version_of(collection.options.validator.as_ref()?))
        };
        let preparing = declared.into_iter().map(|declared| {
            let in_place = in_place(declared.name);
            self.prepare_collection(declared, in_place)
        });
        try_join_all(preparing).await.map(drop)
    }

    async fn prepare_collection(
        &self,
        Declared { name, validator: (validator, version), indexes }: Declared,
        in_place: Option<i32>,
    ) -> Result<(), StoreError> {
        if in_place < Some(version) {
            self.prepare_validator(name, validator, version).await?;
        }
        if indexes.is_empty() {
            return Ok(());
        }
        let collection = self.database.collection::<Document>(name);
        self.call("create indexes", collection.create_indexes(indexes)).await.map(drop)
    }

    async fn prepare_validator(
        &self,
        name: &str,
        validator: Document,
        version: i32,
    ) -> Result<(), StoreError> {
        let create = self.database.create_collection(name).validator(validator.clone());
        match self.call("create collection", create).await {
            Err(StoreError::Call { source, .. }) if is_there_already(source.kind()) => {}
            other => return other,
        }
        let list = self.database.list_collections().filter(doc! { "name": name });
        let found: Vec<_> = self.call("list collections", async { list.await?.try_collect().await }).await?;
        let present = found.into_iter().next().and_then(|collection| collection.options.validator);
        if present.as_ref().and_then(version_of) >= Some(version) {
            return Ok(());
        }
        let change = doc! { "collMod": name, "validator": validator };
        self.call("change the validator", self.database.run_command(change)).await.map(drop)
    }
}

/// A collection as it has to be.
pub(crate) struct Declared {
    pub(crate) name: &'static str,
    /// The validator and its version.
    pub(crate) validator: (Document, i32),
    /// Beside the one on `_id`.
    pub(crate) indexes: Vec<IndexModel>,
}

/// Every collection.
pub(crate) fn declared() -> Vec<Declared> {
    let declare = |name, validator, indexes| Declared { name, validator, indexes };
    vec![
        declare(ORDERS, orders_validator(), indexes().into()),
        declare(DEAD_LETTERS, dead_letter::validator(), dead_letter::indexes().into()),
        declare(READINGS, unread::validator(), unread::indexes().into()),
        declare(OPERATOR_LOG, operator_log::validator(), operator_log::indexes().into()),
        declare(REPLAYS, replay::validator(), replay::indexes().into()),
        declare(REPLAY_ITEMS, replay::item_validator(), Vec::new()),
        declare(PAUSES, pause::validator(), pause::indexes().into()),
        declare(WORKER_STATUS, worker_status::validator(), worker_status::indexes().into()),
    ]
}

/// The validator of the orders and its version.
pub(crate) fn orders_validator() -> (Document, i32) {
    (validator(), VALIDATOR_VERSION)
}

fn indexes() -> [IndexModel; 4] {
    let owing = IndexOptions::builder().partial_filter_expression(doc! { "evp": true }).build();
    [
        IndexModel::builder().keys(doc! { "account": 1, "created_at": -1 }).build(),
        IndexModel::builder().keys(doc! { "created_at": 1 }).build(),
        IndexModel::builder().keys(doc! { "phase": 1, "due_at": 1 }).build(),
        IndexModel::builder().keys(doc! { "sweep_due": 1 }).options(owing).build(),
    ]
}

/// Types and words of what decides: the second line of defence, after the types of this crate. Fields it does not know
/// are welcome, so that a newer build may add some. It is applied at every write, and what it costs most for are the items of
/// arrays: those of the order, which is written once, are left to whoever reads them, as is the text of results.
fn validator() -> Document {
    let properties = doc! {
        "_id": text(),
        "account": text(),
        "fp": { "bsonType": "string", "minLength": 66, "maxLength": 66 },
        "order": order(),
        "sv": number(1),
        "steps": { "bsonType": "array", "minItems": 1 },
        "gen": number(1),
        "final": { "bsonType": "bool" },
        "phase": words([Phase::Run, Phase::Comp, Phase::Done, Phase::Undone].map(Phase::as_str)),
        "cur": number(0),
        "hi": number(0),
        "att": number(0),
        "waits": number(0),
        "due_at": date_or_null(),
        "charged_at": date_or_null(),
        "excused_ms": { "bsonType": "long" },
        "hold": {
            "bsonType": ["object", "null"],
            "required": ["id", "step", "reason", "at"],
            "properties": { "id": text(), "step": text() },
        },
        "cancel": { "bsonType": "bool" },
        "epoch": long(1),
        "rev": long(1),
        "nonce": { "bsonType": "binData" },
        "owner": { "bsonType": ["string", "null"] },
        "lease_until": date_or_null(),
        "evp": { "bsonType": "bool" },
        "cause": {
            "bsonType": ["object", "null"],
            "required": ["class", "step", "message"],
            "properties": { "class": words(CAUSES.map(CauseClass::as_str)), "step": text() },
        },
        "results": { "bsonType": "array" },
        "history": { "bsonType": "array" },
        "conflicts": { "bsonType": "array" },
        "sweeps": number(0),
        "sweep_due": date_or_null(),
        "accepted_at": { "bsonType": "date" },
        "created_at": { "bsonType": "date" },
        "updated_at": { "bsonType": "date" },
    };
    let required: Vec<_> = properties.keys().cloned().collect();
    let title = format!("orderfleet order, version {VALIDATOR_VERSION}");
    doc! { "$jsonSchema": { "title": title, "bsonType": "object", "required": required, "properties": properties } }
}

const CAUSES: [CauseClass; 6] = [
    CauseClass::Refused,
    CauseClass::Cancelled,
    CauseClass::AttemptsExhausted,
    CauseClass::DeadlinePassed,
    CauseClass::Tombstone,
    CauseClass::Discarded,
];

fn order() -> Document {
    doc! {
        "bsonType": "object",
        "required": ["channel", "currency", "payment_ref", "ship_to", "lines"],
        "properties": { "lines": { "bsonType": "array", "minItems": 1 } },
    }
}

pub(crate) fn text() -> Document {
    doc! { "bsonType": "string", "minLength": 1 }
}

fn words<const N: usize>(words: [&str; N]) -> Document {
    doc! { "enum": words.to_vec() }
}

pub(crate) fn number(minimum: i32) -> Document {
    doc! { "bsonType": ["int", "long"], "minimum": minimum }
}

pub(crate) fn long(minimum: i32) -> Document {
    doc! { "bsonType": "long", "minimum": minimum }
}

fn date_or_null() -> Document {
    doc! { "bsonType": ["date", "null"] }
}

pub(crate) fn version_of(validator: &Document) -> Option<i32> {
    let title = validator.get_document("$jsonSchema").ok()?.get_str("title").ok()?;
    title.rsplit(' ').next()?.parse().ok()
}

fn is_there_already(error: &ErrorKind) -> bool {
    matches!(error, ErrorKind::Command(error) if error.code == NAMESPACE_EXISTS)
}
