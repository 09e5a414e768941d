//! `orderfleet-query`: reads the options and starts the service.

use anyhow::Context as _;
use clap::Parser;
use orderfleet_query::{Settings, run};
use orderfleet_runtime::{probe, settings, signals, telemetry};

/// Read side: answers where an order stands, to the account it belongs to
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Example:\n  orderfleet-query --config orderfleet.toml --set query.listen=0.0.0.0:8081\n\n\
                  Exit codes: 0 drained after SIGTERM or SIGINT, 1 failed, wrong settings included (stderr says why), 2 unknown options, 130 ended by a second signal"
)]
struct Arguments {
    #[command(flatten)]
    settings: settings::Options,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let settings: Settings = settings::load(&arguments.settings, Settings::SECTIONS)?;
    if arguments.settings.print_config {
        return settings::print(&settings);
    }
    if let Some(what) = arguments.settings.probe {
        return probe::ask(settings.query.admin_listen, what.path()).await;
    }
    let telemetry = telemetry::init(&settings.telemetry, "orderfleet-query")?;
    let shutdown = signals::shutdown().context("cannot listen for signals")?;
    let traces = telemetry.traces.clone();
    let ended = run(settings, telemetry, shutdown).await;
    traces.flush().await;
    ended
}
