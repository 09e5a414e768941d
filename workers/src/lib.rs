//! Stateless saga workers: consume orders, run the saga core, perform its effects on the real world.
//!
//! What to do is decided by [`orderfleet_domain::saga`]; this crate only does it.

mod answer;
mod batch;
mod breaker;
mod bulkhead;
mod dependencies;
mod downstream;
mod driver;
mod figures;
mod heartbeat;
mod hold;
mod load;
mod messages;
mod meters;
mod panics;
mod park;
mod pauses;
mod settings;
mod sweep;
mod trace;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use orderfleet_domain::{
    StepName,
    saga::{Lane, Policy, WorkerId},
};
use orderfleet_messaging::{Consumer, Control, Delays, Delivery, Publisher, Source, Subscription, Topology};
use orderfleet_runtime::{
    admin::{self, Health},
    http,
    telemetry::Telemetry,
};
use orderfleet_storage::{AddressInUse, DatabaseSettings, Store, WorkedQueue};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

pub use settings::{Role, Settings, WorkerSettings};

use crate::{
    dependencies::ConsumerHealth, downstream::Downstreams, driver::Driver, heartbeat::Heart, load::Load,
    meters::Meters, park::Parker, pauses::Pauses, sweep::Sweeper,
};

/// A start that takes longer says what it waits for.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked whether the start is over.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// From the request to drain to the exit, which takes a moment more: within 20 s in all. What is not handled by then stays
/// unacked and is delivered to others.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(18);

/// Works until the token is cancelled and what was in hand is handled, within 20 s.
///
/// # Errors
/// Wrong settings, an address that is taken, a broker whose topology differs from the declared one, or a database that
/// cannot be used. A broker or database that is down is waited for.
pub async fn run(
    settings: Settings,
    telemetry: Telemetry,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Settings { broker, database, worker, steps, .. } = settings;
    worker.check()?;
    panics::tell_by_place();
    let policy = Policy::new(steps, i64::from(worker.lease_s) * 1_000)?;
    let meters = Meters::new(&policy.step_names());
    let downstreams = Arc::new(Downstreams::new(&policy, worker.concurrency)?);
    let health = Health::new(&["consumer", "database", "parking", "publisher"]);
    let listener = http::bind("worker.admin_listen", worker.admin_listen)?;
    let id = worker_id()?;
    tracing::info!(worker.id = id.0, admin_listen = %listener.local_addr()?, "worker is starting");
    // Served until the very end, so that a draining worker can still be looked at.
    let admin =
        tokio::spawn(http::serve(listener, admin::routes(&health, telemetry), CancellationToken::new()));

    let last_step = policy.last_step().clone();
    let topology =
        Topology::new(&broker.prefix, broker.partitions, broker.new_bytes_max, &policy.step_names());
    let (waits_for, waiting_for) = watch::channel(Some("MongoDB"));
    let telling = tokio::spawn(tell_of_waiting(waiting_for, Arc::clone(&health), shutdown.clone()));
    // Both at once: whoever has posted the order that a worker is started for waits.
    let store = async {
        let watched = connect_store(&database).await?;
        waits_for.send_replace(Some("RabbitMQ"));
        anyhow::Ok(watched)
    };
    let publisher = async {
        Publisher::connect(&broker, topology.clone(), "orderfleet-worker").await.context("RabbitMQ")
    };
    let (watched, publisher) = tokio::select! {
        connected = async { tokio::try_join!(store, publisher) } => connected?,
        () = shutdown.cancelled() => return Ok(()),
    };
    waits_for.send_replace(None);
    let store = watched.0.clone();
    let (pause, paused) = watch::channel(false);
    let ending = shutdown.clone();
    tokio::spawn(dependencies::watch(watched, publisher.clone(), Arc::clone(&health), pause, ending));

    let orders = Consumer {
        settings: broker.clone(),
        subscriptions: subscriptions(&worker, topology.partitions(), &last_step),
        topology: topology.clone(),
        name: "orderfleet-worker".into(),
        paused: paused.clone(),
    };
    let dead_letters = Consumer {
        settings: broker,
        subscriptions: if worker.has(Role::Park) { park::subscriptions(&policy) } else { Vec::new() },
        topology,
        name: "orderfleet-worker parking".into(),
        paused,
    };
    let load = Load::new(&orders.subscriptions, &dead_letters.subscriptions);
    let pauses = tokio::select! {
        pauses = obey_pauses(&store, &load, &health) => pauses,
        () = shutdown.cancelled() => return Ok(()),
    };
    let heart = Heart {
        store: store.clone(),
        instance: id.0.clone(),
        roles: worker.roles.clone(),
        load: load.clone(),
        downstreams: Arc::clone(&downstreams),
        pauses: Arc::clone(&pauses),
        draining: shutdown.clone(),
    };
    let ended = CancellationToken::new();
    let beating = tokio::spawn(heart.run(ended.clone()));

    if worker.has(Role::Sweep) {
        let every = Duration::from_secs(worker.sweep_every_s.into());
        let sweeper = Sweeper::new(store.clone(), publisher.clone(), Arc::clone(&pauses), every);
        tokio::spawn(sweeper.run(shutdown.clone()));
    }
    let parker = Arc::new(Parker::new(store.clone(), policy.clone(), shutdown.clone()));
    let driver = Arc::new(Driver {
        store,
        publisher: publisher.clone(),
        downstreams,
        policy,
        worker: id,
        draining: shutdown.clone(),
        pauses,
        load: load.clone(),
        meters,
        handled: AtomicU64::new(0),
    });
    // A connection for each, so that trouble with one is none of the other's.
    tokio::try_join!(
        consume(&orders, ConsumerHealth::new(&health, "consumer"), &shutdown, &load, move |delivery| {
            let driver = Arc::clone(&driver);
            async move { driver.handle(delivery).await }
        }),
        consume(&dead_letters, ConsumerHealth::new(&health, "parking"), &shutdown, &load, move |delivery| {
            let parker = Arc::clone(&parker);
            let publisher = publisher.clone();
            async move { parker.handle(delivery, &publisher).await }
        }),
    )?;
    ended.cancel();
    // A join error means that the task panicked: then the database forgets this worker by itself.
    let _ = beating.await;
    telling.abort();
    admin.abort();
    Ok(())
}

