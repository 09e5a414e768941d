//! A fleet of its own for one test: sandbox, query service, producers and workers on names nobody else uses.

mod crashing;
mod harming;
mod spreading;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use futures_util::TryStreamExt as _;
use mongodb::{
    Collection,
    bson::{Document, doc},
};
use orderfleet_native::{Services, TempFolder};
use orderfleet_runtime::keys;
use reqwest::Method;

use crate::{
    Answer, Broker, Client, Member, Plan, Sandbox, cleanup::Leftovers, member, plan::Surroundings, until,
    until_equal,
};

const PRODUCER: &str = "orderfleet-producer";
const QUERY: &str = "orderfleet-query";
const WORKER: &str = "orderfleet-worker";
const SANDBOX: &str = "orderfleet-sandbox";
const LISTENS: &str = "sandbox listening on ";
/// No request of a test waits longer, so that a test fails with a message.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A running fleet. Dropping it ends its processes and removes its queues and its database.
#[derive(Debug)]
pub struct Fleet {
    /// The client of the account `demo`.
    pub client: Client,
    /// The client of another account.
    pub stranger: Client,
    /// The services of the shop.
    pub sandbox: Sandbox,
    /// The workers, in the order they were started.
    pub workers: Vec<Member>,
    /// Everything else.
    pub others: Vec<Member>,
    worker_admins: Vec<String>,
    /// Of the producers and the query service, by what they are.
    other_admins: Vec<(&'static str, String)>,
    amqp_url: String,
    mongodb_uri: String,
    prefix: String,
    database: String,
    leftovers: Leftovers,
    folder: TempFolder,
}

impl Fleet {
    /// Starts one producer and one worker.
    pub async fn start() -> Self {
        Self::start_as(Plan::default()).await
    }

    /// Starts a fleet and waits until every part of it is ready.
    ///
    /// # Panics
    /// When a part does not become ready; the message holds the end of its log.
    pub async fn start_as(plan: Plan) -> Self {
        static FLEETS: AtomicU32 = AtomicU32::new(0);
        let number = FLEETS.fetch_add(1, Ordering::Relaxed);
        let folder = TempFolder::new().unwrap();
        let (amqp_url, mongodb_uri) = addresses(&plan).await;
        let prefix = format!("it-{}-{number}.", process::id());
        let database = format!("it_{}_{number}", process::id());
        let keys_file = folder.path().join("keys.toml");
        let [key, foreign_key] = ["demo", "other"].map(|who| keys::create(&keys_file, who, "eu1").unwrap());

        let (sandbox_member, sandbox_url) =
            start_sandbox(folder.path(), "sandbox", &["--listen", "127.0.0.1:0"]).await;
        let settings = folder.path().join("orderfleet.toml");
        let text = plan.settings(&Surroundings {
            amqp_url: &amqp_url,
            mongodb_uri: &mongodb_uri,
            prefix: &prefix,
            database: &database,
            keys_file: &keys_file,
            sandbox_url: &sandbox_url,
        });
        fs::write(&settings, text).unwrap();

        let http = reqwest::Client::builder()
            .tls_certs_only([])
            .no_proxy()
            .timeout(REQUEST_TIMEOUT)
            // Every process closes idle connections after a time, and a request that comes at that moment would be reset.
            .pool_max_idle_per_host(0)
            .build()
            .unwrap();
        let client = Client { http: http.clone(), producer_urls: Vec::new(), query_url: String::new(), key };
        let leftovers = Leftovers {
            amqp_url: plan.amqp_url.is_none().then(|| amqp_url.clone()),
            prefix: prefix.clone(),
            mongodb_uri: mongodb_uri.clone(),
            database: database.clone(),
        };
        let mut fleet = Self {
            stranger: client.with_key(&foreign_key),
            client,
            sandbox: Sandbox { http, url: sandbox_url },
            workers: Vec::new(),
            others: vec![sandbox_member],
            worker_admins: Vec::new(),
            other_admins: Vec::new(),
            amqp_url,
            mongodb_uri,
            prefix,
            database,
            leftovers,
            folder,
        };
        if plan.mongodb_uri.is_none() {
            spreading::over_shards(&fleet.mongodb_uri, &fleet.database).await;
        }
        fleet.start_services(&plan).await;
        fleet
    }

