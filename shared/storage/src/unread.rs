//! Dead letters whose bodies have not been read: how often reading one was begun, as what still stands here when a worker is
//! gone may have been what ended it; and those that are not read any more.

use std::time::Duration;

use mongodb::{
    IndexModel,
    bson::{DateTime, Document, RawDocumentBuf, doc},
    options::{IndexOptions, ReturnDocument},
};
use orderfleet_domain::{
    AccountId, OrderId,
    saga::{Millis, Nonce, body_id},
};

use crate::{
    DeadLetter, Store, StoreError,
    dead_letter::{UNREAD, arrival, known},
    document::binary,
    schema::{number, text},
};

/// How long readings are remembered after the last of them, of which nobody said how it ended. What a worker wrote late, behind
/// the end, goes the same way.
const READINGS_KEPT: Duration = Duration::from_hours(1);

/// A dead letter as far as it is known without looking into its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The letter, without a subject.
    pub letter: DeadLetter,
    /// The order it is about, where its headers tell.
    pub order_id: Option<OrderId>,
    /// Whose that is, where its headers tell.
    pub account: Option<AccountId>,
}

/// What is known of the readings of a dead letter that were begun and neither ended nor taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readings {
    /// How many.
    pub count: usize,
    /// How often the letter has waited because of them.
    pub waits: usize,
}

impl Store {
    /// Counts a reading before the body is looked at, majority-committed, and says which were begun and neither ended nor
    /// taken back, this one included. Each counts once under its name, however often this is called: repeat it with the same
    /// name where the answer was lost. A crash leaves the count, which is its use. Every redelivery adds one name, until
    /// whoever reads the letter stops at a number of them.
    ///
    /// They are counted apart from the dead letters, so that a call which takes effect late, after the readings have ended,
    /// shows nobody a letter that has been read.
    ///
    /// # Errors
    /// The database did not answer in time; the reading may be counted all the same.
    pub async fn begin_reading(
        &self,
        unread: &Unread,
        reading: Nonce,
        now: Millis,
    ) -> Result<Readings, StoreError> {
        let begun = doc! {
            "$addToSet": { "readings": binary(reading) },
            "$max": { "last": DateTime::from_millis(now) },
        };
        let upsert = self
            .readings
            .find_one_and_update(reading_filter(unread), begun)
            .upsert(true)
            .return_document(ReturnDocument::After);
        let stored = self.call("begin a reading", upsert).await?;
        Ok(stored.as_ref().map_or(Readings { count: 1, waits: 0 }, readings))
    }

    /// Takes a reading back that [`Store::begin_reading`] counted, or may have counted, and that its worker did not end over.
    /// A second call does nothing.
    ///
    /// # Errors
    /// The database did not answer in time; it may be taken back all the same.
    pub async fn take_reading_back(&self, unread: &Unread, reading: Nonce) -> Result<(), StoreError> {
        let pull = doc! { "$pull": { "readings": binary(reading) } };
        self.call("take back", self.readings.update_one(reading_filter(unread), pull)).await?;
        let mut nobody_reads = reading_filter(unread);
        nobody_reads.insert("readings", doc! { "$size": 0 });
        self.call("end readings", self.readings.delete_one(nobody_reads)).await.map(drop)
    }

    /// Remembers beside the readings of a letter that it waits for the n-th time because of them. A second call does nothing, nor
    /// does one for a letter whose readings have ended.
    ///
    /// # Errors
    /// The database did not answer in time; it may be remembered all the same.
    pub async fn note_wait(&self, unread: &Unread, waits: usize) -> Result<(), StoreError> {
        let waits = i64::try_from(waits).unwrap_or(i64::MAX);
        let noted = doc! { "$max": { "waits": waits } };
        self.call("note a wait", self.readings.update_one(reading_filter(unread), noted)).await.map(drop)
    }

    /// Forgets the readings of a letter: its body has been read. A second call does nothing.
    ///
    /// # Errors
    /// The database did not answer in time; they may be forgotten all the same.
    pub async fn end_readings(&self, unread: &Unread) -> Result<(), StoreError> {
        self.call("end readings", self.readings.delete_one(reading_filter(unread))).await.map(drop)
    }

    /// Stores a dead letter that is not to be read, as `<order id>.unread.<id>`, or `unread.<id>` where the order is not
    /// known; otherwise as [`Store::park`]. One that was replayed or discarded is open again.
    ///
    /// # Errors
    /// As [`Store::park`].
    pub async fn park_unread(&self, unread: &Unread, now: Millis) -> Result<(), StoreError> {
        let id = prefixed(unread, &format!("{UNREAD}.{}", unread.letter.id));
        let filter = doc! { "_id": &id };
        let upsert = self.dead_letters.update_one(filter, unread_arrival(unread, now)).upsert(true);
        self.call("park", upsert).await?;
        self.open_again(&id).await
    }
}

/// Raised with every change of the validator.
const VALIDATOR_VERSION: i32 = 2;

pub(crate) fn validator() -> (Document, i32) {
    let mut properties =
        doc! { "_id": text(), "readings": { "bsonType": "array" }, "last": { "bsonType": "date" } };
    let required: Vec<_> = properties.keys().cloned().collect();
    properties.insert("waits", number(0));
    let title = format!("orderfleet readings of a dead letter, version {VALIDATOR_VERSION}");
    let schema =
        doc! { "title": title, "bsonType": "object", "required": required, "properties": properties };
    (doc! { "$jsonSchema": schema }, VALIDATOR_VERSION)
}

pub(crate) fn indexes() -> [IndexModel; 1] {
    let expires = IndexOptions::builder().expire_after(READINGS_KEPT).build();
    [IndexModel::builder().keys(doc! { "last": 1 }).options(expires).build()]
}

/// With the body in it: all messages about one hold share an id, and one must not be suspected of what another does.
fn reading_filter(unread: &Unread) -> Document {
    doc! { "_id": prefixed(unread, &format!("{}.{}", unread.letter.id, body_id(&unread.letter.body))) }
}

/// The order's id comes first, as in the id of every dead letter of an order: they are one range.
fn prefixed(unread: &Unread, own: &str) -> String {
    unread.order_id.as_ref().map_or_else(|| own.to_owned(), |order_id| format!("{order_id}.{own}"))
}

fn unread_arrival(unread: &Unread, now: Millis) -> Document {
    let mut update = arrival(&unread.letter, now);
    if let Ok(inserted) = update.get_document_mut("$setOnInsert") {
        inserted.extend(known([
            ("order_id", unread.order_id.as_ref().map(OrderId::as_str)),
            ("account", unread.account.as_ref().map(AccountId::as_str)),
        ]));
    }
    update
}

fn readings(stored: &RawDocumentBuf) -> Readings {
    Readings {
        count: stored.get_array("readings").map_or(1, |readings| readings.into_iter().count()),
        waits: stored.get_i64("waits").ok().and_then(|waits| waits.try_into().ok()).unwrap_or(0),
    }
}
