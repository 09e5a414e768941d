//! Orders as operators look for them: across accounts, by where they stand. Without a region these queries ask every shard, by
//! index; each has a limit, and the database gives up on one that takes too long.

mod row;

use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::{
    bson::{self, Bson, DateTime, Document, RawDocument, RawDocumentBuf, doc},
    options::Hint,
};
use orderfleet_domain::{
    AccountId, KeyRange, OrderId, Region, StepName,
    saga::{CauseClass, Millis, Phase, Record},
};
use serde::{Deserialize, Serialize, de::IgnoredAny};

pub use row::{ListedHold, ListedOrder, OrderStatus};

use crate::{
    OrderView, Store, StoreError,
    dead_letter::{queue_of_word, queue_word},
    document::{StoredDocument, date, timestamp},
    scatter,
};

/// Which orders; every condition that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderFilter {
    /// Where they stand.
    pub status: Option<OrderStatus>,
    /// Whose they are.
    pub account: Option<AccountId>,
    /// The region in which their accounts are at home. With it the question meets the region's shards alone, with the account
    /// beside it those of the account.
    pub region: Option<Region>,
    /// The step in hand; of orders that have ended, the one that failed.
    pub step: Option<StepName>,
    /// Why they turned to compensation.
    pub cause: Option<CauseClass>,
    /// When they were inserted.
    pub created: Span,
    /// When they were last written.
    pub updated: Span,
    /// Other bodies were posted under their key.
    pub conflict: bool,
    /// The customer asked to cancel.
    pub cancel: bool,
    /// No further run.
    pub is_final: bool,
}

/// A span of time, open where an end is missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Then or later.
    pub since: Option<Timestamp>,
    /// Before then.
    pub before: Option<Timestamp>,
}

/// Where a list goes on, by the time of insertion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderCursor {
    at: Millis,
    /// Orders of that very time that were listed already.
    seen: Vec<String>,
}

/// Orders listed by one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderPage {
    /// The orders.
    pub orders: Vec<ListedOrder>,
    /// Ids of documents that match and that this build cannot read.
    pub unreadable: Vec<String>,
    /// Where to go on; `None` behind the last order.
    pub next: Option<OrderCursor>,
}

/// A dead letter of an order, without its message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LetterOfOrder {
    /// Its id.
    pub id: String,
    /// The queue it came to: the last part of its name.
    pub queue: String,
    /// Why.
    pub reason: String,
    /// When it was parked first.
    pub first_seen: Timestamp,
    /// Whether nobody has dealt with it yet.
    pub is_open: bool,
}

impl Store {
    /// Orders by the time of their insertion, newest or oldest first; at most `limit`.
    ///
    /// # Errors
    /// The database did not answer in time: a filter that nearly nothing matches can take too long. An account, a state or a
    /// time narrows it by index.
    pub async fn list_orders(
        &self,
        wanted: &OrderFilter,
        after: Option<&OrderCursor>,
        newest_first: bool,
        limit: u32,
    ) -> Result<OrderPage, StoreError> {
        let filter = doc! { "$and": conditions(wanted, after, newest_first) };
        let order = if newest_first { -1 } else { 1 };
        let under_way = wanted.status.is_some_and(|status| !status.is_ended());
        let found = self.rows(filter, doc! { "created_at": order }, under_way, limit).await?;
        let next = next(&found, after, limit);
        let (orders, unreadable) = row::read_all(&found);
        Ok(OrderPage { orders, unreadable, next })
    }

    /// Orders that were inserted before a time and have not ended, oldest first; at most `limit`, on a page of their own.
    ///
    /// # Errors
    /// As [`Store::list_orders`].
    pub async fn stuck_orders(&self, created_before: Timestamp, limit: u32) -> Result<OrderPage, StoreError> {
        let filter = doc! { "phase": under_way(), "created_at": { "$lt": date(created_before) } };
        let found = self.rows(filter, doc! { "created_at": 1 }, true, limit).await?;
        let (orders, unreadable) = row::read_all(&found);
        Ok(OrderPage { orders, unreadable, next: None })
    }

