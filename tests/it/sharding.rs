//! What the fleet asks of a sharded database, and where its orders lie: on a real config server and two real shards. There is no
//! router among the programs at hand; what one would do is left out here, and `make test-sharded` runs everything through one.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Output,
    time::Duration,
};

use futures_util::TryStreamExt as _;
use mongodb::{
    Client, Database,
    bson::{Bson, Document, doc},
};
use orderfleet_domain::OrderId;
use orderfleet_native::{MongoCluster, MongoOptions, SHARDS, Services, TempFolder};
use orderfleet_runtime::keys;
use orderfleet_storage::{SCATTERED, check_targeting, sharded_collections};
use orderfleet_tests::{Fleet, Plan, order_of, program, until};
use serde_json::{Value, json};

const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);
/// Beside the accounts whose orders are posted, all of eu1's fit into the pieces that known accounts get of their own.
const LARGE: &str = "large-shop";

#[tokio::test]
async fn a_fleet_at_work_asks_only_the_shards_it_needs() {
    let plan = Plan {
        workers: 2,
        roles: Plan::ALL_ROLES,
        steps: "attempts_max = 1\nquick_retries = 0",
        ..Plan::default()
    };
    let mut fleet = Fleet::start_as(plan).await;
    let database = fleet.mongodb().await;
    if is_router(&database).await {
        eprintln!("skipped: a router has no profiler");
        return;
    }
    database.create_collection("system.profile").capped(true).size(32 << 20).await.unwrap();
    database.run_command(doc! { "profile": 2 }).await.unwrap();

    fleet.sandbox.fault(json!({ "service": "fulfilment", "refuse_sku": "BAD" })).await;
    let done = fleet.client.accept("done", &order_of("A", 1, "1")).await;
    let refused = fleet.client.accept("refused", &order_of("BAD", 1, "1")).await;
    fleet.client.until_ended(&done, "DONE").await;
    fleet.client.until_ended(&refused, "UNDONE").await;
    assert_eq!(fleet.client.cancel(&done).await.status, 202);
    fleet.sandbox.fault(json!({ "service": "accounting", "error_rate": 1.0 })).await;
    let failed = fleet.client.accept("failed", &order_of("A", 1, "1")).await;
    fleet.client.until_ended(&failed, "UNDONE").await;
    until("the dead letter is parked, and a sweep is over", async || {
        let calls = calls(&database).await;
        let parked = calls.iter().any(|call| call.collection == "dead_letters" && call.verb == "update");
        let swept =
            calls.iter().any(|call| call.command.get_str("comment").is_ok_and(|name| name == SCATTERED[0]));
        if parked && swept { Ok(()) } else { Err(format!("parked: {parked}, swept: {swept}")) }
    })
    .await;
    fleet.stop_workers().await;
    database.run_command(doc! { "profile": 0 }).await.unwrap();

    let calls = calls(&database).await;
    let mut seen = BTreeMap::new();
    for Call { collection, verb, command } in &calls {
        *seen.entry(format!("{collection} {verb}")).or_insert(0) += 1;
        assert_eq!(check_targeting(command), Ok(()), "{command}");
    }
    eprintln!("{seen:?}");
    for needed in ["orders insert", "orders update", "orders query", "dead_letters update"] {
        assert!(seen.contains_key(needed), "no {needed}: {seen:?}");
    }
}

struct Call {
    collection: String,
    verb: String,
    command: Document,
}

/// What the fleet's processes have asked of sharded collections, as the server has written it down; our own looks have no name.
async fn calls(database: &Database) -> Vec<Call> {
    let own = doc! { "appName": { "$in": ["orderfleet-worker", "orderfleet-query"] } };
    let profile = database.collection::<Document>("system.profile");
    let entries: Vec<_> = profile.find(own).await.unwrap().try_collect().await.unwrap();
    let call = |entry: &Document| {
        let collection = entry.get_str("ns").ok()?.split_once('.')?.1.to_owned();
        let (verb, command) =
            (entry.get_str("op").ok()?.to_owned(), entry.get_document("command").ok()?.clone());
        sharded_collections().any(|name| name == collection).then_some(Call { collection, verb, command })
    };
    entries.iter().filter_map(call).collect()
}

