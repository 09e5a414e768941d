//! Looking at the database itself: what server it is, who is in its set, and whether its collections are as declared.

mod schema;

use std::time::Duration;

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{Bson, Document, doc, oid::ObjectId};
use tokio::time::Instant;

use crate::{Store, StoreError, document::timestamp, sharding::sharded_collections};

pub use schema::SchemaDifference;

/// A collection of which nobody reads anything, to try a write in.
const TRIALS: &str = "doctor";

/// What the server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerState {
    /// Its version, such as `6.0.5`.
    pub version: String,
    /// What it belongs to.
    pub cluster: ClusterKind,
    /// Its clock when it answered.
    pub local_time: Timestamp,
}

/// What a server belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterKind {
    /// A replica set of this name.
    ReplicaSet(String),
    /// A sharded cluster.
    Sharded,
}

/// A member of the replica set, as the primary sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its address.
    pub name: String,
    /// In MongoDB's words, for example `SECONDARY`.
    pub state: String,
    /// It answers, and is primary, secondary or arbiter.
    pub healthy: bool,
    /// It votes for the primary, and counts for a majority.
    pub votes: bool,
}

/// The members of the replica set.
pub type Members = Vec<Member>;

/// How a collection is sharded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardKey {
    /// With its database, for example `orderfleet.orders`.
    pub collection: String,
    /// Its shard key; none if it is not sharded.
    pub key: Option<String>,
    /// Whether that is the declared one, `{ "_id": 1 }`.
    pub as_declared: bool,
}

/// What the server has left, as far as it tells.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Resources {
    /// Memory in use, in MiB.
    pub resident_mib: Option<f64>,
    /// Share of the possible connections that are open.
    pub connections_share: Option<f64>,
    /// Share of the cache that is in use.
    pub cache_share: Option<f64>,
    /// Share of the disk with the data that is in use.
    pub disk_share: Option<f64>,
}

impl Store {
    /// What the server says of itself. On a sharded cluster it is one of the routers.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn server_state(&self) -> Result<ServerState, StoreError> {
        // The time comes with the answer, so it is asked for last.
        let build = self.admin("build info", doc! { "buildInfo": 1 }).await?;
        let hello = self.admin("hello", doc! { "hello": 1 }).await?;
        let cluster = match hello.get_str("setName") {
            Ok(name) => ClusterKind::ReplicaSet(name.to_owned()),
            Err(_) => ClusterKind::Sharded,
        };
        let version = build.get_str("version").unwrap_or_default().to_owned();
        let local_time =
            hello.get_datetime("localTime").map_or(Timestamp::UNIX_EPOCH, |time| timestamp(*time));
        Ok(ServerState { version, cluster, local_time })
    }

    /// The members of the replica set.
    ///
    /// # Errors
    /// It is none, this user may not ask, or the database did not answer in time.
    pub async fn members(&self) -> Result<Members, StoreError> {
        let status = self.admin("look at the members", doc! { "replSetGetStatus": 1 }).await?;
        // Who may not read it sees every member as one that votes.
        let config = self.admin("read the set's configuration", doc! { "replSetGetConfig": 1 }).await;
        Ok(members(&status, config.ok().as_ref()))
    }

    /// Writes a document with a majority, into a collection that is there for nothing else, and deletes it again. Returns how
    /// long the write took. A crash in between leaves the document, which does no harm.
    ///
    /// # Errors
    /// There was no majority in time, or this user may not write.
    pub async fn try_majority_write(&self) -> Result<Duration, StoreError> {
        let trials = self.database.collection::<Document>(TRIALS);
        let trial = doc! { "_id": ObjectId::new() };
        let begun = Instant::now();
        let written = self.call("majority write", trials.insert_one(&trial)).await;
        let took = begun.elapsed();
        let deleted = self.call("majority write", trials.delete_one(trial)).await;
        written.and(deleted).map(|_| took)
    }

    /// How the collections are sharded that are to be. Ask only on a sharded cluster.
    ///
    /// # Errors
    /// This user may not read the cluster's metadata, or the database did not answer in time.
    pub async fn shard_keys(&self) -> Result<Vec<ShardKey>, StoreError> {
        let names: Vec<_> =
            sharded_collections().map(|name| format!("{}.{name}", self.database.name())).collect();
        let metadata = self.database.client().database("config").collection::<Document>("collections");
        let find = metadata.find(doc! { "_id": { "$in": &names } }).max_time(self.timeout);
        let found: Vec<_> =
            self.call("read the shard keys", async { find.await?.try_collect().await }).await?;
        Ok(names.into_iter().map(|name| shard_key(name, &found)).collect())
    }

    /// What the server has left.
    ///
    /// # Errors
    /// This user may not ask, or the database did not answer in time.
    pub async fn resources(&self) -> Result<Resources, StoreError> {
        let status = self.admin("look at the server's state", doc! { "serverStatus": 1 }).await?;
        let stats = self.database.run_command(doc! { "dbStats": 1 });
        // Routers tell no disk.
        let stats = self.call("look at the disk", stats).await.unwrap_or_default();
        Ok(resources(&status, &stats))
    }

    pub(crate) async fn admin(
        &self,
        operation: &'static str,
        command: Document,
    ) -> Result<Document, StoreError> {
        self.call(operation, self.database.client().database("admin").run_command(command)).await
    }
}

