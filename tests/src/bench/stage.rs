//! Everything that runs: a broker and a database of its own, the shop's services, one producer, and workers or bare processes
//! as they are asked for.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use lapin::{
    Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions, QueuePurgeOptions,
    },
    types::FieldTable,
};
use mongodb::{
    Database,
    bson::{Document, doc},
    options::{ClientOptions, ReadConcern},
};
use orderfleet_domain::OrderId;
use orderfleet_native::{Mongo, MongoOptions, RabbitMq, RabbitMqOptions};
use orderfleet_runtime::keys;
use serde_json::Value;
use tokio::{
    time::{sleep, timeout},
    try_join,
};

use super::{
    bare::{Channels, QUEUE},
    bodies::Bodies,
    load::{Answers, Posting},
    report::Accounts,
};
use crate::{Member, SERVICES, fleet::start_sandbox, member};

const ACCOUNT: &str = "demo";
const REGION: &str = "eu1";
/// Database of everything bare.
const BARE: &str = "bare";
/// The queue of fresh orders.
const FRESH: &str = "orders.new.0";
const TAKEN_AT_ONCE: u16 = 1_000;
/// More than any run sells.
const STOCK: &str = "1000000000000";
const LOOK_EVERY: Duration = Duration::from_millis(10);
const COUNT_EVERY: Duration = Duration::from_millis(500);
const READY_WITHIN: Duration = Duration::from_secs(60);
/// With nothing accounted for so long, what is missing is lost.
const PATIENCE: Duration = Duration::from_secs(60);
const PUBLISHED_AT_ONCE: usize = 512;

/// Everything that runs. Dropping it ends all of it.
#[derive(Debug)]
pub(super) struct Stage {
    /// Client for looks, not for load.
    pub(super) http: reqwest::Client,
    pub(super) amqp_url: String,
    /// Of the broker and the database.
    pub(super) versions: (String, String),
    /// Settings of the workers that are started from now on, beside everybody's.
    pub(super) worker_sets: Vec<String>,
    producer: SocketAddr,
    api_key: String,
    services: String,
    mongodb_uri: String,
    mongodb: mongodb::Client,
    folder: PathBuf,
    sets: Vec<String>,
    loads: AtomicU32,
    started: AtomicU32,
    _members: [Member; 2],
    _broker: RabbitMq,
    _database: Mongo,
}

/// Running workers.
#[derive(Debug)]
pub(super) struct Workers {
    members: Vec<Member>,
    /// Where they tell how they are.
    pub(super) urls: Vec<String>,
}

impl Stage {
    /// Starts all but workers in a folder; `sets` goes to every process of the fleet.
    ///
    /// # Errors
    /// When a server does not start.
    pub(super) async fn start(folder: &Path, sets: &[String]) -> anyhow::Result<Self> {
        let broker_options =
            RabbitMqOptions { dead_letter_confirm_timeout: None, ..RabbitMqOptions::default() };
        let database_options = MongoOptions { test_commands: false, ..MongoOptions::default() };
        let (broker_folder, database_folder) = (folder.join("rabbitmq"), folder.join("mongodb"));
        let (broker, database) = try_join!(
            RabbitMq::start(&broker_folder, broker_options),
            Mongo::start(&database_folder, database_options),
        )?;
        let (sandbox, services) =
            start_sandbox(folder, "sandbox", &["--listen", "127.0.0.1:0", "--stock", STOCK]).await;
        let keys_file = folder.join("keys.toml");
        let api_key = keys::create(&keys_file, ACCOUNT, REGION)?;
        let settings = settings(folder, &broker.amqp_url(), &database.uri(), &services, &keys_file);
        fs::write(folder.join("orderfleet.toml"), settings)?;

        let mut producer = Member::start(folder, "producer", &command(folder, "orderfleet-producer", sets));
        let listen = producer.addresses().await.listen.context("a producer listens")?;

        let mut options = ClientOptions::parse(database.uri()).await?;
        options.read_concern = Some(ReadConcern::majority());
        let mongodb = mongodb::Client::with_options(options)?;
        let build_info = mongodb.database("admin").run_command(doc! { "buildInfo": 1 }).await?;
        Ok(Self {
            http: reqwest::Client::builder().tls_certs_only([]).no_proxy().build()?,
            amqp_url: broker.amqp_url(),
            versions: (broker.version().await?, build_info.get_str("version").unwrap_or_default().to_owned()),
            worker_sets: Vec::new(),
            producer: listen,
            api_key,
            services,
            mongodb_uri: database.uri(),
            mongodb,
            folder: folder.to_owned(),
            sets: sets.to_vec(),
            loads: AtomicU32::new(0),
            started: AtomicU32::new(0),
            _members: [sandbox, producer],
            _broker: broker,
            _database: database,
        })
    }