async fn is_router(database: &Database) -> bool {
    let hello = database.run_command(doc! { "hello": 1 }).await.unwrap();
    hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid")
}

#[tokio::test]
async fn a_real_cluster_keeps_each_regions_orders_in_its_zone_and_spreads_a_large_account_over_it() {
    let folder = TempFolder::new().unwrap();
    let stage = Stage::start(folder.path()).await;
    let cli = async |arguments: &str| run_cli(folder.path(), arguments).await;

    let planned = cli("shard plan --keys keys.toml --output json").await;
    assert_eq!(planned.status.code(), Some(0), "{planned:?}");
    let plan: Value = serde_json::from_slice(&planned.stdout).unwrap();
    let steps = plan["steps"].as_array().unwrap();
    let refused = cli("shard init --keys keys.toml --yes --reason first").await;
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains("no such commands"), "{refused:?}");
    assert_eq!(stage.metadata("tags").await, [], "nothing was done");

    let (moves, before): (Vec<_>, Vec<_>) = steps.iter().partition(|step| step["action"] == "move");
    for step in before {
        stage.perform(step).await;
    }
    let ids = ids();
    stage.insert(&ids).await;
    for step in &moves {
        stage.perform(step).await;
    }

    let placed = stage.stored().await;
    let all: BTreeSet<_> = placed.iter().flatten().cloned().collect();
    assert_eq!((all.len(), placed[0].len() + placed[1].len()), (ids.len(), ids.len()), "each once");
    for id in &ids {
        let expected = match id.split('-').next() {
            Some("us1") => SHARDS[1],
            _ => {
                let within = |step: &&Value| text(step, "min") <= *id && *id < text(step, "max");
                let piece = moves.iter().find(|step| within(step)).unwrap();
                SHARDS[usize::from(piece["shard"] == SHARDS[1])]
            }
        };
        assert!(placed[usize::from(expected == SHARDS[1])].contains(id), "{id} belongs to {expected}");
    }
    let shares = placed.each_ref().map(|ids| ids.iter().filter(|id| is_of(id, LARGE)).count());
    eprintln!(
        "{LARGE} has {shares:?} of its 2000 orders on {SHARDS:?}, moved there by {} of the server's migrations",
        moves.len()
    );
    assert!(shares.iter().all(|share| (900..1_100).contains(share)), "{shares:?}");

    let again = cli("shard plan --keys keys.toml --output json").await;
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((&again["steps"], &again["differences"]), (&json!([]), &json!([])), "{again:#}");
    let status = cli("shard status --output json").await;
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["shards"][1], json!({ "name": SHARDS[1], "zones": ["eu1", "us1"], "draining": false }));
    let orders = &status["collections"][0];
    assert_eq!((&orders["zones"], &orders["settled"]), (&json!(["eu1", "us1"]), &Value::Null), "{status:#}");
    assert!(SHARDS.iter().all(|shard| orders["ranges"][shard].as_u64() > Some(8)), "{status:#}");

    stage.config.run_command(doc! { "_configsvrBalancerStop": 1, "maxTimeMS": 30_000 }).await.unwrap();
    let stopped = cli("shard status").await;
    assert_eq!(stopped.status.code(), Some(1), "{stopped:?}");
    assert!(stderr(&stopped).contains("balancer: is stopped"), "{}", stderr(&stopped));
    let zones = "[[database.zones]]\nregion = 'eu1'\nshards = ['shard0', 'shard1', 'shard2']\n";
    write_settings(folder.path(), &stage.cluster.config_uri(), "shop", zones);
    let renamed = cli("shard plan").await;
    for word in ["\"us1-\" to \"us1.\" is kept in zone us1", "shard2: database.zones names it for eu1"] {
        assert!(stderr(&renamed).contains(word), "{word}: {}", stderr(&renamed));
    }
}

