//! Stateless saga workers: consume orders, run the saga core, perform its effects on the real world.
//!
//! What to do is decided by [`orderfleet_domain::saga`]; this crate only does it.

mod downstream;
mod driver;
mod messages;
mod settings;
mod sweep;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusHandle;
use orderfleet_domain::{
    StepName,
    saga::{Lane, Policy, WorkerId},
};
use orderfleet_messaging::{Consumer, Delays, Observer, Publisher, Subscription, Topology};
use orderfleet_runtime::{
    admin::{self, Health},
    http,
};
use orderfleet_storage::{DatabaseSettings, Store};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use settings::{Role, Settings, WorkerSettings};

use crate::{downstream::Downstreams, driver::Driver, sweep::Sweeper};

/// From the request to drain to the exit, which takes a moment more: within 20 s in all. What is not handled by then stays
/// unacked and is delivered to others.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(18);
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// A dependency check may take its own timeouts; without one for so long the process is stuck.
const CHECK_STALLS_AFTER: Duration = Duration::from_secs(60);
/// The consumer's supervisor looks after its session at least this often, a reconnect included.
const CONSUMER_STALLS_AFTER: Duration = Duration::from_secs(60);

/// Works until the token is cancelled and what was in hand is handled, within 20 s.
///
/// # Errors
/// Wrong settings, an address that is taken, a broker whose topology differs from the declared one, or a database that
/// cannot be used. A broker or database that is down is waited for.
pub async fn run(
    settings: Settings,
    metrics: PrometheusHandle,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Settings { broker, database, worker, steps, .. } = settings;
    worker.check()?;
    let policy = Policy::new(steps, i64::from(worker.lease_s) * 1_000)?;
    let downstreams = Downstreams::new(&policy)?;
    let health = Health::new(&["consumer", "database", "publisher"]);
    let listener = http::bind("worker.admin_listen", worker.admin_listen).await?;
    let id = worker_id()?;
    tracing::info!(worker.id = id.0, admin_listen = %listener.local_addr()?, "worker is starting");
    // Served until the very end, so that a draining worker can still be looked at.
    let admin =
        tokio::spawn(http::serve(listener, admin::routes(&health, metrics), CancellationToken::new()));

    let last_step = policy.last_step().clone();
    let topology =
        Topology::new(&broker.prefix, broker.partitions, broker.new_bytes_max, &policy.step_names());
    let connecting = async {
        let store = connect_store(&database).await?;
        let publisher =
            Publisher::connect(&broker, topology.clone(), "orderfleet-worker").await.context("RabbitMQ")?;
        anyhow::Ok((store, publisher))
    };
    let (store, publisher) = tokio::select! {
        connected = connecting => connected?,
        () = shutdown.cancelled() => return Ok(()),
    };
    tokio::spawn(watch_dependencies(store.clone(), publisher.clone(), Arc::clone(&health)));

    if worker.has(Role::Sweep) {
        let sweeper =
            Sweeper::new(store.clone(), publisher.clone(), Duration::from_secs(worker.sweep_every_s.into()));
        tokio::spawn(sweeper.run(shutdown.clone()));
    }
    let driver = Arc::new(Driver::new(store, publisher, downstreams, policy, id, shutdown.clone()));
    let consumer = Consumer {
        settings: broker,
        subscriptions: subscriptions(&worker, topology.partitions(), &last_step),
        topology,
        name: "orderfleet-worker".into(),
    };
    consume(&consumer, driver, health, shutdown).await?;
    admin.abort();
    Ok(())
}

