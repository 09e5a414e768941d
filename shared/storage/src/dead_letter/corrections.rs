//! Orders that a person has corrected: with which of their dead letters that is kept.

use futures_util::TryStreamExt as _;
use mongodb::bson::{self, RawDocument, doc};
use orderfleet_domain::{Fingerprint, OrderId};
use serde::{Deserialize, de::IgnoredAny};

use super::{
    letter::How,
    listing::{LETTERS_MAX, SCAN_TIMEOUT},
    stored::malformed,
};
use crate::{Store, StoreError, order::StoredOrder, scatter};

/// A dead letter that a corrected order is kept with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorrectedLetter {
    /// Its id.
    pub id: String,
    /// The order it is about.
    pub order_id: OrderId,
    /// The run it is about.
    pub generation: Option<u32>,
    /// Nobody has replayed it yet.
    pub is_open: bool,
    /// Of the corrected order; `None` where this build cannot read that: a newer one has kept it.
    pub fp: Option<Fingerprint>,
}

#[derive(Deserialize)]
struct Stored {
    #[serde(rename = "_id")]
    id: String,
    order_id: OrderId,
    #[serde(rename = "gen")]
    generation: Option<u32>,
    ended: Option<IgnoredAny>,
}

impl Store {
    /// The dead letters of these orders that a correction is kept with, oldest first, without those that were discarded; the
    /// first 1,000. A call takes at most some hundred orders.
    ///
    /// # Errors
    /// The database did not answer in time, or a document cannot be read by this build.
    pub async fn corrected_letters(&self, orders: &[OrderId]) -> Result<Vec<CorrectedLetter>, StoreError> {
        let ids: Vec<_> = orders.iter().map(OrderId::as_str).collect();
        let filter = doc! {
            "order_id": { "$in": ids },
            "correction": { "$exists": true },
            "ended.how": { "$ne": How::Discarded.as_str() },
        };
        let fields = doc! { "order_id": 1, "gen": 1, "ended.how": 1, "correction": 1 };
        let find = self.dead_letters.find(filter).projection(fields).sort(doc! { "first_seen": 1, "_id": 1 });
        let find = find.limit(i64::from(LETTERS_MAX)).comment(scatter::LETTERS).max_time(SCAN_TIMEOUT);
        // Read one by one: of the orders themselves, which may be large, none is kept.
        let found = async { find.await?.map_ok(|raw| read(&raw)).try_collect::<Vec<_>>().await };
        self.scan("find corrected dead letters", found).await?.into_iter().collect()
    }
}

fn read(raw: &RawDocument) -> Result<CorrectedLetter, StoreError> {
    let stored: Stored = bson::deserialize_from_slice(raw.as_bytes()).map_err(malformed)?;
    let Stored { id, order_id, generation, ended } = stored;
    let correction = raw.get_document("correction").ok();
    let correction =
        correction.and_then(|raw| bson::deserialize_from_slice::<StoredOrder>(raw.as_bytes()).ok());
    Ok(CorrectedLetter {
        id,
        order_id,
        generation,
        is_open: ended.is_none(),
        fp: correction.map(|order| Fingerprint::of(&order.into())),
    })
}
