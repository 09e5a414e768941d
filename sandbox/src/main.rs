//! The `orderfleet-sandbox` binary: parses options, starts the sandbox, stops it on SIGTERM or SIGINT.

use anyhow::{Context, Result};
use clap::Parser;
use orderfleet_runtime::probe::{self, Probe};
use orderfleet_sandbox::{Options, Sandbox};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    if options.probe {
        return probe::ask(options.listen, Probe::Alive.path()).await;
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    // Installed before the port opens, so that a signal right after the first answer is already graceful.
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;

    let sandbox = Sandbox::start(options).await.context("cannot start the sandbox")?;
    eprintln!("sandbox listening on http://{}", sandbox.address());

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    sandbox.shutdown().await;
    Ok(())
}