    async fn start_services(&mut self, plan: &Plan) {
        let mut query = self.service("query", QUERY, &[]);
        for number in 0..plan.workers {
            self.workers.push(self.service(&format!("worker-{number}"), WORKER, &[]));
        }
        let addresses = query.addresses().await;
        let query_url = format!("http://{}", addresses.listen.unwrap());
        let mut admins = vec![addresses.admin];
        self.other_admins.push(("query", addresses.admin.to_string()));
        self.others.push(query);

        let mut producer_urls = Vec::new();
        for number in 0..plan.producers {
            let log = self.acceptance_log(number).display().to_string();
            let sets = [format!("producer.order_url={query_url}"), format!("producer.acceptance_log={log}")];
            let mut producer = self.service(&format!("producer-{number}"), PRODUCER, &sets);
            let addresses = producer.addresses().await;
            producer_urls.push(format!("http://{}", addresses.listen.unwrap()));
            admins.push(addresses.admin);
            self.other_admins.push(("producer", addresses.admin.to_string()));
            self.others.push(producer);
        }
        for worker in &mut self.workers {
            let admin = worker.addresses().await.admin;
            self.worker_admins.push(format!("http://{admin}"));
            admins.push(admin);
        }
        for client in [&mut self.client, &mut self.stranger] {
            client.producer_urls.clone_from(&producer_urls);
            client.query_url.clone_from(&query_url);
        }
        for admin in admins {
            self.until_ready(&format!("http://{admin}/readyz")).await;
        }
    }

    fn service(&self, name: &str, program: &str, sets: &[String]) -> Member {
        Member::start(self.folder.path(), name, &self.command(program, sets))
    }

    fn command(&self, program: &str, sets: &[String]) -> Command {
        let mut command = member::command(program);
        command.arg("--config").arg(self.folder.path().join("orderfleet.toml"));
        for set in sets {
            command.args(["--set", set]);
        }
        command
    }

    async fn until_ready(&self, url: &str) {
        until(&format!("{url} is ready"), async || {
            let answer =
                Answer::read(self.client.http.get(url).send().await.map_err(|error| error.to_string())?);
            let answer = answer.await.map_err(|error| error.to_string())?;
            if answer.status == 200 { Ok(()) } else { Err(answer.text) }
        })
        .await;
    }

    /// Starts one more worker and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start_worker(&mut self) {
        let mut worker = self.service(&format!("worker-{}", self.workers.len()), WORKER, &[]);
        let admin = format!("http://{}", worker.addresses().await.admin);
        self.workers.push(worker);
        self.until_ready(&format!("{admin}/readyz")).await;
        self.worker_admins.push(admin);
    }

    /// Where its processes serve `/metrics`, with what they are: `producer`, `query` or `worker`. Workers that have ended are
    /// left out.
    ///
    /// # Panics
    /// When the operating system cannot say whether a worker has ended.
    pub fn metrics_addresses(&mut self) -> Vec<(&'static str, String)> {
        let workers = self.workers.iter_mut().zip(&self.worker_admins);
        let running = workers.filter_map(|(worker, admin)| worker.is_running().then_some(admin));
        let running = running.map(|admin| ("worker", admin.trim_start_matches("http://").to_owned()));
        self.other_admins.iter().cloned().chain(running).collect()
    }

    /// Starts one more sandbox, at an address of the test's choice.
    ///
    /// # Panics
    /// When it cannot listen there.
    pub async fn start_another_sandbox(&mut self, address: &str) -> Sandbox {
        let (member, url) = start_sandbox(self.folder.path(), "sandbox-2", &["--listen", address]).await;
        self.others.push(member);
        Sandbox { http: self.sandbox.http.clone(), url }
    }

    /// The fleet's folder: settings, keys, logs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where a producer writes its acceptance log.
    #[must_use]
    pub fn acceptance_log(&self, producer: usize) -> PathBuf {
        self.folder.path().join(format!("acceptance-{producer}.jsonl"))
    }

    /// Everything that every process of the fleet has logged, by name.
    #[must_use]
    pub fn logs(&self) -> BTreeMap<String, String> {
        self.workers
            .iter()
            .chain(&self.others)
            .map(|member| (member.name().to_owned(), member.log()))
            .collect()
    }

