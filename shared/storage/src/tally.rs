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
    saga::{Entry, Phase},
};
use serde::Deserialize;

use crate::{
    Store, StoreError,
    document::{StoredEntry, timestamp},
};

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

    /// When the next try of an order was due that has waited longest, or waits for the earliest one; `None` if none waits.
    ///
    /// # Errors
    /// As [`Store::count_under_way`].
    pub async fn oldest_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut waiting = under_way();
        waiting.insert("due_at", doc! { "$gt": DateTime::MIN });
        waiting.insert("hold", doc! { "$eq": null });
        let find = self.orders.find(waiting).projection(doc! { "due_at": 1 }).sort(doc! { "due_at": 1 });
        let find = find.limit(1).hint(Hint::Keys(by_phase())).max_time(self.timeout);
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
        let count = self.orders.count_documents(filter).hint(Hint::Keys(index)).max_time(self.timeout);
        self.call(operation, count).await
    }
}

fn under_way() -> Document {
    doc! { "phase": { "$in": [Phase::Run.as_str(), Phase::Comp.as_str()] } }
}

fn by_phase() -> Document {
    doc! { "phase": 1, "due_at": 1 }
}