    /// Orders for the producer, under keys that no other load has.
    pub(super) fn posting(&self, bodies: &Arc<Bodies>) -> Posting {
        self.posting_to(self.producer, bodies)
    }

    /// As [`Stage::posting`], for whoever listens there.
    pub(super) fn posting_to(&self, address: SocketAddr, bodies: &Arc<Bodies>) -> Posting {
        let load = self.loads.fetch_add(1, Ordering::Relaxed);
        let (bodies, api_key) = (Arc::clone(bodies), self.api_key.clone());
        Posting { address, api_key, bodies, name: format!("load-{load}"), first: 0 }
    }

    /// Starts one worker on a database, and does not wait for anything.
    pub(super) fn begin_worker(&self, database: &str) -> Member {
        let sets = [&self.sets[..], &self.worker_sets, &[format!("database.name={database}")]].concat();
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let command = command(&self.folder, "orderfleet-worker", &sets);
        Member::start(&self.folder, &format!("worker-{number}"), &command)
    }

    /// Starts workers on a database and waits until they are ready.
    ///
    /// # Errors
    /// When one does not become ready.
    pub(super) async fn workers(&self, database: &str, count: usize) -> anyhow::Result<Workers> {
        let mut workers = Workers { members: Vec::new(), urls: Vec::new() };
        for _ in 0..count {
            workers.members.push(self.begin_worker(database));
        }
        for member in &mut workers.members {
            workers.urls.push(format!("http://{}", member.addresses().await.admin));
        }
        let begun = Instant::now();
        for url in &workers.urls {
            while !self.http.get(format!("{url}/readyz")).send().await?.status().is_success() {
                ensure!(begun.elapsed() < READY_WITHIN, "a worker is not ready");
                sleep(LOOK_EVERY).await;
            }
        }
        Ok(workers)
    }

    /// Starts a bare process. It ends when it is dropped.
    pub(super) fn bare(&self, mode: &str, arguments: &[&str]) -> Member {
        let mut command = member::command("orderfleet-bare");
        command.arg(mode);
        if mode != "write" {
            command.args(["--amqp-url", &self.amqp_url]);
        }
        if ["write", "pipeline"].contains(&mode) {
            command.args(["--mongodb-uri", &self.mongodb_uri, "--database", BARE]);
        }
        if mode == "pipeline" {
            command.args(["--services", &self.services]);
        }
        command.args(arguments);
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        Member::start(&self.folder, &format!("bare-{mode}-{number}"), &command)
    }

    /// Fills the bare queue.
    ///
    /// # Errors
    /// When a message is not confirmed.
    pub(super) async fn fill_bare(&self, bodies: &Bodies, orders: u32) -> anyhow::Result<()> {
        let channels = Channels::open(&self.amqp_url).await?;
        let load = self.loads.fetch_add(1, Ordering::Relaxed);
        let (channels, ids) = (&channels, |number: u32| format!("bare-{load}-{number}"));
        let published = stream::iter(0..orders)
            .map(|number| async move { channels.publish(&ids(number), &bodies.of(number)).await });
        published.buffer_unordered(PUBLISHED_AT_ONCE).try_collect().await
    }

    /// Takes every fresh order out of its queue; returns their ids.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub(super) async fn take_queued(&self) -> anyhow::Result<HashSet<String>> {
        let connection = Connection::connect(&self.amqp_url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let declared = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let queue = channel.queue_declare(FRESH.into(), declared, FieldTable::default()).await?;
        channel.basic_qos(TAKEN_AT_ONCE, BasicQosOptions { global: false }).await?;
        let options = BasicConsumeOptions { no_local: false, no_ack: false, exclusive: true, nowait: false };
        let mut orders =
            channel.basic_consume(FRESH.into(), "".into(), options, FieldTable::default()).await?;
        let mut taken = HashSet::new();
        for number in 1..=queue.message_count() {
            let order = timeout(PATIENCE, orders.next()).await.context("an order does not come")?;
            let order = order.context("the broker delivers no more")??;
            taken.extend(order.properties.message_id().as_ref().map(ToString::to_string));
            if number % u32::from(TAKEN_AT_ONCE / 4) == 0 || number == queue.message_count() {
                order.ack(BasicAckOptions { multiple: true }).await?;
            }
        }
        connection.close(200, "done".into()).await?;
        Ok(taken)
    }

    /// Takes away what bare processes have left: messages and documents.
    ///
    /// # Errors
    /// When broker or database do not answer.
    pub(super) async fn clear_bare(&self) -> anyhow::Result<()> {
        let connection = Connection::connect(&self.amqp_url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.queue_purge(QUEUE.into(), QueuePurgeOptions { nowait: false }).await?;
        connection.close(200, "done".into()).await?;
        self.drop_database(BARE).await
    }

    /// A database of this run.
    pub(super) fn database(&self, name: &str) -> Database {
        self.mongodb.database(name)
    }

    /// Removes a database.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) async fn drop_database(&self, name: &str) -> anyhow::Result<()> {
        Ok(self.mongodb.database(name).drop().await?)
    }

