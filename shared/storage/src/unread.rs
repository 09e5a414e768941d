//! Dead letters that are about to be read. What still stands here when a worker is gone may have been what ended it.

use mongodb::{
    bson::{RawDocumentBuf, doc},
    options::ReturnDocument,
};
use orderfleet_domain::saga::Millis;

use crate::{
    DeadLetter, Store, StoreError,
    dead_letter::{arrival, id},
};

impl Store {
    /// Stores a dead letter before its body is read, majority-committed, beside what [`Store::park`] makes of it: without
    /// an order, as `unread.<id>`. Says how often that has been done, this time included; a repeat after a lost answer
    /// counts as well. A crash leaves it there, which is its use.
    ///
    /// # Errors
    /// As [`Store::park`].
    pub async fn park_unread(&self, letter: &DeadLetter, now: Millis) -> Result<u64, StoreError> {
        let unread = unread(letter);
        let upsert = self
            .dead_letters
            .find_one_and_update(doc! { "_id": id(&unread) }, arrival(&unread, now))
            .upsert(true)
            .return_document(ReturnDocument::After)
            .projection(doc! { "seen": 1 });
        let stored = self.call("park", upsert).await?;
        Ok(stored.as_ref().map_or(1, arrivals))
    }

    /// Removes what [`Store::park_unread`] stored: the body has been read. A second call does nothing.
    ///
    /// # Errors
    /// The database did not answer in time; it may be removed all the same.
    pub async fn remove_unread(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        let delete = self.dead_letters.delete_one(doc! { "_id": id(&unread(letter)) });
        self.call("remove", delete).await.map(drop)
    }
}

fn unread(letter: &DeadLetter) -> DeadLetter {
    DeadLetter { id: format!("unread.{}", letter.id), subject: None, ..letter.clone() }
}

fn arrivals(stored: &RawDocumentBuf) -> u64 {
    stored.get_i64("seen").ok().and_then(|seen| u64::try_from(seen).ok()).unwrap_or(1)
}