    /// These orders, as far as they are stored, in any order and on a page of their own. A call takes at most a few thousand.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn orders_by_id(&self, ids: &[OrderId]) -> Result<OrderPage, StoreError> {
        let names: Vec<_> = ids.iter().map(OrderId::as_str).collect();
        let limit = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let found = self.rows(doc! { "_id": { "$in": names } }, doc! { "_id": 1 }, false, limit).await?;
        let (orders, unreadable) = row::read_all(&found);
        Ok(OrderPage { orders, unreadable, next: None })
    }

    /// An order of whatever account, as last majority-committed.
    ///
    /// # Errors
    /// The database did not answer in time, or the document cannot be read by this build.
    pub async fn order_for_operator(&self, order_id: &OrderId) -> Result<Option<OrderView>, StoreError> {
        let find = self.orders.find_one(doc! { "_id": order_id.as_str() }).max_time(self.timeout);
        let Some(raw) = self.call("find", find).await? else { return Ok(None) };
        let document = StoredDocument::read(&raw)
            .map_err(|source| StoreError::Unreadable { order_id: order_id.clone(), source: source.into() })?;
        Ok(Some(document.into()))
    }

    /// How these orders stand, as last majority-committed; `None` for one whose document this build cannot read, and nothing for
    /// one that is not stored. A call takes at most some hundred.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn records(&self, ids: &[OrderId]) -> Result<HashMap<OrderId, Option<Record>>, StoreError> {
        let names: Vec<_> = ids.iter().map(OrderId::as_str).collect();
        let find = self.orders.find(doc! { "_id": { "$in": names } }).max_time(self.timeout);
        let found: Vec<_> = self.call("find", async { find.await?.try_collect().await }).await?;
        Ok(found.iter().filter_map(|raw| record(raw)).collect())
    }

    /// The dead letters of an order, in the order of their ids; at most `limit`. One that cannot be read is left out.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn letters_of_order(
        &self,
        order_id: &OrderId,
        limit: u32,
    ) -> Result<Vec<LetterOfOrder>, StoreError> {
        // A range of ids, so that on a sharded cluster it meets the order's shard alone.
        let filter = doc! { "_id": { "$gte": format!("{order_id}."), "$lt": format!("{order_id}/") } };
        let find = self
            .dead_letters
            .find(filter)
            .projection(doc! { "queue": 1, "reason": 1, "first_seen": 1, "ended.how": 1 })
            .sort(doc! { "_id": 1 })
            .limit(i64::from(limit))
            .max_time(self.timeout);
        let found: Vec<_> = self.call("find", async { find.await?.try_collect().await }).await?;
        Ok(found.iter().filter_map(|raw| letter(raw)).collect())
    }

    async fn rows(
        &self,
        filter: Document,
        sort: Document,
        by_phase: bool,
        limit: u32,
    ) -> Result<Vec<RawDocumentBuf>, StoreError> {
        let is_scattered = !scatter::names_id(&filter);
        let mut find = self
            .orders
            .find(filter)
            .projection(row::projection())
            .sort(sort)
            .limit(i64::from(limit))
            .max_time(self.timeout);
        if is_scattered {
            find = find.comment(scatter::ORDERS_LIST);
        }
        if by_phase {
            // Orders under way are few among all; by the time of insertion it might read every order that has ended.
            find = find.hint(Hint::Keys(doc! { "phase": 1, "due_at": 1 }));
        }
        self.call("find", async { find.await?.try_collect().await }).await
    }
}

fn record(raw: &RawDocument) -> Option<(OrderId, Option<Record>)> {
    let id = raw.get_str("_id").ok()?.parse().ok()?;
    Some((id, StoredDocument::read(raw).ok().map(|document| document.record())))
}

fn under_way() -> Document {
    doc! { "$in": [Phase::Run.as_str(), Phase::Comp.as_str()] }
}

