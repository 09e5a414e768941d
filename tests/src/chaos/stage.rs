//! The fleet under chaos: a broker and a three-member database of its own, the services, a fault proxy on every hop, and
//! supervised producers, workers and a query service.

mod parts;
mod settings;

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::future::try_join_all;
use orderfleet_native::{MongoSet, MongoSetOptions, Ports, RabbitMq, RabbitMqOptions};
use orderfleet_runtime::keys;
use serde_json::{Value, json};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
    try_join,
};

use crate::{
    Broker, Member, Sandbox,
    chaos::{
        Links, Shop, Witness,
        bodies::{NOT_BOOKED, NOT_SHIPPED},
        links::Route,
        stage::parts::Start,
        supervised::Supervised,
    },
    fleet::start_sandbox,
};

/// How many producers there are.
pub const PRODUCERS: usize = 2;
const DATABASE: &str = "chaos";
/// Gets every domain event from before the first order on.
pub(super) const EVENTS: &str = "chaos.events";
const LONG_WAITS: &str = r"^orders\.wait\.(30s|2m|10m|1h)$";
const LONG_WAIT_MS: u32 = 8_000;
const SHOPS: [(&str, &str); 3] = [("acme", "eu1"), ("bolt", "eu1"), ("crate", "us1")];
const REQUEST_TIMEOUT: Duration = Duration::from_secs(6);
/// How long whatever steers the run waits for an answer, on a busy machine too.
const CONTROL_WITHIN: Duration = Duration::from_secs(30);
const READY_WITHIN: Duration = Duration::from_secs(90);
/// Of one answer: a process that is stopped gives none.
const READY_ANSWER_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What a service promises to take at most from SIGTERM to its exit, and some seconds for a busy machine.
const STOP_GRACE: Duration = Duration::from_secs(25);

pub use parts::{OtherPrograms, Parts, WORKERS};

/// Everything that runs. Dropping it ends all of it.
#[derive(Debug)]
pub struct Stage {
    /// Producers, workers and the query service.
    pub parts: Parts,
    /// The broker; whoever does something to it holds the lock meanwhile.
    pub broker: Mutex<RabbitMq>,
    /// The database; likewise.
    pub database: Mutex<MongoSet>,
    /// The shop's services. Nobody harms the process: it is the witness.
    pub sandbox: Sandbox,
    /// Held while the services misbehave.
    pub misbehaving: Mutex<()>,
    /// Held while a process is replaced by that of another build.
    pub replacing: Mutex<()>,
    /// Held while a worker's clock is wrong.
    pub misdated: Mutex<()>,
    /// The fault proxies.
    pub links: Links,
    /// Who orders.
    pub shops: Vec<Shop>,
    /// The database as it is, whatever lies between it and the fleet.
    pub witness: Witness,
    /// HTTP client of the shops.
    pub clients: reqwest::Client,
    http: reqwest::Client,
    amqp_url: String,
    _sandbox: Member,
}