#[tokio::test]
async fn a_router_takes_the_plan_once_and_a_replica_set_is_told_apart() {
    let services = Services::from_env_or_start().await.unwrap();
    let folder = TempFolder::new().unwrap();
    let name = format!("it_shards_{}", std::process::id());
    write_settings(folder.path(), services.mongodb_uri(), &name, "");
    for account in [LARGE, "small-shop"] {
        keys::create(&folder.path().join("keys.toml"), account, "eu1").unwrap();
    }
    let cli = async |arguments: &str| run_cli(folder.path(), arguments).await;
    let planned = cli("shard plan --keys keys.toml --output json").await;
    assert_eq!(planned.status.code(), Some(0), "{planned:?}");
    let plan: Value = serde_json::from_slice(&planned.stdout).unwrap();
    let init = format!(
        "shard init --keys keys.toml --yes --reason first --expect {}",
        plan["id"].as_str().unwrap_or("x")
    );
    let begun = cli(&init).await;
    if plan["sharded"] == false {
        assert!(begun.status.code() == Some(1) && stderr(&begun).contains("a replica set"), "{begun:?}");
        assert_eq!(cli("shard status").await.status.code(), Some(0));
        eprintln!("skipped: without a router nothing is sharded here");
        return;
    }
    assert_eq!(begun.status.code(), Some(0), "{begun:?}");
    let again: Value =
        serde_json::from_slice(&cli("shard plan --keys keys.toml --output json").await.stdout).unwrap();
    assert_eq!((&again["steps"], &again["differences"]), (&json!([]), &json!([])), "{again:#}");
    assert_eq!(cli(&init).await.status.code(), Some(8), "the plan has changed: it is done");
    assert_eq!(cli("shard status").await.status.code(), Some(0));
    let client = Client::with_uri_str(services.mongodb_uri()).await.unwrap();
    client.database(&name).drop().await.unwrap();
}

/// A cluster without a router, and connections to its parts.
struct Stage {
    cluster: MongoCluster,
    config: Database,
    shards: [Database; 2],
}

impl Stage {
    async fn start(folder: &Path) -> Self {
        let cluster = MongoCluster::start(&folder.join("cluster"), &MongoOptions::default()).await.unwrap();
        let config = Client::with_uri_str(cluster.config_uri()).await.unwrap().database("admin");
        let [first, second] = cluster.shard_uris();
        let shards = [
            Client::with_uri_str(first).await.unwrap().database("shop"),
            Client::with_uri_str(second).await.unwrap().database("shop"),
        ];
        let keys_file = folder.join("keys.toml");
        for (account, region) in [(LARGE, "eu1"), ("small-shop", "eu1"), ("other-shop", "us1")] {
            keys::create(&keys_file, account, region).unwrap();
        }
        let zones = "[[database.zones]]\nregion = 'eu1'\nshards = ['shard0', 'shard1']\n\
                     [[database.zones]]\nregion = 'us1'\nshards = ['shard1']\n";
        write_settings(folder, &cluster.config_uri(), "shop", zones);
        let stage = Self { cluster, config, shards };
        stage.on_config(doc! { "_configsvrCreateDatabase": "shop", "primaryShardId": SHARDS[0] }).await;
        stage
    }

    /// What a router passes a step on as: the config server's own commands, and the primary shard's.
    async fn perform(&self, step: &Value) {
        let ends = || (doc! { "_id": text(step, "min") }, doc! { "_id": text(step, "max") });
        let namespace = || format!("shop.{}", text(step, "collection"));
        match step["action"].as_str().unwrap() {
            "zone_shard" => {
                self.on_config(
                    doc! { "_configsvrAddShardToZone": text(step, "shard"), "zone": text(step, "zone") },
                )
                .await;
            }
            "zone_range" => {
                let (min, max) = ends();
                let zone = text(step, "zone");
                let command = doc! { "_configsvrUpdateZoneKeyRange": namespace(), "min": min, "max": max, "zone": zone };
                self.on_config(command).await;
            }
            "shard" => self.shard(&text(step, "collection")).await,
            "move" => {
                let (min, max) = ends();
                let command = doc! {
                    "_configsvrMoveRange": namespace(), "min": min, "max": max, "toShard": text(step, "shard"),
                    "waitForDelete": true,
                };
                self.on_config(command).await;
            }
            other => unreachable!("a step of its own: {other}"),
        }
    }