/// Never empty: it is given to `$and`.
fn conditions(wanted: &OrderFilter, after: Option<&OrderCursor>, newest_first: bool) -> Vec<Document> {
    let OrderFilter { status, account, region, step, cause, created, updated, conflict, cancel, is_final } =
        wanted;
    let mut all = vec![created.within("created_at"), updated.within("updated_at")];
    all.extend(status.map(of_status));
    all.extend(account.as_ref().map(|account| doc! { "account": account.as_str() }));
    all.extend(region.as_ref().map(|region| at_home(region, account.as_ref())));
    all.extend(step.as_ref().map(at_step));
    all.extend(cause.map(|cause| doc! { "cause.class": cause.as_str() }));
    all.extend(conflict.then(|| doc! { "conflicts.0": { "$exists": true } }));
    all.extend(cancel.then(|| doc! { "cancel": true }));
    all.extend(is_final.then(|| doc! { "final": true }));
    if let Some(OrderCursor { at, seen }) = after {
        let beyond = if newest_first { "$lte" } else { "$gte" };
        all.push(doc! { "created_at": { beyond: DateTime::from_millis(*at) }, "_id": { "$nin": seen } });
    }
    all
}

impl Span {
    fn within(self, field: &str) -> Document {
        let mut range = Document::new();
        range.extend(self.since.map(|at| ("$gte".to_owned(), Bson::from(date(at)))));
        range.extend(self.before.map(|at| ("$lt".to_owned(), Bson::from(date(at)))));
        if range.is_empty() {
            Document::new()
        } else {
            doc! { field: range }
        }
    }
}

/// The tags of accounts can collide, so whoever names a range names the account, too.
fn at_home(region: &Region, account: Option<&AccountId>) -> Document {
    let KeyRange { min, max } = match account {
        Some(account) => KeyRange::of_account(region, account),
        None => KeyRange::of_region(region),
    };
    doc! { "_id": { "$gte": min, "$lt": max } }
}

fn of_status(status: OrderStatus) -> Document {
    match status {
        OrderStatus::Held => doc! { "phase": under_way(), "hold": { "$ne": null } },
        other => doc! { "phase": other.as_str(), "hold": null },
    }
}

fn at_step(step: &StepName) -> Document {
    let in_hand = doc! { "$arrayElemAt": ["$steps", "$cur"] };
    let is_under_way = doc! { "$in": ["$phase", [Phase::Run.as_str(), Phase::Comp.as_str()]] };
    let at = doc! { "$cond": [is_under_way, in_hand, "$cause.step"] };
    doc! { "$expr": { "$eq": [at, step.as_str()] } }
}

fn next(found: &[RawDocumentBuf], after: Option<&OrderCursor>, limit: u32) -> Option<OrderCursor> {
    if found.len() < limit as usize {
        return None;
    }
    let created = |raw: &RawDocument| raw.get_datetime("created_at").ok().map(DateTime::timestamp_millis);
    let at = found.iter().rev().find_map(|raw| created(raw))?;
    let of_that_time = found.iter().filter(|raw| created(raw) == Some(at));
    let mut seen: Vec<_> = of_that_time.filter_map(|raw| row::id(raw)).collect();
    let before = after.filter(|after| after.at == at);
    seen.extend(before.into_iter().flat_map(|before| before.seen.iter().cloned()));
    Some(OrderCursor { at, seen })
}

#[derive(Deserialize)]
struct StoredLetter {
    #[serde(rename = "_id")]
    id: String,
    queue: String,
    reason: String,
    first_seen: DateTime,
    ended: Option<IgnoredAny>,
}

fn letter(raw: &RawDocument) -> Option<LetterOfOrder> {
    let stored: StoredLetter = bson::deserialize_from_slice(raw.as_bytes()).ok()?;
    let StoredLetter { id, queue, reason, first_seen, ended } = stored;
    let queue = queue_word(&queue_of_word(&queue)?).to_owned();
    Some(LetterOfOrder { id, queue, reason, first_seen: timestamp(first_seen), is_open: ended.is_none() })
}
