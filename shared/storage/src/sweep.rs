//! What the sweeper looks for: orders that owe a publish, and deferrals that are long overdue.
//!
//! These are the only queries of workers without an `_id`: they ask every shard, by index. What was swept is put aside in fields of
//! their own (`sweeps`, `sweep_due`), so `due_at` stays what the saga wrote.

use futures_util::TryStreamExt as _;
use mongodb::bson::{self, DateTime, Document, RawDocument, doc};
use orderfleet_domain::{
    AccountId, Fingerprint, OrderId,
    saga::{DOCUMENT_VERSION, Millis, Phase, Tier},
};
use serde::Deserialize;

use crate::{Store, StoreError, failure::describe_bson, scatter};

/// First wait after a sweep, doubled by every further one until the order owes something new: shorter than it takes people to
/// miss an event whose sweep was in vain, and longer than a sweep under load.
const POSTPONE_MIN_MS: Millis = 30_000;
/// Longest wait after a sweep.
const POSTPONE_MAX_MS: Millis = 24 * 3_600_000;

/// An order to be put back into the hands of a worker, by a message to `orders.retry`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Overdue {
    /// The order.
    #[serde(rename = "_id")]
    pub order_id: OrderId,
    /// Whose it is.
    pub account: AccountId,
    /// The run it is in.
    #[serde(rename = "gen")]
    pub generation: u32,
    /// Its fingerprint.
    pub fp: Fingerprint,
    /// It owes a publish; otherwise its wait is over and nobody came back for it.
    #[serde(rename = "evp")]
    pub owes: bool,
    /// The trace context that it came with.
    #[serde(default)]
    pub traceparent: Option<String>,
    rev: u64,
    sweeps: u32,
}

impl Store {
    /// Orders to sweep, first those of [`Store::owing`], then those whose `due_at` is more than the longest tier ago and that are
    /// not held, longest overdue first; at most `limit`.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn overdue(&self, now: Millis, limit: u32) -> Result<Vec<Overdue>, StoreError> {
        let mut found = self.owing(now, limit).await?;
        let room = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(limit));
        if room > 0 {
            found.extend(self.sweepable(late(now), doc! { "due_at": 1 }, room, now).await?);
        }
        Ok(found)
    }

    /// Orders that owe a publish and wait for nothing else; at most `limit`.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn owing(&self, now: Millis, limit: u32) -> Result<Vec<Overdue>, StoreError> {
        self.sweepable(owing(now), doc! { "sweep_due": 1 }, limit, now).await
    }

    /// Puts an order aside that was swept: 30 s after the first sweep, twice as long after each further one, at most
    /// a day. Leaves it alone if it was written since. Starts anew when the order moves on or a publish is newly owed. Until it is called, the order is found again.
    ///
    /// # Errors
    /// The database did not answer in time; it may be put aside all the same.
    pub async fn postpone(&self, swept: &Overdue, now: Millis) -> Result<(), StoreError> {
        let wait = POSTPONE_MIN_MS.saturating_mul(1 << swept.sweeps.min(20)).min(POSTPONE_MAX_MS);
        let filter = doc! {
            "_id": swept.order_id.as_str(),
            "rev": i64::try_from(swept.rev).unwrap_or(-1),
            "sweeps": i64::from(swept.sweeps),
        };
        let fields = doc! {
            "sweeps": i64::from(swept.sweeps) + 1,
            "sweep_due": DateTime::from_millis(now + wait),
        };
        self.call("postpone", self.orders.update_one(filter, doc! { "$set": fields })).await.map(drop)
    }

    async fn sweepable(
        &self,
        filter: Document,
        sort: Document,
        limit: u32,
        now: Millis,
    ) -> Result<Vec<Overdue>, StoreError> {
        let fields =
            doc! { "account": 1, "gen": 1, "fp": 1, "evp": 1, "rev": 1, "sweeps": 1, "traceparent": 1 };
        let find = self
            .orders
            .find(filter)
            .projection(fields)
            .sort(sort)
            .limit(i64::from(limit))
            .comment(scatter::SWEEP)
            .max_time(self.timeout);
        let found: Vec<_> = self.call("sweep", async { find.await?.try_collect().await }).await?;
        let (readable, unreadable): (Vec<_>, Vec<_>) =
            found.iter().map(|raw| readable(raw)).partition(Result::is_ok);
        // Out of the way for a day, or enough of them would keep all others from being found.
        let put_aside = doc! { "$set": { "sweep_due": DateTime::from_millis(now + POSTPONE_MAX_MS) } };
        for id in unreadable.into_iter().filter_map(Result::err).flatten() {
            // What cannot be read will hardly pass validation either.
            let update = self
                .orders
                .update_one(doc! { "_id": &id }, put_aside.clone())
                .bypass_document_validation(true);
            if let Err(error) = self.call("postpone", update).await {
                tracing::error!(order.id = id, %error, "cannot put an unreadable order aside");
            }
        }
        Ok(readable.into_iter().flatten().collect())
    }
}

/// Owes a publish. An order that waits and owes its copy comes back when its wait is over, or each sweep would be an attempt.
pub(crate) fn owing(now: Millis) -> Document {
    of_this_build(doc! { "evp": true, "due_at": not_after(now), "sweep_due": not_after(now) })
}

/// Should have been tried again more than the longest tier ago.
pub(crate) fn late(now: Millis) -> Document {
    of_this_build(doc! {
        "phase": { "$in": [Phase::Run.as_str(), Phase::Comp.as_str()] },
        "due_at": { "$lt": DateTime::from_millis(now - Tier::H1.millis()) },
        "hold": null,
        "evp": false,
        "sweep_due": not_after(now),
    })
}

/// What a newer build has written is for the sweepers of newer builds.
fn of_this_build(mut filter: Document) -> Document {
    filter.insert("sv", doc! { "$not": { "$gt": i64::from(DOCUMENT_VERSION) } });
    filter
}

/// Missing, or no later than this.
fn not_after(time: Millis) -> Document {
    doc! { "$not": { "$gt": DateTime::from_millis(time) } }
}

/// An order to sweep, or the id, if there is one, of a document that cannot be read.
fn readable(raw: &RawDocument) -> Result<Overdue, Option<String>> {
    bson::deserialize_from_slice(raw.as_bytes()).map_err(|error| {
        let id = raw.get_str("_id").ok().map(str::to_owned);
        tracing::error!(order.id = id, error = describe_bson(&error), "cannot sweep an order");
        id
    })
}
