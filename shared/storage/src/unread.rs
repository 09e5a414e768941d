//! Dead letters whose bodies have not been read, and how often that was begun: what still stands here when a worker is gone
//! may have been what ended it.

use mongodb::{
    bson::{Document, RawDocumentBuf, doc},
    options::ReturnDocument,
};
use orderfleet_domain::{
    AccountId, OrderId,
    saga::{Millis, Nonce},
};

use crate::{
    DeadLetter, Store, StoreError,
    dead_letter::{arrival, known},
    document::binary,
};

/// A dead letter as far as it is known without looking into its body. Its document stands beside the one that
/// [`Store::park`] makes of it, as `<order id>.unread.<id>`, or `unread.<id>` where the order is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The letter, without a subject.
    pub letter: DeadLetter,
    /// The order it is about, where its headers tell.
    pub order_id: Option<OrderId>,
    /// Whose that is, where its headers tell.
    pub account: Option<AccountId>,
}

impl Store {
    /// Stores a dead letter before its body is read, majority-committed, and says how many readings of it were begun and
    /// neither ended nor taken back, this one included. Each counts once under its name, however often this is
    /// called: repeat it with the same name where the answer was lost. One that was replayed or discarded is open again. A crash
    /// leaves the letter and the count, which is their use. Every redelivery adds one name, until whoever reads the letter stops at a number of them.
    ///
    /// # Errors
    /// As [`Store::park`].
    pub async fn park_unread(
        &self,
        unread: &Unread,
        reading: Nonce,
        now: Millis,
    ) -> Result<usize, StoreError> {
        let upsert = self
            .dead_letters
            .find_one_and_update(filter(unread), begun(unread, reading, now))
            .upsert(true)
            .return_document(ReturnDocument::After)
            .projection(doc! { "readings": 1, "ended": 1 });
        let stored = self.call("park", upsert).await?;
        if stored.as_ref().is_some_and(is_ended) {
            self.open_again(&id(unread)).await?;
        }
        Ok(stored.as_ref().map_or(1, readings))
    }

    /// Takes a reading back that [`Store::park_unread`] counted, or may have counted, and that its worker did not end over.
    /// The letter goes with its last reading. A second call does nothing.
    ///
    /// # Errors
    /// The database did not answer in time; it may be taken back all the same.
    pub async fn take_reading_back(&self, unread: &Unread, reading: Nonce) -> Result<(), StoreError> {
        let pull = doc! { "$pull": { "readings": binary(reading) } };
        self.call("take back", self.dead_letters.update_one(filter(unread), pull)).await?;
        let mut nobody_reads = filter(unread);
        nobody_reads.insert("readings", doc! { "$size": 0 });
        self.call("remove", self.dead_letters.delete_one(nobody_reads)).await.map(drop)
    }

    /// Removes what [`Store::park_unread`] stored: the body has been read. A second call does nothing.
    ///
    /// # Errors
    /// The database did not answer in time; it may be removed all the same.
    pub async fn remove_unread(&self, unread: &Unread) -> Result<(), StoreError> {
        self.call("remove", self.dead_letters.delete_one(filter(unread))).await.map(drop)
    }
}

fn filter(unread: &Unread) -> Document {
    doc! { "_id": id(unread) }
}

/// The order's id comes first, as in the id of every dead letter of an order: they are one range.
fn id(unread: &Unread) -> String {
    let own = format!("unread.{}", unread.letter.id);
    unread.order_id.as_ref().map_or(own.clone(), |order_id| format!("{order_id}.{own}"))
}

fn begun(unread: &Unread, reading: Nonce, now: Millis) -> Document {
    let mut update = arrival(&unread.letter, now);
    if let Ok(inserted) = update.get_document_mut("$setOnInsert") {
        inserted.extend(known([
            ("order_id", unread.order_id.as_ref().map(OrderId::as_str)),
            ("account", unread.account.as_ref().map(AccountId::as_str)),
        ]));
    }
    update.insert("$addToSet", doc! { "readings": binary(reading) });
    update
}

fn is_ended(stored: &RawDocumentBuf) -> bool {
    stored.get_document("ended").is_ok()
}

fn readings(stored: &RawDocumentBuf) -> usize {
    stored.get_array("readings").map_or(1, |readings| readings.into_iter().count())
}