impl Stage {
    /// Starts everything in a folder, with other programs than those of this build where they are told, and waits until it is
    /// ready.
    ///
    /// # Errors
    /// When a part cannot be started or is not ready in time.
    pub async fn start(folder: &Path, others: &OtherPrograms) -> anyhow::Result<Self> {
        let client = |timeout| reqwest::Client::builder().tls_certs_only([]).no_proxy().timeout(timeout);
        // Apart from each other, so that what steers the run does not queue behind the load. It keeps no idle connections: a
        // request that comes at the moment when the other side closes one would be reset.
        let clients = client(REQUEST_TIMEOUT).build()?;
        let http = client(CONTROL_WITHIN).pool_max_idle_per_host(0).build()?;
        let (broker_folder, database_folder) = (folder.join("rabbitmq"), folder.join("mongodb"));
        let (broker, mut database) = try_join!(
            RabbitMq::start(&broker_folder, RabbitMqOptions::default()),
            MongoSet::start_members(&database_folder, MongoSetOptions::default()),
        )?;
        let ledgers = folder.join("ledgers").display().to_string();
        let sandbox_flags = ["--listen", "127.0.0.1:0", "--data", &ledgers];
        let (sandbox_member, sandbox_url) = start_sandbox(folder, "sandbox", &sandbox_flags).await;

        let mut ports = Ports::open(&folder.join("ports"))?;
        let mut listens = Vec::new();
        for number in 0..PRODUCERS {
            listens.push(address(&mut ports, &format!("producer-{number}"))?);
        }
        let routes = routes(&mut ports, &broker, &database, &sandbox_url, &listens)?;
        let links = Links::start(folder, &http, routes).await?;
        let members = [0, 1, 2].map(|member| links.listen(&format!("database-{member}")));
        database.initiate(members).await.context("initiate the replica set through the proxies")?;

        let keys_file = folder.join("keys.toml");
        let shops = SHOPS.iter().map(|(account, region)| shop(&keys_file, account, region));
        let shops = shops.collect::<anyhow::Result<_>>()?;
        let config = folder.join("orderfleet.toml");
        let downstream = links.listen("worker-downstream");
        fs::write(&config, settings::text(DATABASE, &database.uri(), downstream, &keys_file))?;
        let start = Start {
            folder,
            config: &config,
            links: &links,
            ports: &mut ports,
            others,
            crashing: Arc::default(),
        };
        let parts = start.parts(&listens)?;
        let stage = Self {
            parts,
            amqp_url: broker.amqp_url(),
            witness: Witness::new(database.ports(), DATABASE).await?,
            broker: Mutex::new(broker),
            database: Mutex::new(database),
            sandbox: Sandbox { http: http.clone(), url: sandbox_url },
            misbehaving: Mutex::default(),
            replacing: Mutex::default(),
            misdated: Mutex::default(),
            links,
            shops,
            clients,
            http,
            _sandbox: sandbox_member,
        };
        stage.until_ready().await?;
        stage.misbehave(&[]).await?;
        stage.control().await?.keep(EVENTS, "orders.events", "#").await;
        stage.shorten_long_waits().await.context("the policy of short waits")?;
        Ok(stage)
    }

    /// An order that meets several faults would wait for minutes, and so would the end of the run. Of a queue's own time to live
    /// and that of a policy, the shorter counts.
    async fn shorten_long_waits(&self) -> anyhow::Result<()> {
        let definition = json!({ "message-ttl": LONG_WAIT_MS }).to_string();
        let policy = ["set_policy", "short-waits", LONG_WAITS, &definition, "--apply-to", "queues"];
        self.broker.lock().await.rabbitmqctl(&policy).await?;
        Ok(())
    }

    /// Where clients find the producers: through a proxy each.
    #[must_use]
    pub fn producer_urls(&self) -> Vec<String> {
        (0..PRODUCERS)
            .map(|n| format!("http://{}", self.links.listen(&format!("client-producer-{n}"))))
            .collect()
    }

