//! The fleet's database on a sharded cluster, where there is a router: `make test-sharded`.

use orderfleet_domain::KeyRange;
use orderfleet_storage::{DatabaseSettings, Shard, Store};

/// Behind a router shards what is to be sharded, and moves half of the orders to come of the account `demo`, half of their dead
/// letters, and half of the replayed ones to the other shard. Elsewhere does nothing.
pub(super) async fn over_shards(mongodb_uri: &str, database: &str) {
    let settings = DatabaseSettings {
        uri: mongodb_uri.to_owned(),
        name: database.to_owned(),
        ..DatabaseSettings::default()
    };
    let store = Store::connect(&settings, "test").await.unwrap();
    if store.cluster().await.unwrap().is_none() {
        return;
    }
    store.prepare().await.unwrap();
    for collection in orderfleet_storage::sharded_collections() {
        store.shard_by_id(collection).await.unwrap();
    }
    let cluster = store.cluster().await.unwrap().unwrap();
    for collection in &cluster.collections {
        let is_other = |shard: &&Shard| shard.name != collection.ranges[0].shard;
        let other = cluster.shards.iter().find(is_other).unwrap();
        let half = match collection.name {
            // Ids of replays are random hex digits.
            "replay_items" => KeyRange { min: "8".into(), max: "g".into() },
            _ => KeyRange::of_account(&"eu1".parse().unwrap(), &"demo".parse().unwrap()).pieces(2).remove(1),
        };
        store.move_range(collection.name, &half, &other.name).await.unwrap();
    }
}
