//! The `orderfleet-fault-proxy` binary: parses options, starts the proxy, stops it on SIGTERM or SIGINT.

use anyhow::{Context, Result};
use clap::Parser;
use orderfleet_sandbox::proxy::{FaultProxy, ProxyOptions};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> Result<()> {
    let options = ProxyOptions::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    // Installed before the ports open, so that a signal right after the first answer is already graceful.
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;

    let proxy = FaultProxy::start(options).await.context("cannot start the fault proxy")?;
    for link in proxy.links() {
        eprintln!("link {} listening on {}", link.name(), link.address());
    }
    eprintln!("fault proxy control on http://{}", proxy.control());

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    proxy.shutdown().await;
    Ok(())
}