/// Reads the pauses before anything is taken, and keeps up with them from then on.
async fn obey_pauses(store: &Store, load: &Load, health: &Arc<Health>) -> Arc<Pauses> {
    let (pauses, queues) = (Arc::new(Pauses::default()), load.pausable());
    pauses.first_read(store).await;
    pauses.obey(&queues, health);
    tokio::spawn(Arc::clone(&pauses).keep_up(store.clone(), queues, Arc::clone(health)));
    pauses
}

async fn consume<S, F, Handled>(
    consumer: &Consumer<S>,
    observer: ConsumerHealth,
    shutdown: &CancellationToken,
    load: &Load,
    handle: F,
) -> anyhow::Result<()>
where
    S: Source,
    WorkedQueue: for<'a> From<&'a S>,
    F: Fn(Delivery<S>) -> Handled + Clone + Send + 'static,
    Handled: Future<Output = ()> + Send + 'static,
{
    if consumer.subscriptions.is_empty() {
        observer.idle();
        shutdown.cancelled().await;
        return Ok(());
    }
    observer.consuming(0);
    let deadline = async {
        shutdown.cancelled().await;
        observer.draining();
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    let load = load.clone();
    let handle = move |delivery: Delivery<S>| {
        let (queue, load) = (WorkedQueue::from(&delivery.lane), load.clone());
        let span = delivery.span();
        let handled = handle(delivery).instrument(span);
        async move {
            handled.await;
            load.handled(&queue);
        }
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
        let (permits, control) = (Arc::clone(permits), Control::default());
        subscriptions.push(Subscription { lane, prefetch, permits, control });
    };
    if worker.has(Role::Forward) {
        for partition in 0..partitions {
            subscribe(Lane::New(partition), worker.prefetch.div_ceil(partitions), &live);
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

/// Says every few seconds what a start is waiting for, in a task of its own: also when what it waits for says nothing. Once the
/// connections are there, that is whatever is not ready; the start is over when everything is.
async fn tell_of_waiting(
    waiting_for: watch::Receiver<Option<&'static str>>,
    health: Arc<Health>,
    shutdown: CancellationToken,
) {
    let mut told = Instant::now();
    while !shutdown.is_cancelled() && !health.unready().is_empty() {
        tokio::time::sleep(LOOK_EVERY).await;
        if told.elapsed() < TELL_EVERY {
            continue;
        }
        told = Instant::now();
        match *waiting_for.borrow() {
            Some(dependency) => tracing::warn!(waiting_for = dependency, "still starting"),
            None => tracing::warn!(waiting_for = health.unready().trim_end(), "still starting"),
        }
    }
}

async fn connect_store(settings: &DatabaseSettings) -> anyhow::Result<(Store, AddressInUse)> {
    let mut delays = Delays::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        let connected = async {
            let address = AddressInUse::now(settings);
            let store = Store::connect(settings, "orderfleet-worker").await?;
            store.prepare().await?;
            Ok((store, address))
        };
        match connected.await {
            Ok(connected) => return Ok(connected),
            Err(error @ orderfleet_storage::StoreError::Uri(_)) => return Err(error).context("MongoDB"),
            Err(error) if error.is_lasting() => return Err(error).context("MongoDB"),
            Err(error) => {
                tracing::warn!(error = format!("{:#}", anyhow::Error::from(error)), "waiting for MongoDB");
                tokio::time::sleep(delays.next_delay()).await;
            }
        }
    }
}