    async fn shard(&self, collection: &str) {
        let database = self.metadata("databases").await.remove(0);
        let command = doc! {
            "_shardsvrCreateCollection": collection, "shardKey": { "_id": 1 }, "unique": false,
            "databaseVersion": database.get_document("version").unwrap(), "writeConcern": { "w": "majority" },
        };
        self.shards[0].run_command(command).await.unwrap();
    }

    async fn on_config(&self, mut command: Document) {
        command.insert("writeConcern", doc! { "w": "majority" });
        self.config.run_command(command).await.unwrap();
    }

    async fn metadata(&self, collection: &str) -> Vec<Document> {
        let found = self.config.client().database("config").collection::<Document>(collection);
        found.find(doc! {}).await.unwrap().try_collect().await.unwrap()
    }

    /// Each order goes to the shard that has its range by now.
    async fn insert(&self, ids: &[String]) {
        let collections = self.metadata("collections").await;
        let orders = collections
            .iter()
            .find(|found| found.get_str("_id").is_ok_and(|id| id == "shop.orders"))
            .unwrap();
        let mut chunks = self.metadata("chunks").await;
        chunks.retain(|chunk| chunk.get("uuid") == orders.get("uuid"));
        for (name, shard) in SHARDS.iter().zip(&self.shards) {
            let own: Vec<_> = chunks
                .iter()
                .filter(|chunk| chunk.get_str("shard").is_ok_and(|shard| shard == *name))
                .collect();
            let documents = ids.iter().filter(|id| own.iter().any(|chunk| holds(chunk, id)));
            let documents: Vec<_> = documents.map(|id| doc! { "_id": id }).collect();
            if !documents.is_empty() {
                shard.collection::<Document>("orders").insert_many(documents).await.unwrap();
            }
        }
    }

    /// The orders on each shard.
    async fn stored(&self) -> [BTreeSet<String>; 2] {
        let mut stored = [BTreeSet::new(), BTreeSet::new()];
        for (shard, stored) in self.shards.iter().zip(&mut stored) {
            let found = shard.collection::<Document>("orders").find(doc! {}).await.unwrap();
            let found: Vec<_> = found.try_collect().await.unwrap();
            stored.extend(found.iter().map(|order| order.get_str("_id").unwrap().to_owned()));
        }
        stored
    }
}

/// Whether a document of `config.chunks` is of a range that holds an id.
fn holds(chunk: &Document, id: &str) -> bool {
    let end = |name: &str| chunk.get_document(name).unwrap().get("_id").cloned();
    let above = match end("min") {
        Some(Bson::String(min)) => min.as_str() <= id,
        _ => false,
    };
    above && matches!(end("max"), Some(Bson::String(max)) if id < max.as_str())
}

fn ids() -> Vec<String> {
    let mut ids = Vec::new();
    for (account, region, count) in
        [(LARGE, "eu1", 2_000), ("small-shop", "eu1", 50), ("other-shop", "us1", 50)]
    {
        let (region, account) = (region.parse().unwrap(), account.parse().unwrap());
        let id = |number: usize| OrderId::derive(&region, &account, &format!("k{number}").parse().unwrap());
        ids.extend((0..count).map(|number| id(number).to_string()));
    }
    ids
}

fn is_of(id: &str, account: &str) -> bool {
    id.parse::<OrderId>().unwrap().may_belong_to(&"eu1".parse().unwrap(), &account.parse().unwrap())
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap().to_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn write_settings(folder: &Path, uri: &str, name: &str, zones: &str) {
    let text = format!("[database]\nuri = '{uri}'\nname = '{name}'\n{zones}");
    std::fs::write(folder.join("orderfleet.toml"), text).unwrap();
}

async fn run_cli(folder: &Path, arguments: &str) -> Output {
    let mut command = tokio::process::Command::new(program("orderfleet"));
    command.args(arguments.split(' ')).current_dir(folder).env_clear().kill_on_drop(true);
    command.env("ORDERFLEET_CONFIG", "orderfleet.toml").env("ORDERFLEET_OPERATOR", "tester");
    tokio::time::timeout(COMMAND_TIMEOUT, command.output()).await.unwrap().unwrap()
}
