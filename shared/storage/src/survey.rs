//! Every order that a build would have to go on with, as that build reads it. Nothing is changed.

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use mongodb::{
    Cursor,
    bson::{Document, RawDocument, RawDocumentBuf, doc},
    options::{CreateCollectionOptions, Hint},
};
use orderfleet_domain::saga::Phase;

use crate::{
    OrderView, Store, StoreError, document::StoredDocument, failure::describe_bson, reading, scatter, schema,
    store::ORDERS,
};

/// Documents that are fetched at once; the server cuts a batch at 16 MiB.
const BATCH: u32 = 100;

/// Orders that are not over for the workers of a fleet. Each is found by an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// Under way or held; also in a phase that this build does not know.
    UnderWay,
    /// Ended, and still owing a publish.
    Owing,
    /// Ended UNDONE, and not for good: a person may have them run again.
    Again,
}

/// A document, as this build reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurveyedOrder {
    /// Its `_id`.
    pub id: String,
    /// Its version; where it tells none that can be read, the newest that this build knows.
    pub version: u32,
    /// The order, or why this build cannot read it, without anything of its contents.
    pub order: Result<Box<OrderView>, String>,
}

impl Open {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::UnderWay, Self::Owing, Self::Again];

    fn filter(self) -> Document {
        let (done, undone) = (Phase::Done.as_str(), Phase::Undone.as_str());
        match self {
            Self::UnderWay => doc! { "phase": { "$nin": [done, undone] } },
            Self::Owing => doc! { "evp": true, "phase": { "$in": [done, undone] } },
            Self::Again => doc! { "phase": undone, "final": false },
        }
    }

    fn index(self) -> Hint {
        Hint::Keys(match self {
            Self::UnderWay | Self::Again => doc! { "phase": 1, "due_at": 1 },
            Self::Owing => doc! { "sweep_due": 1 },
        })
    }
}

impl Store {
    /// These orders as last majority-committed, in no order, `limit` at most; not more than a batch of them is in memory at once.
    /// An order that is written meanwhile may be missed, or come twice. The stream ends with its first error.
    ///
    /// # Errors
    /// The database did not answer in time, or has no such index yet; from the stream too.
    pub async fn survey_orders(
        &self,
        open: Open,
        limit: u32,
    ) -> Result<impl Stream<Item = Result<SurveyedOrder, StoreError>> + use<>, StoreError> {
        // To the server a limit of 0 is none.
        let find = self.orders.find(open.filter()).hint(open.index()).batch_size(BATCH);
        let cursor =
            self.scan("survey orders", find.limit(i64::from(limit.max(1))).comment(scatter::SURVEY)).await?;
        Ok(stream::try_unfold((self.clone(), cursor), |(store, mut cursor)| async move {
            let found = store.next_order(&mut cursor).await;
            found.map(|found| found.map(|order| (order, (store, cursor))))
        }))
    }

    async fn next_order(
        &self,
        cursor: &mut Cursor<RawDocumentBuf>,
    ) -> Result<Option<SurveyedOrder>, StoreError> {
        let found = self.scan("survey orders", async { cursor.next().await.transpose() }).await?;
        Ok(found.map(|raw| surveyed(&raw)))
    }

    /// The ids of those of these orders, `limit` at most and all in memory, whose documents the validator of this build refuses.
    /// None where the validator in place is of this build or a newer one: the start of this build does not change it then.
    ///
    /// # Errors
    /// The database did not answer in time, or has no such index yet.
    pub async fn orders_refused(&self, open: Open, limit: u32) -> Result<Vec<String>, StoreError> {
        let (validator, version) = schema::orders_validator();
        if self.validator_in_place().await? >= Some(version) {
            return Ok(Vec::new());
        }
        let filter = doc! { "$and": [open.filter(), { "$nor": [validator] }] };
        let find = self.orders.find(filter).hint(open.index()).projection(doc! { "_id": 1 });
        let find = find.limit(i64::from(limit.max(1))).comment(scatter::SURVEY);
        let found: Vec<_> = self.scan("survey orders", async { find.await?.try_collect().await }).await?;
        Ok(found.iter().map(|raw| id(raw)).collect())
    }

    /// The version of the validator of the orders; none where there is none, or a foreign one.
    async fn validator_in_place(&self) -> Result<Option<i32>, StoreError> {
        let list = self.database.list_collections().filter(doc! { "name": ORDERS });
        let found: Vec<_> = self.call("list collections", async { list.await?.try_collect().await }).await?;
        let options = found.into_iter().next().map(|collection| collection.options);
        Ok(options.and_then(|CreateCollectionOptions { validator, .. }| schema::version_of(&validator?)))
    }
}

fn surveyed(raw: &RawDocument) -> SurveyedOrder {
    let order = StoredDocument::read(raw).map(|document| Box::new(document.into()));
    SurveyedOrder {
        id: id(raw),
        version: reading::version(raw),
        order: order.map_err(|error| describe_bson(&error)),
    }
}

fn id(raw: &RawDocument) -> String {
    raw.get_str("_id").unwrap_or_default().to_owned()
}
