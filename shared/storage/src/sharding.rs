//! Which collections are sharded and how, what a sharded cluster's metadata say about them, and the commands that shard them.
//!
//! Sources: MongoDB manual, "Config Database" and the pages of the commands named below; what was measured is in
//! `docs/OPERATIONS.md`, "Sharding".

mod changing;

use futures_util::TryStreamExt as _;
use mongodb::bson::{Bson, Document, doc};
use serde::Serialize;

use crate::{
    Store, StoreError,
    inspection::shard_key,
    operator_log::OPERATOR_LOG,
    pause::PAUSES,
    store::{DEAD_LETTERS, ORDERS, READINGS, REPLAY_ITEMS, REPLAYS},
    worker_status::WORKER_STATUS,
};

/// Most ranges of one collection that are looked at: some megabytes.
pub const RANGES_MAX: u32 = 50_000;

/// How a collection is spread over a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Sharded by `{ _id: 1 }`: it grows with the orders. An `_id` is unique on the cluster only where it is the shard key, and
    /// no other index of such a collection can be unique (manual, "Shard Key Indexes").
    ById {
        /// Its ids begin with those of orders, so a region's are one range.
        zoned: bool,
    },
    /// On one shard, the primary of the database.
    Whole {
        /// Why that is enough, or has to be.
        why: &'static str,
    },
}

/// Every collection of the fleet.
pub const PLACEMENTS: [(&str, Placement); 8] = [
    (ORDERS, Placement::ById { zoned: true }),
    (DEAD_LETTERS, Placement::ById { zoned: true }),
    (REPLAY_ITEMS, Placement::ById { zoned: false }),
    (REPLAYS, Placement::Whole { why: "small: one document for each replay" }),
    (READINGS, Placement::Whole { why: "small: a document is gone once its dead letter is read" }),
    (
        OPERATOR_LOG,
        Placement::Whole {
            why: "one numbered chain; its unique index does not begin with _id; grows by people's hands",
        },
    ),
    (PAUSES, Placement::Whole { why: "small: the pauses in force" }),
    (WORKER_STATUS, Placement::Whole { why: "small: one document for each running worker" }),
];

/// The collections that are to be sharded.
pub fn sharded_collections() -> impl Iterator<Item = &'static str> {
    let sharded = PLACEMENTS.into_iter().filter(|(_, placement)| matches!(placement, Placement::ById { .. }));
    sharded.map(|(name, _)| name)
}

/// A sharded cluster, as its metadata tell it.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// The fleet's database.
    pub database: String,
    /// From where it is seen.
    pub seen_from: SeenFrom,
    /// Its shards, by name.
    pub shards: Vec<Shard>,
    /// Where the database's collections are that are not sharded; none before its first collection.
    pub primary: Option<String>,
    /// The collections that are to be sharded.
    pub collections: Vec<ShardedCollection>,
    /// What moves ranges.
    pub balancer: Balancer,
}

/// From where a cluster is seen. Its metadata are the same; commands are for routers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SeenFrom {
    /// A `mongos`.
    Router,
    /// The primary of the config servers, which hold the metadata and no orders.
    ConfigServer,
}

/// A shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shard {
    /// Its name in the cluster.
    pub name: String,
    /// The zones it is in.
    pub zones: Vec<String>,
    /// It is being removed: what it holds is moved away.
    pub draining: bool,
}

/// A collection as the cluster has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardedCollection {
    /// Its name, without that of the database.
    pub name: &'static str,
    /// Its shard key, for people; none if it is not sharded.
    pub key: Option<String>,
    /// Whether that is the declared one, `{ _id: 1 }`.
    pub as_declared: bool,
    /// The balancer may move its ranges.
    pub balanced: bool,
    /// Its ranges in order, at most [`RANGES_MAX`]; the manual calls them chunks, too.
    pub ranges: Vec<Placed>,
    /// Which ranges belong to which zone, also before it is sharded.
    pub zones: Vec<Zoned>,
    /// What the balancer finds wrong with it, such as `zoneViolation`; an empty text if nothing. Only a router tells.
    pub violation: Option<String>,
    /// The router does not tell that to this user: it takes the action `enableSharding`, which the role `clusterManager` has.
    pub violation_refused: bool,
}

/// A range of ids and the shard that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The first id in it.
    pub min: Bound,
    /// The first id behind it.
    pub max: Bound,
    /// The shard.
    pub shard: String,
}

