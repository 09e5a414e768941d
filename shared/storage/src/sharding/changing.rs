//! The commands that shard a cluster, which are for its routers; and looks at where orders are already.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use orderfleet_domain::{AccountId, KeyRange, OrderId};

use crate::{Store, StoreError, failure, scatter};

/// A change of the cluster takes locks on several servers, and moving a range waits for each of them.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(120);
/// Before each further try of a change that another one, such as a migration of the balancer's, was in the way of.
const BUSY_PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(10)];

impl Store {
    /// Puts a shard into a zone (`addShardToZone`). A second call changes nothing.
    ///
    /// # Errors
    /// As [`Store::shard_by_id`].
    pub async fn add_to_zone(&self, shard: &str, zone: &str) -> Result<(), StoreError> {
        self.change("put a shard into a zone", doc! { "addShardToZone": shard, "zone": zone }).await
    }

    /// Keeps a range of ids in a zone (`updateZoneKeyRange`), also before the collection is sharded. A second call changes
    /// nothing.
    ///
    /// # Errors
    /// As [`Store::shard_by_id`]; or the range overlaps one of another zone, or the zone has no shard.
    pub async fn keep_in_zone(
        &self,
        collection: &str,
        range: &KeyRange,
        zone: &str,
    ) -> Result<(), StoreError> {
        let KeyRange { min, max } = range;
        let command = doc! {
            "updateZoneKeyRange": self.namespace(collection), "min": { "_id": min }, "max": { "_id": max }, "zone": zone,
        };
        self.change("keep a range in a zone", command).await
    }

    /// Shards a collection by `{ _id: 1 }` (`shardCollection`). An empty one gets a range for each that was kept in a zone before,
    /// on a shard of that zone. A second call changes nothing.
    ///
    /// # Errors
    /// This is no router, this user may not do it, which takes the role `clusterManager`, the server refuses, another change was in
    /// its way at five tries over 18 s, or it did not answer within two minutes: then it may be done all the same.
    pub async fn shard_by_id(&self, collection: &str) -> Result<(), StoreError> {
        let command = doc! { "shardCollection": self.namespace(collection), "key": { "_id": 1 } };
        self.change("shard a collection", command).await
    }

    /// Moves a range of ids to a shard (`moveRange`, MongoDB 6.0): it is cut out of the range it is part of. A second call changes
    /// nothing. The balancer moves it on if it does not belong there, by its zone or its size.
    ///
    /// # Errors
    /// As [`Store::shard_by_id`].
    pub async fn move_range(
        &self,
        collection: &str,
        range: &KeyRange,
        shard: &str,
    ) -> Result<(), StoreError> {
        let KeyRange { min, max } = range;
        let command = doc! {
            "moveRange": self.namespace(collection), "min": { "_id": min }, "max": { "_id": max }, "toShard": shard,
        };
        self.change("move a range", command).await
    }

    /// Whether an order of this range is stored.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn has_orders_in(&self, range: &KeyRange) -> Result<bool, StoreError> {
        let filter = doc! { "_id": { "$gte": &range.min, "$lt": &range.max } };
        let find = self.orders.find_one(filter).projection(doc! { "_id": 1 }).max_time(self.timeout);
        Ok(self.call("find an order", find).await?.is_some())
    }

    /// The first and the newest order of an account, whose ids tell its region; fewer if it has fewer, or of which this build does not
    /// know the id.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn first_and_newest_order_of(&self, account: &AccountId) -> Result<Vec<OrderId>, StoreError> {
        let mut ends = Vec::new();
        for direction in [1, -1] {
            let find = self.orders.find_one(doc! { "account": account.as_str() }).comment(scatter::HOME);
            let find = find.sort(doc! { "created_at": direction }).projection(doc! { "_id": 1 });
            let found = self.call("find an order", find.max_time(self.timeout)).await?;
            ends.extend(found.and_then(|raw| raw.get_str("_id").ok()?.parse().ok()));
        }
        ends.dedup();
        Ok(ends)
    }

    async fn change(&self, operation: &'static str, command: Document) -> Result<(), StoreError> {
        let patient = Self { timeout: CHANGE_TIMEOUT, ..self.clone() };
        for pause in BUSY_PAUSES {
            match patient.admin(operation, command.clone()).await {
                Err(error) if failure::is_busy(&error) => tokio::time::sleep(pause).await,
                other => return other.map(drop),
            }
        }
        patient.admin(operation, command).await.map(drop)
    }
}
