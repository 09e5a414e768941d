//! Read side: where an order stands, for the account it belongs to. Never writes.

mod answer;
mod api;
mod meters;
mod settings;
mod steps;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use axum::middleware::from_fn;
use orderfleet_runtime::{
    admin::{self, Health},
    http::{self, Limits},
    keys::KeyRing,
    telemetry::Telemetry,
};
use orderfleet_storage::{AddressInUse, DatabaseSettings, Store};
use tokio_util::sync::CancellationToken;

pub use settings::{QuerySettings, Settings};

use crate::api::Api;

const CHECK_DATABASE_EVERY: Duration = Duration::from_secs(1);
/// A check may wait for a whole call; without one for so long the process is stuck.
const CHECK_STALLS_AFTER: Duration = Duration::from_secs(60);
/// What a request may take beyond its calls to the database.
const REQUEST_SLACK: Duration = Duration::from_secs(1);
/// The order's document, and without one its dead letters.
const CALLS_MAX: u32 = 2;

/// Serves until the token is cancelled and requests in flight have been answered.
///
/// # Errors
/// Wrong settings, a key file that cannot be used, an address that is taken, or a database that can never be used. A
/// database that is down is waited for; until then orders are answered 503.
pub async fn run(
    settings: Settings,
    telemetry: Telemetry,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Settings { database, query, .. } = settings;
    ensure!(
        (1..=65_536).contains(&query.concurrency_max),
        "setting query.concurrency_max: must be between 1 and 65536"
    );
    let keys = KeyRing::load(&query.keys_file)?;
    let health = Health::new(&["database"]);
    meters::begin();
    let admin_listener = http::bind("query.admin_listen", query.admin_listen)?;
    let listener = http::bind("query.listen", query.listen)?;
    let (listen, admin_listen) = (listener.local_addr()?, admin_listener.local_addr()?);
    // Served until the very end, so that a draining service can still be looked at.
    tokio::spawn(http::serve(admin_listener, admin::routes(&health, telemetry), CancellationToken::new()));
    tracing::info!(%listen, %admin_listen, keys = keys.current().len(), "query service is up");

    let limits = Limits {
        concurrency_max: query.concurrency_max,
        request_timeout: Duration::from_millis(database.timeout_ms) * CALLS_MAX + REQUEST_SLACK,
    };
    tokio::spawn(Arc::clone(&keys).keep_fresh());
    let store = Arc::new(OnceLock::new());
    let api = Api::new(keys, Arc::clone(&store));
    let counted = http::limited(api.routes(), limits).layer(from_fn(meters::count));
    let router = counted.merge(admin::public_health_routes(&health));
    tokio::select! {
        ended = watch_database(&database, &store, &health, &shutdown) => ended.context("MongoDB"),
        () = http::serve(listener, router, shutdown.clone()) => Ok(()),
    }
}

/// Connects, and keeps readiness up to date. Ends only if the database can never be used, by this process at least.
async fn watch_database(
    settings: &DatabaseSettings,
    connected: &OnceLock<Store>,
    health: &Health,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let mut address = AddressInUse::now(settings);
    let mut every = tokio::time::interval(CHECK_DATABASE_EVERY);
    loop {
        every.tick().await;
        let checked = match connected.get() {
            Some(store) => store.ping().await,
            None => {
                address = AddressInUse::now(settings);
                Store::connect(settings, "orderfleet-query").await.map(|store| {
                    let _ = connected.set(store);
                })
            }
        };
        match checked {
            Ok(()) if shutdown.is_cancelled() => health.not_ready("database", "draining"),
            Ok(()) => health.ready("database"),
            Err(error) if error.is_lasting() => return Err(error.into()),
            Err(error) if connected.get().is_some() && address.is_outdated() => {
                return Err(error)
                    .context("database.uri_file holds another address by now; a restart takes it over");
            }
            Err(error) => health.not_ready("database", error.to_string()),
        }
        health.beat("database check", CHECK_STALLS_AFTER);
    }
}