/// A range of ids and the zone that it is kept in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zoned {
    /// The first id in it.
    pub min: Bound,
    /// The first id behind it.
    pub max: Bound,
    /// The zone.
    pub zone: String,
}

/// An end of a range, in the server's order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// Before every id.
    Lowest,
    /// An id, or the beginning of some.
    Id(String),
    /// Something that no id of ours is, as text: another shard key's, for example.
    Other(String),
    /// Behind every id.
    Highest,
}

/// The balancer's settings, and what a router says of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Balancer {
    /// Somebody has stopped it.
    pub stopped: bool,
    /// The hours of the day it works in, such as `23:00-06:00`; always if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// Size of a range that it moves at once, in MiB, if that was set; the server's default is 128 from 6.0.3 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range_mib: Option<f64>,
    /// It is at work now. Only a router tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working: Option<bool>,
}

impl Store {
    /// The cluster that this database belongs to; `None` on a replica set that is no config server. Ask a router, or the primary
    /// of the config servers.
    ///
    /// # Errors
    /// This user may not read the database `config`, which takes the role `clusterMonitor`; or the database did not answer.
    pub async fn cluster(&self) -> Result<Option<Cluster>, StoreError> {
        let hello = self.admin("hello", doc! { "hello": 1 }).await?;
        let seen_from = if hello.contains_key("configsvr") {
            SeenFrom::ConfigServer
        } else if hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") {
            SeenFrom::Router
        } else {
            return Ok(None);
        };
        let shards = self.metadata("shards", doc! {}).await?;
        let database = self.metadata("databases", doc! { "_id": self.database.name() }).await?;
        let mut collections = Vec::new();
        for name in sharded_collections() {
            collections.push(self.sharded_collection(name, seen_from).await?);
        }
        Ok(Some(Cluster {
            database: self.database.name().to_owned(),
            seen_from,
            shards: shards.iter().map(shard).collect(),
            primary: database.first().and_then(|database| text(database, "primary")),
            collections,
            balancer: self.balancer(seen_from).await?,
        }))
    }

    async fn sharded_collection(
        &self,
        name: &'static str,
        seen_from: SeenFrom,
    ) -> Result<ShardedCollection, StoreError> {
        let namespace = self.namespace(name);
        let found = self.metadata("collections", doc! { "_id": &namespace }).await?;
        let zones = self.metadata("tags", doc! { "ns": &namespace }).await?;
        let key = shard_key(namespace.clone(), &found);
        let mut ranges = Vec::new();
        if let Some(uuid) = found.first().filter(|_| key.key.is_some()).and_then(|found| found.get("uuid")) {
            ranges = self.metadata("chunks", doc! { "uuid": uuid }).await?;
        }
        let (mut violation, mut violation_refused) = (None, false);
        if key.key.is_some() && seen_from == SeenFrom::Router {
            match self.admin("balancer", doc! { "balancerCollectionStatus": namespace }).await {
                Ok(status) => violation = Some(text(&status, "firstComplianceViolation").unwrap_or_default()),
                Err(error) if error.is_refusal() => violation_refused = true,
                Err(error) => return Err(error),
            }
        }
        Ok(ShardedCollection {
            name,
            key: key.key,
            as_declared: key.as_declared,
            balanced: !found.first().is_some_and(|metadata| metadata.get_bool("noBalance").unwrap_or(false)),
            ranges: ranges.iter().filter_map(placed).collect(),
            zones: zones.iter().filter_map(zoned).collect(),
            violation,
            violation_refused,
        })
    }

    async fn balancer(&self, seen_from: SeenFrom) -> Result<Balancer, StoreError> {
        let settings = self.metadata("settings", doc! {}).await?;
        let mut balancer = balancer(&settings);
        if seen_from == SeenFrom::Router {
            let status = self.admin("balancer", doc! { "balancerStatus": 1 }).await.ok();
            balancer.working = status.and_then(|status| status.get_bool("inBalancerRound").ok());
        }
        Ok(balancer)
    }

    /// Documents of the database `config`, in the order of their lower ends or ids, at most [`RANGES_MAX`].
    async fn metadata(&self, collection: &str, filter: Document) -> Result<Vec<Document>, StoreError> {
        let sort = match collection {
            "chunks" | "tags" => doc! { "min": 1 },
            _ => doc! { "_id": 1 },
        };
        let documents = self.database.client().database("config").collection::<Document>(collection);
        let find = documents.find(filter).sort(sort).limit(i64::from(RANGES_MAX)).max_time(self.timeout);
        self.call("read the cluster's metadata", async { find.await?.try_collect().await }).await
    }

    fn namespace(&self, collection: &str) -> String {
        format!("{}.{collection}", self.database.name())
    }
}

