//! Serves the signal for as long as the process lives.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use orderfleet_operations::fleet::{Tally, Watch};
use orderfleet_operations::scaling::{Sample, Sampler, Scaler, Size};
use orderfleet_runtime::admin::{self, Health};
use orderfleet_runtime::http::{self, Limits};
use orderfleet_runtime::signals;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Told, metrics, told};

const EVERY: Duration = Duration::from_secs(1);
/// Of many orders and dead letters the database reads each.
const TALLY_EVERY: Duration = Duration::from_secs(15);
/// What was seen so long ago says nothing of now. Longer than a look takes while broker and database are silent, or what it says of
/// them would never be told.
const STALE_AFTER: Duration = Duration::from_secs(20);
/// A look may take its timeouts; without one for so long the process is stuck.
const STALLS_AFTER: Duration = Duration::from_secs(90);
const LIMITS: Limits = Limits { concurrency_max: 64, request_timeout: Duration::from_secs(5) };
const LOOKS: &str = "looks";
const SIGNAL: &str = "signal";

/// The newest look, and what was made of it.
#[derive(Debug)]
pub(super) struct Seen {
    /// When the look began.
    at: Instant,
    pub(super) sample: Sample,
    pub(super) told: Told,
}

impl Seen {
    pub(super) fn is_fresh(&self) -> bool {
        self.at.elapsed() < STALE_AFTER
    }
}

/// Looks and serves until SIGTERM or SIGINT.
///
/// # Errors
/// The address is taken or not ours.
pub(super) async fn run(
    sampler: Sampler,
    place: Watch,
    size: Size,
    listen: SocketAddr,
) -> anyhow::Result<ExitCode> {
    let shutdown = signals::shutdown().context("cannot listen for signals")?;
    let listener = http::bind("--listen", listen)?;
    eprintln!("the signal is served at http://{}/signal, metrics at /metrics", listener.local_addr()?);
    let health = Health::new(&[SIGNAL]);
    health.beat(LOOKS, STALLS_AFTER);
    let (sender, seen) = watch::channel(None);
    let (tally_sender, tally) = watch::channel(Tally::default());
    tokio::select! {
        never = look(sampler, size, sender, &health) => match never {},
        never = count(place, tally_sender) => match never {},
        () = http::serve(listener, routes(&health, seen, tally), shutdown) => Ok(ExitCode::SUCCESS),
    }
}

fn routes(
    health: &Arc<Health>,
    seen: watch::Receiver<Option<Seen>>,
    tally: watch::Receiver<Tally>,
) -> Router {
    let of_metrics = seen.clone();
    let metrics = move || async move { metrics::text(of_metrics.borrow().as_ref(), &tally.borrow()) };
    let data = Router::new()
        .route("/signal", get(move || async move { signal(seen.borrow().as_ref()) }))
        .route("/metrics", get(metrics));
    http::limited(data, LIMITS).merge(admin::public_health_routes(health))
}

fn signal(seen: Option<&Seen>) -> impl IntoResponse + use<> {
    let of = seen.filter(|seen| seen.is_fresh());
    let status = match of {
        Some(seen) if seen.told.valid => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = of.and_then(|seen| serde_json::to_string(&seen.told).ok());
    let body = body.unwrap_or_else(|| r#"{"valid":false,"reason":"nothing was seen in time"}"#.to_owned());
    (status, [(header::CONTENT_TYPE, "application/json")], body)
}

/// Counts what no decision needs, beside the looks: it may take longer than they do, and each count ends in its own time.
async fn count(mut place: Watch, tally: watch::Sender<Tally>) -> Infallible {
    let mut ticks = interval(TALLY_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        tally.send_replace(place.tally().await);
    }
}

async fn look(
    mut sampler: Sampler,
    size: Size,
    seen: watch::Sender<Option<Seen>>,
    health: &Health,
) -> Infallible {
    let (mut scaler, mut wanted) = (Scaler::new(size), None);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let at = Instant::now();
        let sample = sampler.sample().await;
        // What was asked for counts as there: it may take a while to come.
        let live = || sample.signal.workers_live.and_then(|live| u16::try_from(live).ok());
        let current = wanted.or_else(live).unwrap_or(size.bounds.min);
        let decision = scaler.decide(sample.at, &sample.signal, current);
        if sample.signal.is_known() {
            wanted = Some(decision.workers);
        }
        let told = told(&sample, size.bounds, decision);
        tell(health, &told);
        seen.send_replace(Some(Seen { at, sample, told }));
    }
}

fn tell(health: &Health, told: &Told) {
    health.beat(LOOKS, STALLS_AFTER);
    match told.unknown.first() {
        None => health.ready(SIGNAL),
        Some(unknown) => health.not_ready(SIGNAL, format!("{} is unknown: {}", unknown.what, unknown.why)),
    }
}
