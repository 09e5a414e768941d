//! Thin HTTP ingest: an order or a cancel in, one confirmed message out. Knows no database.

mod acceptance;
mod body;
mod cancel;
mod confirm;
mod ingest;
mod meters;
mod parse;
mod settings;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::middleware::from_fn;
use orderfleet_domain::saga::Policy;
use orderfleet_messaging::{Publisher, Topology};
use orderfleet_runtime::{
    admin::{self, Health},
    http::{self, Limits},
    keys::KeyRing,
    telemetry::Telemetry,
};
use tokio_util::sync::CancellationToken;

pub use settings::{ProducerSettings, Settings};

use crate::{acceptance::AcceptanceLog, ingest::Ingest};

const CHECK_BROKER_EVERY: Duration = Duration::from_secs(1);
/// The broker check may wait for a connect and a topology assertion; without one for so long the process is stuck.
const CHECK_STALLS_AFTER: Duration = Duration::from_secs(60);

/// Serves until the token is cancelled and requests in flight have been answered.
///
/// # Errors
/// Wrong settings, a key file that cannot be used, an address that is taken, or a broker whose topology differs from the
/// declared one. A broker that is down is waited for.
pub async fn run(
    settings: Settings,
    telemetry: Telemetry,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Settings { broker, producer, steps, .. } = settings;
    producer.check(&broker)?;
    let policy = Policy::new(steps, 0)?;
    let keys = KeyRing::load(&producer.keys_file)?;
    let acceptance = AcceptanceLog::open(&producer.acceptance_log)
        .await
        .with_context(|| format!("setting producer.acceptance_log = {}", producer.acceptance_log))?;
    let health = Health::new(&["broker"]);
    meters::begin();
    let admin_listener = http::bind("producer.admin_listen", producer.admin_listen)?;
    let admin_listen = admin_listener.local_addr()?;
    // Served until the very end, so that a draining producer can still be looked at.
    tokio::spawn(http::serve(admin_listener, admin::routes(&health, telemetry), CancellationToken::new()));

    let topology =
        Topology::new(&broker.prefix, broker.partitions, broker.new_bytes_max, &policy.step_names());
    let connecting = Publisher::connect(&broker, topology, "orderfleet-producer");
    let publisher = tokio::select! {
        connected = connecting => connected.context("RabbitMQ")?,
        () = shutdown.cancelled() => return Ok(()),
    };
    // Only now: until there is a broker, a client is better off with a refused connection than with a silent one.
    let listener = http::bind("producer.listen", producer.listen)?;
    tokio::spawn(watch_broker(publisher.clone(), Arc::clone(&health), shutdown.clone()));

    tracing::info!(listen = %listener.local_addr()?, %admin_listen, keys = keys.current().len(), "producer is up");
    let limits = Limits {
        concurrency_max: producer.concurrency_max,
        request_timeout: Duration::from_millis(producer.request_timeout_ms),
    };
    tokio::spawn(Arc::clone(&keys).keep_fresh());
    let ingest = Ingest::new(keys, publisher, acceptance, &producer);
    let counted = http::limited(ingest.routes(), limits).layer(from_fn(meters::count));
    let router = counted.merge(admin::public_health_routes(&health));
    http::serve(listener, router, shutdown).await;
    Ok(())
}

async fn watch_broker(publisher: Publisher, health: Arc<Health>, shutdown: CancellationToken) {
    let mut every = tokio::time::interval(CHECK_BROKER_EVERY);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = shutdown.cancelled() => return health.not_ready("broker", "draining"),
        }
        match publisher.check().await {
            Ok(()) => health.ready("broker"),
            Err(why) => health.not_ready("broker", why),
        }
        health.beat("broker check", CHECK_STALLS_AFTER);
    }
}
