//! A fleet under load with a broker and a database of its own, and a Prometheus that watches all of it.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use orderfleet_native::{Launch, Mongo, MongoOptions, Ports, Process, RabbitMq, RabbitMqOptions, TempFolder};
use orderfleet_tests::{Client, Fleet, Plan, order, order_of, until};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use crate::prometheus::Prometheus;

const POST_EVERY: Duration = Duration::from_millis(100);
/// An article that inventory refuses.
const REFUSED: &str = "REFUSED";

/// All of it. What is dropped first comes first.
pub(crate) struct Rig {
    load: JoinHandle<()>,
    _signal: Process,
    pub(crate) prometheus: Prometheus,
    pub(crate) fleet: Fleet,
    pub(crate) broker: RabbitMq,
    pub(crate) database: Mongo,
    /// Where fulfilment is, a sandbox of its own.
    fulfilment: String,
    signal_address: String,
    /// Addresses of further processes, by job.
    pub(crate) further: Vec<(&'static str, String)>,
    pub(crate) began: SystemTime,
    _folder: TempFolder,
}

impl Rig {
    /// Starts it on these rules, and waits until every target is scraped.
    pub(crate) async fn start(rules: &str) -> Self {
        let folder = TempFolder::new().unwrap();
        let inside = |name: &str| folder.path().join(name);
        std::fs::create_dir(inside("prometheus")).unwrap();
        let broker = RabbitMqOptions { metrics: true, ..RabbitMqOptions::default() };
        let broker = RabbitMq::start(&inside("rabbitmq"), broker).await.unwrap();
        let database = Mongo::start(&inside("mongodb"), MongoOptions::default()).await.unwrap();
        let prometheus = Prometheus::start(&inside("prometheus"), rules).await;
        let mut ports = Ports::open(&inside("ports")).unwrap();
        let [fulfilment, signal_address] =
            ["fulfilment", "signal"].map(|name| format!("127.0.0.1:{}", ports.take(name).unwrap()));

        let plan = Plan {
            workers: 2,
            roles: Plan::ALL_ROLES,
            steps: "attempts_max = 2\nquick_retries = 1\ntimeout_ms = 1_000",
            fulfilment_url: Some(format!("http://{fulfilment}/fulfilment/steps")),
            amqp_url: Some(broker.amqp_url()),
            mongodb_uri: Some(database.uri()),
            database: "timeout_ms = 2_000\nwrite_concern_timeout_ms = 1_500",
            ..Plan::default()
        };
        let mut fleet = Fleet::start_as(plan).await;
        start_fulfilment(&mut fleet, &fulfilment).await;
        make_trouble(&fleet).await;
        let signal = start_signal(&fleet, &signal_address);
        let load = tokio::spawn(load(fleet.client.clone()));
        let mut rig = Self {
            load,
            _signal: signal,
            prometheus,
            fleet,
            broker,
            database,
            fulfilment,
            signal_address,
            further: Vec::new(),
            began: SystemTime::now(),
            _folder: folder,
        };
        rig.scrape();
        rig.until_scraped().await;
        rig
    }

    /// Has Prometheus scrape what runs now.
    pub(crate) fn scrape(&mut self) {
        let mut targets: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let further = self.further.iter().cloned();
        for (service, address) in self.fleet.metrics_addresses().into_iter().chain(further) {
            targets.entry(format!("orderfleet-{service}")).or_default().push(address);
        }
        targets.insert("orderfleet-signal".into(), vec![self.signal_address.clone()]);
        let broker = self.broker.metrics_address().unwrap().to_string();
        targets.insert("rabbitmq".into(), vec![broker]);
        self.prometheus.scrape(&targets);
    }

    async fn until_scraped(&self) {
        let wanted = 6;
        until("every target is up", async || match self.prometheus.api.targets().await {
            (up, all) if up == all && all == wanted => Ok(()),
            found => Err(found),
        })
        .await;
    }

    pub(crate) async fn start_fulfilment(&mut self) {
        start_fulfilment(&mut self.fleet, &self.fulfilment).await;
    }

    /// Takes the faults of inventory and accounting back, but for those that are always there.
    pub(crate) async fn heal(&self) {
        self.fleet.sandbox.heal().await;
        make_trouble(&self.fleet).await;
    }

    /// Runs a command of the CLI that must succeed.
    pub(crate) async fn cli(&self, arguments: &[&str]) -> String {
        let arguments = [arguments, &["--config", "orderfleet.toml"]].concat();
        let output = self.fleet.cli(&arguments).env("ORDERFLEET_OPERATOR", "jo").output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.load.abort();
    }
}

/// A sandbox of its own, which loses a reply now and then.
async fn start_fulfilment(fleet: &mut Fleet, address: &str) {
    let sandbox = fleet.start_another_sandbox(address).await;
    // What it says in its log is there from the time before, too.
    until("fulfilment listens", async || TcpStream::connect(address).await).await;
    sandbox.fault(json!({ "service": "fulfilment", "lost_reply": true, "share": 0.05 })).await;
}

/// Refusals, and errors, so that a service is called again, and now and then to no avail.
async fn make_trouble(fleet: &Fleet) {
    fleet.sandbox.fault(json!({ "service": "inventory", "refuse_sku": REFUSED })).await;
    fleet.sandbox.fault(json!({ "service": "accounting", "error_rate": 0.3 })).await;
}

/// With a guard, as all processes of a fleet: it ends with the test, however that ends.
fn start_signal(fleet: &Fleet, address: &str) -> Process {
    let command = fleet.cli(&["fleet", "signal", "--listen", address, "--config", "orderfleet.toml"]);
    let launch = Launch {
        name: "signal",
        command: command.as_std(),
        log: &fleet.folder().join("signal.log"),
        lock: None,
        orphan_grace: Duration::ZERO,
    };
    Process::start(launch).unwrap()
}

/// Ten requests a second, whatever comes of them.
async fn load(client: Client) {
    let mut every = interval(POST_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for number in 0_u64.. {
        every.tick().await;
        tokio::spawn(ask(client.clone(), number));
    }
}

/// Posts an order; one in 20 is refused by inventory, one breaks a rule, one is cancelled and one is read.
async fn ask(client: Client, number: u64) {
    let body = match number % 20 {
        3 => order_of(REFUSED, 1, "1"),
        7 => json!({ "channel": "retail" }),
        _ => order(),
    };
    let Ok(answer) = client.try_post(0, &format!("load-{number}"), &body).await else { return };
    let Some(id) = answer.json()["order_id"].as_str().map(str::to_owned) else { return };
    match number % 20 {
        11 => drop(client.try_cancel(&id).await),
        13 => drop::<Value>(client.order(&id).await.json()),
        _ => {}
    }
}
