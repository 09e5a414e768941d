//! Dead letters found by operators. Every query has a limit, and goes through its letters in batches.

use std::{future::IntoFuture, time::Duration};

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use mongodb::{
    Cursor,
    bson::{Document, RawDocument, RawDocumentBuf, doc},
};
use orderfleet_domain::{OrderId, saga::DeadLetterQueue};

use super::{
    filter::LetterFilter,
    letter::{Content, Letter, LetterCursor, queue_name},
    stored::{document, malformed, projection, read, read_content},
};
use crate::{
    Store, StoreError,
    document::{date, timestamp},
    failure::is_duplicate,
    scatter,
};

/// Most letters that one call of [`Store::list_letters`] returns.
pub const LETTERS_MAX: u32 = 1_000;
/// Most letters of one order that are looked at.
const LETTERS_OF_ORDER_MAX: u32 = 100;
/// Letters with their bodies that are fetched at once; the server cuts a batch at 16 MiB.
const BATCH: u32 = 100;
/// What scans many letters may take longer than a call about one.
pub(super) const SCAN_TIMEOUT: Duration = Duration::from_secs(30);

/// Dead letters listed by one call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterPage {
    /// The letters.
    pub letters: Vec<Letter>,
    /// Ids of documents that match and that this build cannot read.
    pub unreadable: Vec<String>,
    /// Where to go on; `None` behind the last letter.
    pub next: Option<LetterCursor>,
}