fn shard(metadata: &Document) -> Shard {
    let zones = metadata.get_array("tags").into_iter().flatten().filter_map(Bson::as_str);
    Shard {
        name: text(metadata, "_id").unwrap_or_default(),
        zones: zones.map(str::to_owned).collect(),
        draining: metadata.get_bool("draining").unwrap_or(false),
    }
}

fn placed(metadata: &Document) -> Option<Placed> {
    let (min, max) = ends(metadata)?;
    Some(Placed { min, max, shard: text(metadata, "shard")? })
}

fn zoned(metadata: &Document) -> Option<Zoned> {
    let (min, max) = ends(metadata)?;
    Some(Zoned { min, max, zone: text(metadata, "tag")? })
}

fn ends(metadata: &Document) -> Option<(Bound, Bound)> {
    let end = |name| metadata.get_document(name).ok().map(bound);
    Some((end("min")?, end("max")?))
}

fn bound(key: &Document) -> Bound {
    match key.get("_id") {
        Some(Bson::MinKey) => Bound::Lowest,
        Some(Bson::MaxKey) => Bound::Highest,
        Some(Bson::String(id)) if key.len() == 1 => Bound::Id(id.clone()),
        _ => Bound::Other(key.to_string()),
    }
}

fn balancer(settings: &[Document]) -> Balancer {
    let of = |id: &str| settings.iter().find(|setting| setting.get_str("_id").is_ok_and(|found| found == id));
    let own = of("balancer");
    let window = own.and_then(|own| own.get_document("activeWindow").ok());
    let size = of("chunksize").and_then(|size| size.get("value"));
    Balancer {
        stopped: own.is_some_and(|own| own.get_bool("stopped").unwrap_or(false)),
        window: window
            .and_then(|window| Some(format!("{}-{}", text(window, "start")?, text(window, "stop")?))),
        range_mib: size.and_then(|size| {
            size.as_f64().or(size.as_i32().map(f64::from)).or(size.as_i64().map(|size| size as f64))
        }),
        working: None,
    }
}

fn text(document: &Document, key: &str) -> Option<String> {
    document.get_str(key).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::declared;

    #[test]
    fn every_collection_has_a_place_and_a_sharded_one_no_unique_index_that_a_cluster_would_refuse() {
        for collection in declared() {
            let (_, placement) = PLACEMENTS
                .into_iter()
                .find(|(name, _)| *name == collection.name)
                .unwrap_or_else(|| panic!("{} is not placed: sharded or whole?", collection.name));
            if let Placement::ById { .. } = placement {
                for index in &collection.indexes {
                    let unique = index.options.as_ref().and_then(|options| options.unique).unwrap_or(false);
                    let by_id = index.keys.keys().next().is_some_and(|first| first == "_id");
                    assert!(!unique || by_id, "{}: {:?}", collection.name, index.keys);
                }
            }
        }
        assert_eq!(declared().len(), PLACEMENTS.len());
    }

    #[test]
    fn bounds_have_the_servers_order() {
        let id = |id: &str| bound(&doc! { "_id": id });
        let (lowest, highest) = (bound(&doc! { "_id": Bson::MinKey }), bound(&doc! { "_id": Bson::MaxKey }));
        assert!(
            lowest < id("eu1-")
                && id("eu1-") < id("eu1-2")
                && id("eu1-z") < id("eu1.")
                && id("eu1.") < highest
        );
        assert!(matches!(bound(&doc! { "account": "a", "_id": "b" }), Bound::Other(_)));
    }

    #[test]
    fn a_balancer_that_was_never_told_anything_runs_at_all_hours() {
        assert_eq!(balancer(&[]), Balancer::default());
        let window = doc! { "start": "23:00", "stop": "6:00" };
        let settings = [
            doc! { "_id": "balancer", "mode": "off", "stopped": true, "activeWindow": window },
            doc! { "_id": "chunksize", "value": 64 },
        ];
        let told = Balancer {
            stopped: true,
            window: Some("23:00-6:00".into()),
            range_mib: Some(64.0),
            working: None,
        };
        assert_eq!(balancer(&settings), told);
    }
}
