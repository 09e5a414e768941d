//! A fleet's database and queues with dead letters in them, and an operator's command line about it.

use std::process::{self, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::{SignedDuration, Timestamp};
use orderfleet_domain::failure::{Failure, FailureClass};
use orderfleet_domain::saga::{CauseClass, DeadLetterQueue};
use orderfleet_domain::{AccountId, Command as Message, CommandKind, Fingerprint, Order, OrderId};
use orderfleet_messaging::{BrokerSettings, Destination, Headers, Outgoing, Publisher, Topology};
use orderfleet_native::Services;
use orderfleet_storage::{DatabaseSettings, DeadLetter, Letter, Store, Subject};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

/// A text that stands for personal data.
pub(crate) const CANARY: &str = "Canary";

pub(crate) struct Desk {
    pub(crate) store: Store,
    pub(crate) folder: TempDir,
    database: DatabaseSettings,
    broker: BrokerSettings,
}

impl Desk {
    pub(crate) async fn new() -> Self {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let services = Services::from_env_or_start().await.unwrap();
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let name = format!("dlq_test_{}_{number}", process::id());
        let database = DatabaseSettings {
            uri: services.mongodb_uri().to_owned(),
            name: name.clone(),
            ..DatabaseSettings::default()
        };
        let broker = BrokerSettings {
            url: services.amqp_url().to_owned(),
            prefix: format!("{name}."),
            ..BrokerSettings::default()
        };
        let store = Store::connect(&database, "dlq-test").await.unwrap();
        store.prepare().await.unwrap();
        Self { store, folder: tempfile::tempdir().unwrap(), database, broker }
    }

    /// Parks the letter of an order that was given up at fulfilment with this answer, so long ago.
    pub(crate) async fn failed(&self, key: &str, answer: &str, age: SignedDuration) -> String {
        let step: orderfleet_domain::StepName = "fulfilment".parse().unwrap();
        let class = FailureClass::Run(CauseClass::AttemptsExhausted);
        let letter = DeadLetter {
            id: "l".into(),
            queue: DeadLetterQueue::Step(step.clone()),
            subject: Some(Subject { order_id: order_id(key), account: account(), generation: 1 }),
            kind: "place".into(),
            reason: "attempts_exhausted".into(),
            failure: Failure::new(Some(step), class, None, answer),
            build: Some("0.1.0+test".into()),
            trace_id: None,
            attempts: Vec::new(),
            headers: vec![("traceparent".into(), "00-1".into())],
            body: message(key).encode(),
        };
        let at = Timestamp::now().saturating_sub(age).unwrap();
        assert!(self.store.park(&letter, at.as_millisecond()).await.unwrap());
        format!("{}.l", order_id(key))
    }

    /// Publishes a message that no worker parks.
    pub(crate) async fn publish_poison(&self) {
        let steps = ["inventory", "fulfilment", "accounting"].map(|step| step.parse().unwrap());
        let BrokerSettings { prefix, partitions, new_bytes_max, .. } = &self.broker;
        let topology = Topology::new(prefix, *partitions, *new_bytes_max, &steps);
        let publisher = Publisher::connect(&self.broker, topology, "dlq-test").await.unwrap();
        let destination = Destination::DeadLetter(DeadLetterQueue::Poison);
        let outgoing = Outgoing { destination, headers: Headers::new("place"), body: "garbage".into() };
        publisher.publish(&outgoing).await.unwrap();
    }

    /// `orderfleet dlq …` about this fleet, by `jo`, in an empty folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orderfleet"));
        command.arg("dlq").args(arguments).current_dir(self.folder.path()).env("ORDERFLEET_OPERATOR", "jo");
        command
            .env("ORDERFLEET_MONGODB_URI", &self.database.uri)
            .env("ORDERFLEET_AMQP_URL", &self.broker.url);
        command.env("ORDERFLEET_DATABASE__NAME", &self.database.name);
        command.env("ORDERFLEET_BROKER__PREFIX", &self.broker.prefix);
        command.kill_on_drop(true);
        command
    }

    pub(crate) fn broker_url(&self) -> &str {
        &self.broker.url
    }

    pub(crate) fn database_uri(&self) -> &str {
        &self.database.uri
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    /// What a command prints as JSON.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--output", "json"]].concat()).await;
        let told = stderr(&output);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {told}"))
    }

    pub(crate) async fn letter(&self, id: &str) -> Letter {
        self.store.letter(id).await.unwrap().unwrap().0
    }
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub(crate) fn account() -> AccountId {
    "demo".parse().unwrap()
}

pub(crate) fn order_id(key: &str) -> OrderId {
    OrderId::derive(&"eu1".parse().unwrap(), &account(), &key.parse().unwrap())
}

fn message(key: &str) -> Message {
    let order: Order = serde_json::from_value(json!({
        "customer_ref": CANARY, "channel": "retail", "currency": "GBP", "payment_ref": CANARY,
        "ship_to": { "name": CANARY, "line1": CANARY, "country": "IE" },
        "lines": [{ "sku": "A", "description": CANARY, "quantity": 1, "unit_price": "1" }],
    }))
    .unwrap();
    Message {
        order_id: order_id(key),
        account: account(),
        generation: 1,
        fp: Some(Fingerprint::of(&order)),
        kind: CommandKind::Place { order: Box::new(order), accepted_at: Timestamp::UNIX_EPOCH },
    }
}
