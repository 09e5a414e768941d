//! A database per test, dropped afterwards, and orders to put into it.

use std::{
    future::Future,
    process,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use mongodb::{
    Client, Collection, Database,
    bson::{Document, doc},
};
use orderfleet_domain::{
    AccountId, Fingerprint, KeyRange, Order, OrderId, StepName,
    saga::{Claim, ClaimKind, Expect, Millis, Nonce, Phases, Record, StoreReply, WorkerId, Write},
};
use orderfleet_native::Services;
use orderfleet_storage::{DatabaseSettings, Shard, Store, check_targeting, sharded_collections};

pub(crate) const NOW: Millis = 1_800_000_000_000;
pub(crate) const LEASE_MS: Millis = 30_000;

/// A prepared store in a database of its own.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) database: Database,
    pub(crate) settings: DatabaseSettings,
    nonces: AtomicU64,
    untargeted: Arc<Mutex<Vec<String>>>,
}

/// Runs a test in a database of its own, which is dropped afterwards, also when the test fails. On a sharded cluster its
/// collections are sharded; anywhere, what its store asks of those must name the shards it needs.
pub(crate) async fn in_database<F>(test: impl FnOnce(Arc<Fixture>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    static DATABASES: AtomicU32 = AtomicU32::new(0);
    let services = Services::from_env_or_start().await.unwrap();
    let number = DATABASES.fetch_add(1, Ordering::Relaxed);
    let settings = DatabaseSettings {
        uri: services.mongodb_uri().to_owned(),
        name: format!("storage_test_{}_{number}", process::id()),
        timeout_ms: 60_000,
        write_concern_timeout_ms: 50_000,
        ..DatabaseSettings::default()
    };
    let fixture = Arc::new(Fixture::new(settings).await);
    let (database, untargeted) = (fixture.database.clone(), fixture.untargeted.clone());
    let outcome = tokio::spawn(test(fixture)).await;
    database.drop().await.unwrap();
    if let Err(failed) = outcome {
        std::panic::resume_unwind(failed.into_panic());
    }
    assert_eq!(*untargeted.lock().unwrap(), [""; 0], "neither by _id nor one of SCATTERED");
}

impl Fixture {
    pub(crate) async fn new(settings: DatabaseSettings) -> Self {
        let untargeted = Arc::new(Mutex::new(Vec::new()));
        let found = untargeted.clone();
        let watch = move |command: &Document| {
            let target = command.values().next().and_then(|value| value.as_str());
            if target.is_some_and(|target| sharded_collections().any(|name| name == target)) {
                found.lock().unwrap().extend(check_targeting(command).err());
            }
        };
        let store = Store::connect_watched(&settings, "storage-test", watch).await.unwrap();
        store.prepare().await.unwrap();
        let client = Client::with_uri_str(&settings.uri).await.unwrap();
        let database = client.database(&settings.name);
        let fixture = Self { store, database, settings, nonces: AtomicU64::new(1), untargeted };
        if fixture.is_on_a_router().await {
            fixture.spread().await;
        }
        fixture
    }

    /// Shards what is to be sharded, and moves half of what the tests store to the other shard.
    async fn spread(&self) {
        for collection in sharded_collections() {
            self.store.shard_by_id(collection).await.unwrap();
        }
        let cluster = self.store.cluster().await.unwrap().unwrap();
        for collection in &cluster.collections {
            let is_other = |shard: &&Shard| shard.name != collection.ranges[0].shard;
            let other = cluster.shards.iter().find(is_other).unwrap();
            let half = match collection.name {
                "replay_items" => KeyRange { min: "r1.0000001".into(), max: "r1/".into() },
                _ => KeyRange::of_account(&"eu1".parse().unwrap(), &account()).pieces(2).remove(1),
            };
            self.store.move_range(collection.name, &half, &other.name).await.unwrap();
        }
    }

    /// Whether the tests run through a router, which has no profiler: `make test-sharded`.
    pub(crate) async fn is_on_a_router(&self) -> bool {
        let hello = self.database.run_command(doc! { "hello": 1 }).await.unwrap();
        hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid")
    }

    pub(crate) fn orders(&self) -> Collection<Document> {
        self.database.collection("orders")
    }

    pub(crate) fn nonce(&self) -> Nonce {
        Nonce(u128::MAX - u128::from(self.nonces.fetch_add(1, Ordering::Relaxed)))
    }

    /// The record of a fresh order, owned by `w1`.
    pub(crate) fn first(&self) -> Record {
        Record::first(fp(), steps(), worker("w1"), NOW + LEASE_MS, self.nonce())
    }

    /// Inserts a document with this record.
    pub(crate) async fn insert(&self, order_id: &OrderId, record: &Record) -> StoreReply {
        self.store.insert(order_id, &account(), &order(), jiff::Timestamp::UNIX_EPOCH, record).await
    }

    /// Inserts a document and expects it to be new.
    pub(crate) async fn given(&self, key: &str, record: &Record) -> OrderId {
        let order_id = order_id(key);
        assert_eq!(self.insert(&order_id, record).await, StoreReply::Applied);
        order_id
    }

    pub(crate) fn claim(&self, by: &str, kind: ClaimKind) -> Claim {
        Claim {
            kind,
            generation: 1,
            fp: Some(fp()),
            redelivered: false,
            now: NOW,
            owner: worker(by),
            lease_until: NOW + LEASE_MS,
            nonce: self.nonce(),
        }
    }

    /// A claim to go on in RUN.
    pub(crate) fn go_on(&self, by: &str) -> Claim {
        self.claim(by, ClaimKind::Continue(Phases::Run))
    }

    /// The write that changes `base` as told.
    pub(crate) fn write(&self, base: &Record, change: impl FnOnce(&mut Record)) -> Write {
        let mut next = base.clone();
        next.rev += 1;
        next.nonce = self.nonce();
        change(&mut next);
        let expect =
            Expect { generation: base.generation, epoch: base.epoch, rev: base.rev, uncancelled: false };
        Write { expect, next, owes: false, entries: Vec::new() }
    }

    pub(crate) async fn stored(&self, order_id: &OrderId) -> Record {
        match self.store.read(order_id).await {
            StoreReply::Found(Some(record)) => *record,
            other => panic!("no document: {other:?}"),
        }
    }

    /// The document as the database holds it.
    pub(crate) async fn document(&self, order_id: &OrderId) -> Document {
        self.orders().find_one(doc! { "_id": order_id.as_str() }).await.unwrap().unwrap()
    }
}

pub(crate) fn claimed(reply: StoreReply) -> Record {
    match reply {
        StoreReply::Claimed(record) => *record,
        other => panic!("not claimed: {other:?}"),
    }
}

pub(crate) fn account() -> AccountId {
    "demo".parse().unwrap()
}

pub(crate) fn order_id(key: &str) -> OrderId {
    OrderId::derive(&"eu1".parse().unwrap(), &account(), &key.parse().unwrap())
}

pub(crate) fn worker(name: &str) -> WorkerId {
    WorkerId(name.to_owned())
}

pub(crate) fn steps() -> Vec<StepName> {
    ["inventory", "fulfilment", "accounting"].map(|name| name.parse().unwrap()).to_vec()
}

pub(crate) fn fp() -> Fingerprint {
    Fingerprint::of(&order())
}

/// The fingerprint of another body.
pub(crate) fn other_fp(number: u32) -> Fingerprint {
    let mut other = order();
    other.lines[0].quantity += 1 + number;
    Fingerprint::of(&other)
}

pub(crate) fn order() -> Order {
    serde_json::from_value(serde_json::json!({
        "customer_ref": "17850", "channel": "retail", "currency": "GBP", "payment_ref": "pay_1",
        "ship_to": {"name": "A. Person", "country": "GB"}, "placed_at": "2010-12-01T08:26:00Z",
        "lines": [{"sku": "85123A", "description": "HOLDER", "quantity": 6, "unit_price": "2.55"}],
        "metadata": {"basket": "b1"}
    }))
    .unwrap()
}