impl Store {
    /// Dead letters that a filter chooses, oldest first by the time they were parked first, behind a place, at most `limit` and
    /// at most 1,000. A letter parked meanwhile by a clock that is behind may be missed.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn list_letters(
        &self,
        filter: &LetterFilter,
        after: Option<&LetterCursor>,
        limit: u32,
    ) -> Result<LetterPage, StoreError> {
        let filter = behind(filter.document(), after);
        self.some_letters(filter, by_age(), limit.min(LETTERS_MAX)).await
    }

    /// As [`Store::list_letters`], from the newest back: the last `limit` letters, on a page of their own.
    ///
    /// # Errors
    /// As [`Store::list_letters`].
    pub async fn newest_letters(&self, filter: &LetterFilter, limit: u32) -> Result<LetterPage, StoreError> {
        let from_newest = doc! { "first_seen": -1, "_id": -1 };
        let page = self.some_letters(filter.document(), from_newest, limit.min(LETTERS_MAX)).await?;
        Ok(LetterPage { next: None, ..page })
    }

    /// The ids of the dead letters that a filter chooses, readable or not, oldest first, `limit` at most. A hundred bytes of
    /// memory for each.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn letter_ids(&self, filter: &LetterFilter, limit: u32) -> Result<Vec<String>, StoreError> {
        // To the server a limit of 0 is none.
        if limit == 0 {
            return Ok(Vec::new());
        }
        let find = self.dead_letters.find(filter.document()).projection(doc! { "_id": 1 }).sort(by_age());
        let find = find.limit(i64::from(limit)).comment(scatter::LETTERS).max_time(SCAN_TIMEOUT);
        let found: Vec<_> = self.scan("list dead letters", async { find.await?.try_collect().await }).await?;
        Ok(found.iter().map(|raw| id(raw)).collect())
    }

    /// How many of these are stored. A call takes at most a few thousand.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn known_letters(&self, ids: &[String]) -> Result<u64, StoreError> {
        let count = self.dead_letters.count_documents(doc! { "_id": { "$in": ids } }).max_time(SCAN_TIMEOUT);
        self.scan("count dead letters", count).await
    }

    /// A dead letter, open or not, with its content.
    ///
    /// # Errors
    /// The database did not answer in time, or the document cannot be read by this build.
    pub async fn letter(&self, id: &str) -> Result<Option<(Letter, Content)>, StoreError> {
        let find = self.dead_letters.find_one(doc! { "_id": id }).max_time(self.timeout);
        let found = self.call("find a dead letter", find).await?;
        found.map(|raw| Ok((read(&raw)?, read_content(&raw)?))).transpose()
    }

    /// The dead letters of an order, open or not, oldest first; the first hundred. One that this build cannot read is left out.
    ///
    /// # Errors
    /// As [`Store::list_letters`].
    pub async fn all_letters_of(&self, order_id: &OrderId) -> Result<Vec<Letter>, StoreError> {
        // A range of ids, so that on a sharded cluster it meets the order's shard alone.
        let range = doc! { "_id": { "$gte": format!("{order_id}."), "$lt": format!("{order_id}/") } };
        Ok(self.some_letters(range, by_age(), LETTERS_OF_ORDER_MAX).await?.letters)
    }

    async fn some_letters(
        &self,
        filter: Document,
        sort: Document,
        limit: u32,
    ) -> Result<LetterPage, StoreError> {
        // To the server a limit of 0 is none.
        if limit == 0 {
            return Ok(LetterPage::default());
        }
        let find = self.dead_letters.find(filter).projection(projection()).sort(sort);
        let find = find.limit(i64::from(limit)).comment(scatter::LETTERS).max_time(SCAN_TIMEOUT);
        let found: Vec<_> = self.scan("list dead letters", async { find.await?.try_collect().await }).await?;
        Ok(page(&found, limit))
    }

    /// How many dead letters a filter chooses.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn count_letters(&self, filter: &LetterFilter) -> Result<u64, StoreError> {
        let count = self.dead_letters.count_documents(filter.document()).comment(scatter::LETTERS);
        let count = count.max_time(SCAN_TIMEOUT);
        self.scan("count dead letters", count).await
    }

    /// How many dead letters of a queue are open, by an index.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn count_open_letters(&self, queue: &DeadLetterQueue) -> Result<u64, StoreError> {
        let open = doc! { "ended": null, "queue": queue_name(queue) };
        let count = self.dead_letters.count_documents(open).comment(scatter::LETTERS).max_time(SCAN_TIMEOUT);
        self.scan("count dead letters", count).await
    }

    /// The dead letters that a filter chooses, each by its id with its content, oldest first, `limit` at most; `None` for one
    /// that this build cannot read. Not more than a batch of them is in memory at once, a hundred letters or 16 MiB. The stream
    /// ends with its first error.
    ///
    /// # Errors
    /// As [`Store::list_letters`], from the stream too.
    pub async fn export_letters(
        &self,
        filter: &LetterFilter,
        limit: Option<u32>,
    ) -> Result<impl Stream<Item = Result<Exported, StoreError>> + use<>, StoreError> {
        let find = self.dead_letters.find(filter.document()).sort(by_age()).batch_size(BATCH);
        let find = find.comment(scatter::LETTERS);
        // To the server a limit of 0 is none.
        let find = find.limit(limit.map_or(0, |limit| i64::from(limit.max(1))));
        let cursor = self.scan("export dead letters", find).await?;
        Ok(stream::try_unfold((self.clone(), cursor), |(store, mut cursor)| async move {
            let found = store.next_letter(&mut cursor).await;
            found.map(|found| found.map(|letter| (letter, (store, cursor))))
        }))
    }

    async fn next_letter(&self, cursor: &mut Cursor<RawDocumentBuf>) -> Result<Option<Exported>, StoreError> {
        let found = self.scan("export dead letters", async { cursor.next().await.transpose() }).await?;
        Ok(found.map(|raw| (id(&raw), read(&raw).and_then(|letter| Ok((letter, read_content(&raw)?))).ok())))
    }

    /// Puts a dead letter back that was exported, majority-committed, and says whether it was missing. One that is there stays
    /// as it is. Nobody has it in hand afterwards.
    ///
    /// # Errors
    /// The database did not answer in time, and the letter may be there all the same; or it refuses the letter.
    pub async fn import_letter(&self, letter: &Letter, content: &Content) -> Result<bool, StoreError> {
        let raw = RawDocumentBuf::try_from(&document(letter, content)?).map_err(malformed)?;
        match self.call("import a dead letter", self.dead_letters.insert_one(raw)).await {
            Ok(_) => Ok(true),
            Err(error) if is_duplicate(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// As [`Store::call`], with the time of a query that goes through many letters.
    pub(crate) async fn scan<T>(
        &self,
        operation: &'static str,
        call: impl IntoFuture<Output = mongodb::error::Result<T>>,
    ) -> Result<T, StoreError> {
        let patient = Self { timeout: SCAN_TIMEOUT, ..self.clone() };
        patient.call(operation, call).await
    }
}

/// A dead letter's id, and the letter with its content where this build can read it.
type Exported = (String, Option<(Letter, Content)>);

fn id(raw: &RawDocument) -> String {
    raw.get_str("_id").unwrap_or_default().to_owned()
}

fn page(found: &[RawDocumentBuf], limit: u32) -> LetterPage {
    let mut page = LetterPage::default();
    for raw in found {
        match read(raw) {
            Ok(letter) => page.letters.push(letter),
            Err(_) => page.unreadable.push(id(raw)),
        }
    }
    let is_full = found.len() >= limit as usize;
    page.next = found.last().filter(|_| is_full).and_then(|raw| {
        let first_seen = raw.get_datetime("first_seen").ok().map(timestamp)?;
        Some(LetterCursor { first_seen, id: id(raw) })
    });
    page
}

pub(super) fn by_age() -> Document {
    doc! { "first_seen": 1, "_id": 1 }
}

fn behind(filter: Document, after: Option<&LetterCursor>) -> Document {
    let Some(LetterCursor { first_seen, id }) = after else { return filter };
    let at = date(*first_seen);
    // The first condition alone bounds the index.
    let place = doc! {
        "first_seen": { "$gte": at },
        "$or": [{ "first_seen": { "$gt": at } }, { "_id": { "$gt": id } }],
    };
    doc! { "$and": [filter, place] }
}
