//! Orders, dead letters, messages and acceptance logs, planted for an audit.

use std::process::{self, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use orderfleet_domain::failure::{Failure, FailureClass};
use orderfleet_domain::saga::{DeadLetterQueue, Hold, Lane, Nonce, Record, StoreReply, WorkerId};
use orderfleet_domain::{AccountId, Command as Message, CommandKind, Fingerprint, Order, OrderId, StepName};
use orderfleet_messaging::{
    BrokerSettings, Consumer, Control, Delivery, Destination, Headers, Observer, Outgoing, Publisher,
    Subscription, Topology,
};
use orderfleet_native::Services;
use orderfleet_storage::{DatabaseSettings, DeadLetter, Store, Subject};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// A database and a folder of the test's own, and a fleet's queues.
pub(crate) struct Planted {
    pub(crate) store: Store,
    database: DatabaseSettings,
    broker: BrokerSettings,
    publisher: Publisher,
    folder: TempDir,
}

/// With queues that are always empty, for all tests that want them so.
pub(crate) async fn quiet() -> Planted {
    Planted::new("quiet").await
}

impl Planted {
    pub(crate) async fn new(queues: &str) -> Self {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let services = Services::from_env_or_start().await.unwrap();
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let database = DatabaseSettings {
            uri: services.mongodb_uri().to_owned(),
            name: format!("audit_test_{}_{number}", process::id()),
            ..DatabaseSettings::default()
        };
        let broker = BrokerSettings {
            url: services.amqp_url().to_owned(),
            prefix: format!("audit-{}-{queues}.", process::id()),
            ..BrokerSettings::default()
        };
        let store = Store::connect(&database, "audit-test").await.unwrap();
        store.prepare().await.unwrap();
        let publisher = Publisher::connect(&broker, topology(&broker), "audit-test").await.unwrap();
        Self { store, database, broker, publisher, folder: tempfile::tempdir().unwrap() }
    }

    /// Inserts an order.
    pub(crate) async fn order(&self, key: &str, change: impl FnOnce(&mut Record)) {
        let owner = WorkerId("w1".into());
        let mut record = Record::first(fp(), steps(), owner, 0, Nonce(1));
        change(&mut record);
        let at = Timestamp::UNIX_EPOCH;
        let inserted = self.store.insert(&order_id(key), &account(), &order(), at, &record).await;
        assert_eq!(inserted, StoreReply::Applied);
    }

    /// Stores a dead letter that holds an order.
    pub(crate) async fn letter(&self, key: &str, queue: DeadLetterQueue) {
        let letter = DeadLetter {
            id: "letter".into(),
            queue,
            subject: Some(Subject { order_id: order_id(key), account: account(), generation: 1 }),
            kind: "place".into(),
            reason: "crashed workers".into(),
            failure: Failure::new(None, FailureClass::Crashed, None, "crashed workers"),
            build: None,
            trace_id: None,
            attempts: Vec::new(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        assert!(self.store.park(&letter, Timestamp::now().as_millisecond()).await.unwrap());
    }

    /// Publishes an order, as a producer does.
    pub(crate) async fn queue(&self, key: &str) {
        let kind = CommandKind::Place { order: Box::new(order()), accepted_at: Timestamp::now() };
        let message =
            Message { order_id: order_id(key), account: account(), generation: 1, fp: Some(fp()), kind };
        let outgoing = Outgoing {
            destination: Destination::Lane(Lane::New(0)),
            headers: Headers::new("place"),
            body: message.encode().into(),
        };
        self.publisher.publish(&outgoing).await.unwrap();
    }

    /// Takes a fresh order out of its queue, for good.
    pub(crate) async fn take_one(&self) {
        let (permits, control) = (Arc::new(Semaphore::new(1)), Control::default());
        let subscription = Subscription { lane: Lane::New(0), prefetch: 1, permits, control };
        let consumer = Consumer {
            settings: self.broker.clone(),
            topology: topology(&self.broker),
            name: "audit-test".into(),
            subscriptions: vec![subscription],
            paused: watch::channel(false).1,
        };
        let taken = CancellationToken::new();
        let shutdown = taken.clone();
        let take = move |delivery: Delivery| {
            let taken = taken.clone();
            async move {
                delivery.ack();
                taken.cancel();
            }
        };
        consumer.run(&Deaf, shutdown, take).await.unwrap();
    }

    /// The line of an acceptance log about an order.
    pub(crate) fn line(&self, key: &str, at: Timestamp) -> String {
        self.line_of(key, &fp(), at)
    }

    /// The same about another body under the key.
    pub(crate) fn line_of(&self, key: &str, fp: &Fingerprint, at: Timestamp) -> String {
        let id = order_id(key);
        format!(r#"{{"time":"{at}","order_id":"{id}","fingerprint":"{fp}","account":"demo"}}"#)
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// `orderfleet audit` about this fleet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orderfleet"));
        command.arg("audit").args(arguments).current_dir(self.folder.path()).kill_on_drop(true);
        command
            .env("ORDERFLEET_AMQP_URL", &self.broker.url)
            .env("ORDERFLEET_BROKER__PREFIX", &self.broker.prefix);
        command
            .env("ORDERFLEET_MONGODB_URI", &self.database.uri)
            .env("ORDERFLEET_DATABASE__NAME", &self.database.name);
        command.env("ORDERFLEET_OPERATOR", "tester");
        command
    }

    pub(crate) async fn audit(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }
}

struct Deaf;

impl Observer for Deaf {
    fn subscribed(&self) {}
    fn lost(&self, _why: &str) {}
    fn alive(&self) {}
}

pub(crate) fn json(output: &Output) -> serde_json::Value {
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(stdout.lines().count(), 1, "stdout is one line of data: {stdout}{}", stderr(output));
    serde_json::from_str(&stdout).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn order_id(key: &str) -> OrderId {
    let key = key.replace(' ', "-");
    OrderId::derive(&"eu1".parse().unwrap(), &account(), &key.parse().unwrap())
}

/// The fingerprint of another body.
pub(crate) fn other_fp(number: u32) -> Fingerprint {
    let mut other = order();
    other.lines[0].quantity += number;
    Fingerprint::of(&other)
}

pub(crate) fn hold() -> Hold {
    Hold { id: "h".into(), step: steps().remove(1), reason: "no".into(), at: 0 }
}

fn topology(broker: &BrokerSettings) -> Topology {
    let BrokerSettings { prefix, partitions, new_bytes_max, .. } = broker;
    Topology::new(prefix, *partitions, *new_bytes_max, &steps())
}

fn account() -> AccountId {
    "demo".parse().unwrap()
}

fn steps() -> Vec<StepName> {
    ["inventory", "fulfilment", "accounting"].map(|name| name.parse().unwrap()).to_vec()
}

fn fp() -> Fingerprint {
    Fingerprint::of(&order())
}

fn order() -> Order {
    serde_json::from_value(serde_json::json!({
        "channel": "retail", "currency": "GBP", "payment_ref": "pay_1", "ship_to": { "country": "GB" },
        "lines": [{ "sku": "85123A", "quantity": 6, "unit_price": "2.55" }],
    }))
    .unwrap()
}
