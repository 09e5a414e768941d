//! Orders counted by what is left to do about them, and the failure that one waits for. The counts ask every shard, by
//! index, and the database gives up on one that takes too long.

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::{
    bson::{self, DateTime, Document, RawDocument, doc},
    options::Hint,
};
use orderfleet_domain::{
    OrderId,
    saga::{Entry, Millis, Phase},
};
use serde::Deserialize;

use crate::{
    Store, StoreError,
    document::{StoredEntry, timestamp},
    scatter, sweep,
};

/// More orders than this are not counted by [`Store::coming_due`] and [`Store::to_bring_back`]: whoever asks wants to know
/// whether there is work, and about how much.
const COUNTED_MAX: u64 = 10_000;
/// The word for a charged attempt in an order's history.
const ATTEMPT_FAILED: &str = "attempt_failed";

#[derive(Deserialize)]
struct Histories {
    history: Vec<StoredEntry>,
}

impl Store {
    /// How many orders are under way, held ones among them.
    ///
    /// # Errors
    /// The database did not answer in time: there are very many.
    pub async fn count_under_way(&self) -> Result<u64, StoreError> {
        self.count_orders("count orders under way", under_way(), by_phase()).await
    }

    /// How many orders wait for a person.
    ///
    /// # Errors
    /// As [`Store::count_under_way`].
    pub async fn count_held(&self) -> Result<u64, StoreError> {
        let mut held = under_way();
        held.insert("hold", doc! { "$ne": null });
        self.count_orders("count held orders", held, by_phase()).await
    }

    /// How many orders owe a publish.
    ///
    /// # Errors
    /// As [`Store::count_under_way`].
    pub async fn count_owing(&self) -> Result<u64, StoreError> {
        let by_sweep = doc! { "sweep_due": 1 };
        self.count_orders("count owed publishes", doc! { "evp": true }, by_sweep).await
    }

    /// How many orders that are not held have a next try that is due within so many milliseconds, or came due within as many,
    /// by the database's clock; ten thousand at most. Their messages are about to come out of a wait tier, or just did.
    ///
    /// # Errors
    /// As [`Store::count_under_way`].
    pub async fn coming_due(&self, within: Millis) -> Result<u64, StoreError> {
        let now = self.time().await?;
        let mut coming = under_way();
        let [from, to] = [now - within, now + within].map(DateTime::from_millis);
        coming.insert("due_at", doc! { "$gte": from, "$lte": to });
        coming.insert("hold", doc! { "$eq": null });
        let count = self.orders.count_documents(coming).limit(COUNTED_MAX).hint(Hint::Keys(by_phase()));
        self.call("count orders coming due", count.comment(scatter::TALLY).max_time(self.timeout)).await
    }

    /// How many orders the next sweep would bring back, by the database's clock; ten thousand at most.
    ///
    /// # Errors
    /// As [`Store::count_under_way`].
    pub async fn to_bring_back(&self) -> Result<u64, StoreError> {
        let now = self.time().await?;
        let count = async |filter, index| {
            let count = self.orders.count_documents(filter).limit(COUNTED_MAX).hint(Hint::Keys(index));
            self.call("count orders to sweep", count.comment(scatter::TALLY).max_time(self.timeout)).await
        };
        let owing = count(sweep::owing(now), doc! { "sweep_due": 1 }).await?;
        Ok(owing + count(sweep::late(now), by_phase()).await?)
    }

    /// When the next try of an order was due that has waited longest, or waits for the earliest one; `None` if none waits.
    ///
    /// # Errors
    /// As [`Store::count_under_way`].
    pub async fn oldest_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut waiting = under_way();
        waiting.insert("due_at", doc! { "$gt": DateTime::MIN });
        waiting.insert("hold", doc! { "$eq": null });
        let find = self.orders.find(waiting).projection(doc! { "due_at": 1 }).sort(doc! { "due_at": 1 });
        let find = find.limit(1).hint(Hint::Keys(by_phase())).comment(scatter::TALLY).max_time(self.timeout);
        let found: Vec<_> =
            self.call("find the oldest due", async { find.await?.try_collect().await }).await?;
        let due = |raw: &RawDocument| raw.get_datetime("due_at").ok().map(timestamp);
        Ok(found.first().and_then(|raw| due(raw)))
    }

    /// The last charged attempt in an order's history. Of an order with charged attempts at its step it is one of those.
    ///
    /// # Errors
    /// The database did not answer in time, or the document cannot be read by this build.
    pub async fn last_failed_attempt(&self, order_id: &OrderId) -> Result<Option<Entry>, StoreError> {
        let find = self.orders.find_one(doc! { "_id": order_id.as_str() });
        let find = find.projection(doc! { "history": 1 }).max_time(self.timeout);
        let Some(raw) = self.call("find the last attempt", find).await? else { return Ok(None) };
        let Histories { history } = bson::deserialize_from_slice(raw.as_bytes())
            .map_err(|source| StoreError::Unreadable { order_id: order_id.clone(), source: source.into() })?;
        let mut entries = history.into_iter().map(Entry::from).rev();
        Ok(entries.find(|entry| entry.what == ATTEMPT_FAILED))
    }

    async fn count_orders(
        &self,
        operation: &'static str,
        filter: Document,
        index: Document,
    ) -> Result<u64, StoreError> {
        let count = self.orders.count_documents(filter).hint(Hint::Keys(index)).comment(scatter::TALLY);
        self.call(operation, count.max_time(self.timeout)).await
    }
}

fn under_way() -> Document {
    doc! { "phase": { "$in": [Phase::Run.as_str(), Phase::Comp.as_str()] } }
}

fn by_phase() -> Document {
    doc! { "phase": 1, "due_at": 1 }
}