    /// Sets the rules by which the services misbehave; none heals them.
    ///
    /// # Errors
    /// When they are not taken.
    pub(super) async fn misbehave(&self, rules: &[Value]) -> anyhow::Result<()> {
        let answer = self.http.put(format!("{}/faults", self.services)).json(rules).send().await?;
        ensure!(answer.status().is_success(), "the sandbox refuses {rules:?}");
        Ok(())
    }

    /// The id of an order, as every producer derives it.
    ///
    /// # Errors
    /// Never: the parts are well-formed.
    pub(super) fn order_id(key: &str) -> anyhow::Result<String> {
        Ok(OrderId::derive(&REGION.parse()?, &ACCOUNT.parse()?, &key.parse()?).to_string())
    }

    /// Waits until each accepted order of these loads has ended or is held, and counts them. What is in the database and was
    /// not accepted is left alone: its client was told that it may execute.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn account(
        &self,
        database: &str,
        loads: &[(&Posting, &Answers)],
    ) -> anyhow::Result<Accounts> {
        let numbers = |(posting, answers): &(&Posting, &Answers)| {
            answers.accepted.iter().map(|number| Self::order_id(&posting.key(*number))).collect::<Vec<_>>()
        };
        let ids: Vec<String> = loads.iter().flat_map(numbers).collect::<Result<_, _>>()?;
        let (mut before, mut moved) = (0, Instant::now());
        loop {
            let ends = self.ends(database).await?;
            let mut accounts = Accounts { accepted: ids.len() as u64, ..Accounts::default() };
            for id in &ids {
                match ends.get(id).map(String::as_str) {
                    Some("DONE") => accounts.done += 1,
                    Some("UNDONE") => accounts.undone += 1,
                    Some(_) => accounts.held += 1,
                    None => accounts.missing += 1,
                }
            }
            let ended = accounts.accepted - accounts.missing;
            if ended > before {
                (before, moved) = (ended, Instant::now());
            }
            if accounts.missing == 0 || moved.elapsed() > PATIENCE {
                return Ok(accounts);
            }
            sleep(COUNT_EVERY).await;
        }
    }

    /// The phase of every posted order that has ended or is held, by id.
    async fn ends(&self, database: &str) -> anyhow::Result<HashMap<String, String>> {
        let ended = doc! { "$or": [{ "phase": { "$in": ["DONE", "UNDONE"] } }, { "hold": { "$ne": null } }] };
        let orders = self.database(database).collection::<Document>("orders");
        let found = orders.find(doc! { "account": ACCOUNT, "$and": [ended] }).projection(doc! { "phase": 1 });
        let mut found = found.batch_size(10_000).await?;
        let mut ends = HashMap::new();
        while let Some(order) = found.try_next().await? {
            ends.insert(order.get_str("_id")?.to_owned(), order.get_str("phase")?.to_owned());
        }
        Ok(ends)
    }
}

impl Workers {
    /// Those that have been started by themselves.
    pub(super) fn of(members: Vec<Member>) -> Self {
        Self { members, urls: Vec::new() }
    }

    /// Stops them in order.
    ///
    /// # Errors
    /// When one does not end as it should.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        for member in &mut self.members {
            let code = member.terminate().await;
            ensure!(code == Some(0), "{} ended with {code:?}:\n{}", member.name(), member.last_lines());
        }
        Ok(())
    }
}

/// A process of the fleet, on the settings file in the folder.
fn command(folder: &Path, program: &str, sets: &[String]) -> std::process::Command {
    let mut command = member::command(program);
    command.arg("--config").arg(folder.join("orderfleet.toml"));
    for set in sets {
        command.args(["--set", set]);
    }
    command
}

/// Everything at its default but where things are.
fn settings(folder: &Path, amqp_url: &str, mongodb_uri: &str, services: &str, keys_file: &Path) -> String {
    let (keys_file, acceptance_log) = (keys_file.display(), folder.join("accepted.jsonl"));
    let mut text = format!(
        "[broker]\nurl = '{amqp_url}'\n[database]\nuri = '{mongodb_uri}'\n[telemetry]\nformat = 'json'\n\
         [producer]\nlisten = '127.0.0.1:0'\nadmin_listen = '127.0.0.1:0'\nkeys_file = '{keys_file}'\n\
         acceptance_log = '{}'\n[worker]\nadmin_listen = '127.0.0.1:0'\n",
        acceptance_log.display()
    );
    for step in SERVICES {
        let _ = writeln!(text, "[[steps]]\nname = '{step}'\nurl = '{services}/{step}/steps'");
    }
    text
}