    /// A command of the CLI that is told about this fleet and its key.
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = member::command("orderfleet");
        command.current_dir(self.folder.path()).args(arguments);
        command.env("ORDERFLEET_PRODUCER_URL", &self.client.producer_urls[0]);
        command.env("ORDERFLEET_QUERY_URL", &self.client.query_url);
        command.env("ORDERFLEET_API_KEY", &self.client.key);
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        command
    }

    /// A connection of its own to the fleet's broker.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub async fn broker(&self) -> Broker {
        Broker::connect(&self.amqp_url, &self.prefix).await
    }

    /// How many orders the database holds in a phase.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn stored(&self, phase: &str) -> u64 {
        self.orders().await.count_documents(doc! { "phase": phase }).await.unwrap()
    }

    /// How many deliveries a worker has in hand.
    ///
    /// # Panics
    /// When the worker does not answer.
    pub async fn in_hand(&self, worker: usize) -> u64 {
        let url = format!("{}/metrics", self.worker_admins[worker]);
        let answer = self.client.http.request(Method::GET, url).send().await.unwrap();
        deliveries_in_flight(&Answer::read(answer).await.unwrap().text)
    }

    /// Deliveries that workers have in hand; one that does not answer has none.
    async fn all_in_hand(&self) -> u64 {
        let mut all = 0;
        for admin in &self.worker_admins {
            let url = format!("{admin}/metrics");
            let Ok(answer) = self.client.http.request(Method::GET, url).send().await else { continue };
            all += deliveries_in_flight(&answer.text().await.unwrap_or_default());
        }
        all
    }

    /// Waits until the fleet's queues hold these messages and nothing else, no worker has one in hand, and no order owes a publish.
    ///
    /// # Panics
    /// When it does not come to that.
    pub async fn until_drained(&self, left: &[(&str, u32)]) {
        let (broker, orders) = (self.broker().await, self.orders().await);
        let wanted = (0, depths(left), 0, depths(left));
        until_equal("owed publishes, messages in queues and in hand", wanted, async || {
            let owed = orders.count_documents(doc! { "evp": true }).await.unwrap();
            // The queues twice: what is in hand at the first look may wait in a tier at the second.
            (owed, broker.depths().await, self.all_in_hand().await, broker.depths().await)
        })
        .await;
    }

    /// As [`Fleet::until_drained`], then stops the workers and looks again: what a worker still had in hand would be back
    /// in a queue.
    ///
    /// # Panics
    /// When it does not come to that, or a worker does not end in order.
    pub async fn settle(&mut self, left: &[(&str, u32)]) {
        self.until_drained(left).await;
        self.stop_workers().await;
        assert_eq!(self.broker().await.depths().await, depths(left), "nothing comes back");
    }

    /// Stops the workers that still run.
    ///
    /// # Panics
    /// When one does not end in order.
    pub async fn stop_workers(&mut self) {
        for worker in &mut self.workers {
            if worker.is_running() {
                assert_eq!(worker.terminate().await, Some(0), "{} ends in order", worker.name());
            }
        }
    }

    /// The dead letters in the database, by their ids.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn dead_letters(&self) -> BTreeMap<String, Document> {
        let letters = self.collection("dead_letters").await.find(doc! {}).await.unwrap();
        let letters: Vec<Document> = letters.try_collect().await.unwrap();
        letters.into_iter().map(|letter| (letter.get_str("_id").unwrap().to_owned(), letter)).collect()
    }

    async fn orders(&self) -> Collection<Document> {
        self.collection("orders").await
    }

    async fn collection(&self, name: &str) -> Collection<Document> {
        self.mongodb().await.collection(name)
    }

    /// The fleet's database, of which no more is seen than the fleet and its operators see: what a majority has.
    ///
    /// # Panics
    /// When its address cannot be read.
    pub async fn mongodb(&self) -> mongodb::Database {
        let mut options = mongodb::options::ClientOptions::parse(&self.mongodb_uri).await.unwrap();
        options.read_concern = Some(mongodb::options::ReadConcern::majority());
        mongodb::Client::with_options(options).unwrap().database(&self.database)
    }
}

/// Of broker and database: those of the plan, else those that all tests share.
async fn addresses(plan: &Plan) -> (String, String) {
    if let (Some(amqp_url), Some(mongodb_uri)) = (&plan.amqp_url, &plan.mongodb_uri) {
        return (amqp_url.clone(), mongodb_uri.clone());
    }
    let services = Services::from_env_or_start().await.unwrap();
    let given = |own: &Option<String>, shared: &str| own.as_deref().unwrap_or(shared).to_owned();
    (given(&plan.amqp_url, services.amqp_url()), given(&plan.mongodb_uri, services.mongodb_uri()))
}

fn deliveries_in_flight(metrics: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix("orderfleet_deliveries_in_flight "));
    line.map_or(0, |value| value.parse().unwrap())
}

fn depths(left: &[(&str, u32)]) -> BTreeMap<String, u32> {
    left.iter().map(|(queue, depth)| ((*queue).to_owned(), *depth)).collect()
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let mut members: Vec<_> = self.others.drain(..).chain(self.workers.drain(..)).collect();
        if thread::panicking() {
            for member in &mut members {
                let state = if member.is_running() { "running" } else { "ended" };
                eprintln!("{}, {state}:\n{}", member.name(), member.last_lines());
            }
        }
        drop(members);
        self.leftovers.clone().remove();
    }
}

/// Starts a sandbox with these flags; returns its base address too.
pub(crate) async fn start_sandbox(folder: &Path, name: &str, flags: &[&str]) -> (Member, String) {
    let mut command = member::command(SANDBOX);
    command.args(flags);
    let mut sandbox = Member::start(folder, name, &command);
    let url = sandbox
        .logged("where it listens", |line| line.split_once(LISTENS).map(|(_, url)| url.trim().to_owned()))
        .await;
    (sandbox, url)
}
