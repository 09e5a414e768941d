//! `orderfleet-worker`: reads the options and starts the service.

use anyhow::Context as _;
use clap::Parser;
use orderfleet_runtime::{crash, probe, settings, signals, telemetry};
use orderfleet_worker::{Settings, run};

/// Stateless saga worker: takes orders from RabbitMQ through inventory, fulfilment and accounting
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Example:\n  orderfleet-worker --config orderfleet.toml --set worker.concurrency=64\n\n\
                  Start as many as the backlog needs; SIGTERM drains one within 20 s.\n\n\
                  Exit codes: 0 drained after SIGTERM or SIGINT, 1 failed, wrong settings included (stderr says why), 2 unknown options, 130 ended by a second signal"
)]
struct Cli {
    #[command(flatten)]
    settings: settings::Options,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Cli::parse();
    crash::arm()?;
    let settings: Settings = settings::load(&options.settings, Settings::SECTIONS)?;
    if options.settings.print_config {
        return settings::print(&settings);
    }
    if let Some(what) = options.settings.probe {
        return probe::ask(settings.worker.admin_listen, what.path()).await;
    }
    let telemetry = telemetry::init(&settings.telemetry, "orderfleet-worker")?;
    let shutdown = signals::shutdown().context("cannot listen for signals")?;
    let traces = telemetry.traces.clone();
    let ended = run(settings, telemetry, shutdown).await;
    traces.flush().await;
    ended
}
