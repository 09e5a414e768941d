//! Dead letters where people find them: one document each, complete enough to publish its message again.

use jiff::Timestamp;
use mongodb::{
    IndexModel,
    bson::{self, Binary, DateTime, Document, doc, spec::BinarySubtype},
};
use orderfleet_domain::{
    AccountId, OrderId,
    saga::{DeadLetterQueue, Millis},
};
use serde::Deserialize;

use crate::{
    Store, StoreError,
    document::timestamp,
    schema::{long, number, text},
};

/// Raised with every change of the validator.
const VALIDATOR_VERSION: i32 = 1;
/// The kind of message that can create an order's document.
const PLACE: &str = "place";

/// A message that was taken from a dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id: another arrival of the same dead letter has the same.
    pub id: String,
    /// The queue it came to.
    pub queue: DeadLetterQueue,
    /// The order it is about, where its body tells.
    pub subject: Option<Subject>,
    /// What the message asks for, its AMQP type.
    pub kind: String,
    /// Why it is here, for people; no personal data.
    pub reason: String,
    /// Its headers, apart from those that only make it a dead letter.
    pub headers: Vec<(String, String)>,
    /// Its body, as it came. A document has room for 16 MiB; no producer takes more than 8.
    pub body: Vec<u8>,
}

/// The order that a dead letter is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The order.
    pub order_id: OrderId,
    /// Whose it is.
    pub account: AccountId,
    /// The run the message is about.
    pub generation: u32,
}

/// An accepted order that has no document, or none yet: its message was parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedOrder {
    /// Why it was parked.
    pub reason: String,
    /// When it was parked first.
    pub parked_at: Timestamp,
}

impl Store {
    /// Stores a dead letter, majority-committed, and says whether it is here for the first time. One that is here already
    /// stays as it is; only its arrivals are counted, a repeat after a lost answer among them. A crash leaves the dead
    /// letter stored or not, and in its queue.
    ///
    /// # Errors
    /// The database did not answer in time, and the dead letter may be stored all the same; or it refuses the document.
    pub async fn park(&self, letter: &DeadLetter, now: Millis) -> Result<bool, StoreError> {
        let upsert =
            self.dead_letters.update_one(doc! { "_id": id(letter) }, arrival(letter, now)).upsert(true);
        self.call("park", upsert).await.map(|result| result.upserted_id.is_some())
    }

    /// An account's order of which only a dead letter in `orders.dead.poison` is known: one that no worker can read, that
    /// the database refuses, or that is about to be inserted. Ask only for an order that has no document: with one, the
    /// document alone says where the order stands.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn find_parked(
        &self,
        order_id: &OrderId,
        account: &AccountId,
    ) -> Result<Option<ParkedOrder>, StoreError> {
        // A range of ids, so that on a sharded cluster it meets the order's shard alone.
        let filter = doc! {
            "_id": { "$gte": format!("{order_id}."), "$lt": format!("{order_id}/") },
            "account": account.as_str(),
            "queue": queue_name(&DeadLetterQueue::Poison),
            "kind": PLACE,
        };
        let find = self
            .dead_letters
            .find_one(filter)
            .sort(doc! { "_id": 1 })
            .projection(doc! { "reason": 1, "first_seen": 1 })
            .max_time(self.timeout);
        let Some(raw) = self.call("find", find).await? else { return Ok(None) };
        let stored: StoredParking = bson::deserialize_from_slice(raw.as_bytes())
            .map_err(|source| StoreError::Unreadable { order_id: order_id.clone(), source: source.into() })?;
        Ok(Some(ParkedOrder { reason: stored.reason, parked_at: timestamp(stored.first_seen) }))
    }
}

#[derive(Deserialize)]
struct StoredParking {
    reason: String,
    first_seen: DateTime,
}

/// The document's id begins with that of the order, where one is known: an order's dead letters are one range, and they
/// are stored in the zone of its region.
pub(crate) fn id(letter: &DeadLetter) -> String {
    let own = |subject: &Subject| letter.id.starts_with(&format!("{}.", subject.order_id));
    match &letter.subject {
        Some(subject) if !own(subject) => format!("{}.{}", subject.order_id, letter.id),
        _ => letter.id.clone(),
    }
}

/// What an arrival makes of the document, or inserts.
pub(crate) fn arrival(letter: &DeadLetter, now: Millis) -> Document {
    doc! {
        "$setOnInsert": fields(letter, now),
        "$max": { "last_seen": DateTime::from_millis(now) },
        "$inc": { "seen": 1_i64 },
    }
}

fn fields(letter: &DeadLetter, now: Millis) -> Document {
    let headers = letter.headers.iter().map(|(name, value)| doc! { "name": name, "value": value });
    let mut fields = doc! {
        "queue": queue_name(&letter.queue),
        "kind": &letter.kind,
        "reason": &letter.reason,
        "headers": headers.collect::<Vec<_>>(),
        "body": Binary { subtype: BinarySubtype::Generic, bytes: letter.body.clone() },
        "size": i64::try_from(letter.body.len()).unwrap_or(i64::MAX),
        "first_seen": DateTime::from_millis(now),
    };
    if let Some(Subject { order_id, account, generation }) = &letter.subject {
        fields.extend(doc! {
            "order_id": order_id.as_str(),
            "account": account.as_str(),
            "gen": i64::from(*generation),
        });
    }
    fields
}

/// The queue's name on a broker where fleets have no prefix.
fn queue_name(queue: &DeadLetterQueue) -> String {
    let name = match queue {
        DeadLetterQueue::Step(step) => step.as_str(),
        DeadLetterQueue::Poison => "poison",
        DeadLetterQueue::Held => "held",
        DeadLetterQueue::Conflict => "conflict",
    };
    format!("orders.dead.{name}")
}

pub(crate) fn indexes() -> [IndexModel; 1] {
    [IndexModel::builder().keys(doc! { "queue": 1, "first_seen": 1 }).build()]
}

pub(crate) fn validator() -> (Document, i32) {
    let header = doc! {
        "bsonType": "object",
        "required": ["name", "value"],
        "properties": { "name": { "bsonType": "string" }, "value": { "bsonType": "string" } },
    };
    let required = doc! {
        "_id": text(),
        "queue": text(),
        "kind": text(),
        "reason": { "bsonType": "string" },
        "headers": { "bsonType": "array", "items": header },
        "body": { "bsonType": "binData" },
        "size": number(0),
        "first_seen": { "bsonType": "date" },
        "last_seen": { "bsonType": "date" },
        "seen": long(1),
    };
    let names: Vec<_> = required.keys().cloned().collect();
    let mut properties = required;
    properties.extend(doc! { "order_id": text(), "account": text(), "gen": number(1) });
    let title = format!("orderfleet dead letter, version {VALIDATOR_VERSION}");
    let schema = doc! { "title": title, "bsonType": "object", "required": names, "properties": properties };
    (doc! { "$jsonSchema": schema }, VALIDATOR_VERSION)
}