fn members(status: &Document, config: Option<&Document>) -> Members {
    const HEALTHY: [&str; 3] = ["PRIMARY", "SECONDARY", "ARBITER"];
    let configured = config.and_then(|config| config.get_document("config").ok());
    let votes = |name: &str| {
        let member = configured.and_then(|config| {
            documents(config, "members").find(|member| member.get_str("host").is_ok_and(|host| host == name))
        });
        member.and_then(|member| number(member, &["votes"])).is_none_or(|votes| votes > 0.0)
    };
    let member = |member: &Document| {
        let text = |key| member.get_str(key).unwrap_or_default().to_owned();
        let (name, state) = (text("name"), text("stateStr"));
        let up = number(member, &["health"]).is_some_and(|health| health > 0.0);
        let healthy = up && HEALTHY.contains(&state.as_str());
        Member { votes: votes(&name), name, state, healthy }
    };
    documents(status, "members").map(member).collect()
}

pub(crate) fn shard_key(collection: String, found: &[Document]) -> ShardKey {
    let metadata = found.iter().find(|found| found.get_str("_id").is_ok_and(|id| id == collection));
    // MongoDB 8 lists a collection that is not sharded, too, once it was moved: with a key by which it cannot be split.
    let split = metadata.filter(|metadata| !metadata.get_bool("unsplittable").unwrap_or(false));
    let key = split.and_then(|metadata| metadata.get_document("key").ok());
    let as_declared = key.is_some_and(|key| key.len() == 1 && number(key, &["_id"]) == Some(1.0));
    ShardKey { collection, key: key.map(ToString::to_string), as_declared }
}

fn resources(status: &Document, stats: &Document) -> Resources {
    let share = |part: Option<f64>, whole: Option<f64>| {
        let whole = whole.filter(|whole| *whole > 0.0)?;
        part.map(|part| part / whole)
    };
    let open = number(status, &["connections", "current"]);
    let free = number(status, &["connections", "available"]);
    let cache = |name| number(status, &["wiredTiger", "cache", name]);
    Resources {
        resident_mib: number(status, &["mem", "resident"]),
        connections_share: share(open, open.zip(free).map(|(open, free)| open + free)),
        cache_share: share(cache("bytes currently in the cache"), cache("maximum bytes configured")),
        disk_share: share(number(stats, &["fsUsedSize"]), number(stats, &["fsTotalSize"])),
    }
}

fn documents<'a>(document: &'a Document, key: &str) -> impl Iterator<Item = &'a Document> {
    document.get_array(key).into_iter().flatten().filter_map(Bson::as_document)
}

/// A number of whatever type, by its path.
fn number(document: &Document, path: &[&str]) -> Option<f64> {
    let (last, parents) = path.split_last()?;
    let parent = parents.iter().try_fold(document, |document, key| document.get_document(key).ok())?;
    match parent.get(last)? {
        Bson::Int32(number) => Some(f64::from(*number)),
        Bson::Int64(number) => Some(*number as f64),
        Bson::Double(number) => Some(*number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_is_down_or_recovering_is_not_healthy_and_one_without_a_vote_does_not_count() {
        let member =
            |name: &str, health: f64, state: &str| doc! { "name": name, "health": health, "stateStr": state };
        let status = doc! { "members": [
            member("a", 1.0, "PRIMARY"), member("b", 1.0, "RECOVERING"), member("c", 0.0, "(not reachable/healthy)"),
        ] };
        let config =
            doc! { "config": { "members": [ { "host": "a", "votes": 1 }, { "host": "c", "votes": 0 } ] } };
        let found: Vec<_> =
            members(&status, Some(&config)).into_iter().map(|it| (it.healthy, it.votes)).collect();
        assert_eq!(found, [(true, true), (false, true), (false, false)]);
        assert!(members(&status, None).iter().all(|member| member.votes));
    }

    #[test]
    fn only_the_id_alone_is_the_declared_shard_key() {
        let metadata = |key: Document| [doc! { "_id": "f.orders", "key": key }];
        for (found, declared) in [
            (metadata(doc! { "_id": 1 }), true),
            (metadata(doc! { "_id": 1.0 }), true),
            (metadata(doc! { "_id": "hashed" }), false),
            (metadata(doc! { "account": 1, "_id": 1 }), false),
            ([doc! { "_id": "f.others", "key": { "_id": 1 } }], false),
        ] {
            assert_eq!(shard_key("f.orders".into(), &found).as_declared, declared, "{found:?}");
        }
        let [mut whole] = metadata(doc! { "_id": 1 });
        whole.insert("unsplittable", true);
        let found = shard_key("f.orders".into(), &[whole]);
        assert_eq!((found.key, found.as_declared), (None, false), "MongoDB 8: it is on one shard");
    }

    #[test]
    fn shares_are_told_where_both_figures_are_there() {
        let status = doc! {
            "mem": { "resident": 120 },
            "connections": { "current": 10, "available": 30_i64 },
            "wiredTiger": { "cache": { "bytes currently in the cache": 1.0, "maximum bytes configured": 0 } },
        };
        let found = resources(&status, &doc! { "fsUsedSize": 3.0 });
        assert_eq!(
            found,
            Resources { resident_mib: Some(120.0), connections_share: Some(0.25), ..Resources::default() }
        );
    }
}