    /// A connection of its own to the broker, past the proxies.
    ///
    /// # Errors
    /// When there is none within half a minute.
    pub async fn control(&self) -> anyhow::Result<Broker> {
        let deadline = Instant::now() + CONTROL_WITHIN;
        loop {
            match Broker::try_connect(&self.amqp_url, "").await {
                Ok(broker) => return Ok(broker),
                Err(error) if Instant::now() > deadline => return Err(error).context("the broker"),
                Err(_) => sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Sets the rules by which the services misbehave: those of the whole run, then these. Returns nothing of the earlier
    /// ones.
    ///
    /// # Errors
    /// When the sandbox does not take them.
    pub async fn misbehave(&self, rules: &[Value]) -> anyhow::Result<()> {
        let always = [
            json!({ "service": "fulfilment", "refuse_sku": NOT_SHIPPED }),
            json!({ "service": "accounting", "refuse_sku": NOT_BOOKED }),
        ];
        let rules: Vec<_> = always.iter().chain(rules).collect();
        let url = format!("{}/faults", self.sandbox.url);
        let answer = self.http.put(url).json(&rules).send().await.context("the sandbox's fault rules")?;
        anyhow::ensure!(answer.status().is_success(), "{rules:?}: {}", answer.text().await?);
        Ok(())
    }

    /// Stops the workers in order and for good; returns those that did not end as they should.
    ///
    /// # Errors
    /// When the operating system cannot say how one ended.
    pub async fn stop_workers(&self) -> anyhow::Result<Vec<String>> {
        let stop = async |worker: &Supervised| {
            let code = worker.stop(STOP_GRACE).await?;
            anyhow::Ok((code != Some(0)).then(|| format!("{} ended with {code:?} at SIGTERM", worker.name())))
        };
        let ends = try_join_all(self.parts.workers.iter().map(stop)).await?;
        Ok(ends.into_iter().flatten().collect())
    }

    /// Waits until every process says that it is ready.
    ///
    /// # Errors
    /// When one is not in time; the error holds what it says.
    pub async fn until_ready(&self) -> anyhow::Result<()> {
        try_join_all(self.parts.all().map(|part| self.until_one_is_ready(part))).await.map(drop)
    }

    /// As [`Stage::until_ready`], for one process.
    ///
    /// # Errors
    /// When it is not in time; the error holds what it says.
    pub async fn until_one_is_ready(&self, part: &Supervised) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        let url = format!("http://{}/readyz", part.admin());
        loop {
            let said = match self.http.get(&url).timeout(READY_ANSWER_WITHIN).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => answer.text().await.unwrap_or_default(),
                Err(error) => error.to_string(),
            };
            anyhow::ensure!(Instant::now() < deadline, "{} is not ready: {said}", part.name());
            sleep(LOOK_EVERY).await;
        }
    }

    /// The sum of a process's metrics whose line begins with `name` and holds `label`; `None` while it does not answer.
    pub async fn metric(&self, part: &Supervised, name: &str, label: &str) -> Option<f64> {
        let url = format!("http://{}/metrics", part.admin());
        let answer = self.http.get(url).timeout(READY_ANSWER_WITHIN).send().await.ok()?.text().await.ok()?;
        let lines = answer.lines().filter(|line| line.starts_with(name) && line.contains(label));
        Some(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
    }
}

fn routes(
    ports: &mut Ports,
    broker: &RabbitMq,
    database: &MongoSet,
    sandbox_url: &str,
    producers: &[SocketAddr],
) -> anyhow::Result<Vec<Route>> {
    let amqp_url = broker.amqp_url();
    let amqp = amqp_url.split(['@', '/']).nth(3).context("an AMQP URL has an address")?.parse()?;
    let downstream = sandbox_url.trim_start_matches("http://").parse()?;
    let mut targets = vec![
        ("producer-broker".to_owned(), amqp),
        ("worker-broker".to_owned(), amqp),
        ("worker-downstream".to_owned(), downstream),
    ];
    targets.extend((0..).zip(producers).map(|(n, address)| (format!("client-producer-{n}"), *address)));
    let member = |(n, port): (u32, u16)| (format!("database-{n}"), SocketAddr::from(([127, 0, 0, 1], port)));
    targets.extend((0..).zip(database.ports()).map(member));
    let route = |(name, target): (String, SocketAddr)| {
        Ok(Route { listen: address(ports, &format!("link-{name}"))?, name, target })
    };
    targets.into_iter().map(route).collect()
}

fn address(ports: &mut Ports, name: &str) -> anyhow::Result<SocketAddr> {
    Ok(SocketAddr::from(([127, 0, 0, 1], ports.take(name)?)))
}

fn shop(keys_file: &Path, account: &str, region: &str) -> anyhow::Result<Shop> {
    let api_key = keys::create(keys_file, account, region)?;
    Ok(Shop { account: account.to_owned(), region: region.to_owned(), api_key })
}