async fn consume(
    consumer: &Consumer,
    driver: Arc<Driver>,
    health: Arc<Health>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    if consumer.subscriptions.is_empty() {
        health.ready("consumer");
        shutdown.cancelled().await;
        return Ok(());
    }
    let handle = move |delivery| {
        let driver = Arc::clone(&driver);
        async move { driver.handle(delivery).await }
    };
    let observer = ConsumerHealth(health);
    let deadline = async {
        shutdown.cancelled().await;
        observer.0.not_ready("consumer", "draining");
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        consumed = consumer.run(&observer, shutdown.clone(), handle) => consumed.context("RabbitMQ")?,
        () = deadline => tracing::warn!("deliveries were still in hand after {} s; others will get them", DRAIN_TIMEOUT.as_secs()),
    }
    Ok(())
}

/// Live orders share their permits; replays and quarantine have a few of their own, so that neither can crowd them out.
fn subscriptions(worker: &WorkerSettings, partitions: u16, any_step: &StepName) -> Vec<Subscription> {
    let live = Arc::new(Semaphore::new(worker.concurrency.into()));
    let few = (worker.concurrency / 8).max(1);
    let mut subscriptions = Vec::new();
    let mut subscribe = |lane, prefetch, permits: &Arc<Semaphore>| {
        subscriptions.push(Subscription { lane, prefetch, permits: Arc::clone(permits) });
    };
    if worker.has(Role::Forward) {
        for partition in 0..partitions {
            subscribe(Lane::New(partition), worker.prefetch, &live);
        }
        subscribe(Lane::Retry, worker.prefetch, &live);
        subscribe(Lane::Replay, few, &Arc::new(Semaphore::new(few.into())));
        subscribe(Lane::Quarantine, 1, &Arc::new(Semaphore::new(1)));
    }
    if worker.has(Role::Compensate) {
        let permits = Arc::new(Semaphore::new(worker.concurrency.into()));
        // One queue serves every step; a delivery's routing key says which.
        subscribe(Lane::Compensate(any_step.clone()), worker.prefetch, &permits);
    }
    subscriptions
}

fn worker_id() -> anyhow::Result<WorkerId> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).context("no randomness from the operating system")?;
    Ok(WorkerId(format!("{:016x}", u64::from_be_bytes(bytes))))
}

async fn connect_store(settings: &DatabaseSettings) -> anyhow::Result<Store> {
    let mut delays = Delays::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        let connected = async {
            let store = Store::connect(settings, "orderfleet-worker").await?;
            store.prepare().await?;
            Ok(store)
        };
        match connected.await {
            Ok(store) => return Ok(store),
            Err(error @ orderfleet_storage::StoreError::Uri(_)) => return Err(error).context("MongoDB"),
            Err(error) if error.is_lasting() => return Err(error).context("MongoDB"),
            Err(error) => {
                tracing::warn!(error = format!("{:#}", anyhow::Error::from(error)), "waiting for MongoDB");
                tokio::time::sleep(delays.next_delay()).await;
            }
        }
    }
}

async fn watch_dependencies(store: Store, publisher: Publisher, health: Arc<Health>) {
    let mut every = tokio::time::interval(CHECK_EVERY);
    loop {
        every.tick().await;
        match store.ping().await {
            Ok(()) => health.ready("database"),
            Err(error) => health.not_ready("database", error.to_string()),
        }
        match publisher.check().await {
            Ok(()) => health.ready("publisher"),
            Err(why) => health.not_ready("publisher", why),
        }
        health.beat("dependency checks", CHECK_STALLS_AFTER);
    }
}

struct ConsumerHealth(Arc<Health>);

impl Observer for ConsumerHealth {
    fn subscribed(&self) {
        self.0.ready("consumer");
        self.alive();
    }

    fn lost(&self, why: &str) {
        metrics::counter!("orderfleet_subscriptions_lost_total").increment(1);
        self.0.not_ready("consumer", why);
        self.alive();
    }

    fn alive(&self) {
        self.0.beat("consumer", CONSUMER_STALLS_AFTER);
    }
}

/// Seconds since an instant, into a histogram.
fn record_since(name: &'static str, labels: Vec<metrics::Label>, started: Instant) {
    metrics::histogram!(name, labels).record(started.elapsed());
}
