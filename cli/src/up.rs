//! `orderfleet up`: the whole fleet on this machine, in one folder, until Ctrl-C.

mod announcement;
mod child;
mod fleet;
mod folder;
mod interrupts;
mod member;
pub(crate) mod scaling;
mod settings;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use orderfleet_native::{AMQP_URL_VARIABLE, MONGODB_URI_VARIABLE};
use tokio::select;

use crate::exit;
use crate::output::Output;
use announcement::Announcement;
use fleet::Fleet;
use folder::Folder;
use interrupts::Interrupts;
use settings::Endpoints;

const EXAMPLES: &str = "\
Examples:
  orderfleet up
  orderfleet up --workers 4
  ORDERFLEET_AMQP_URL=amqp://user:password@broker:5672/%2f orderfleet up
  orderfleet up --output json | jq -r .producer_url

Ctrl-C stops everything in order; a second Ctrl-C leaves at once. Orders, ledgers and ports stay in the folder.";

/// Run the whole fleet on this machine until Ctrl-C
///
/// Starts RabbitMQ, MongoDB, stand-ins for the downstream services, the producer, the query API and workers, and
/// starts again what ends unexpectedly. `make up` installs what is missing first. ORDERFLEET_AMQP_URL and
/// ORDERFLEET_MONGODB_URI name running servers to use instead of own ones.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Folder for data, settings and logs
    #[arg(long, value_name = "DIR", default_value = ".orderfleet")]
    dir: PathBuf,
    /// Number of worker processes at first; `orderfleet fleet scale` changes it
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=i64::from(scaling::WORKERS_MAX)))]
    workers: u16,
}

/// Runs the command; stdout gets the endpoints once the fleet is ready.
///
/// # Errors
/// When another fleet runs in the folder, or a part of the fleet cannot be started.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::listen()?;
    let folder = Folder::open(&args.dir)?;
    scaling::forget(&folder);
    let mut fleet = Fleet::default();
    let outcome = select! {
        outcome = start(&args, &folder, &mut fleet, output) => outcome.map(Some),
        () = interrupts.next() => Ok(None),
    };
    if let Ok(Some(())) = outcome {
        select! {
            () = interrupts.next() => {}
            never = fleet.obey(&folder, args.workers) => match never {},
        }
    }
    select! {
        () = fleet.stop() => {}
        () = interrupts.next() => {
            say("leaving at once: what still runs is killed, and continues where it was at the next start");
            return Ok(exit::INTERRUPTED.into());
        }
    }
    folder.forget_endpoints();
    scaling::forget(&folder);
    outcome?;
    say(&format!("stopped; the data stays in {}", folder.shown().display()));
    Ok(ExitCode::SUCCESS)
}

async fn start(args: &Args, folder: &Folder, fleet: &mut Fleet, output: Output) -> anyhow::Result<()> {
    let (amqp_url, mongodb_uri) = (named(AMQP_URL_VARIABLE), named(MONGODB_URI_VARIABLE));
    let services = fleet.start_services(folder, amqp_url, mongodb_uri).await?;
    let places = settings::Places::choose(folder)?;
    folder.write_private(folder::SETTINGS, &settings::toml(folder, &services, &places)?)?;
    folder.require_demo_key()?;
    fleet.start_processes(folder, &places, args.workers).await?;

    let endpoints = Endpoints::new(folder, &services, &places);
    let json = serde_json::to_string(&endpoints).context("endpoints as JSON")?;
    folder.write_private(folder::ENDPOINTS, &json)?;
    output.print(&endpoints, &Announcement::new(folder, &endpoints)?.to_string())
}

/// A running server named by the environment: not by a flag, which would show its password in the process list.
fn named(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|url| !url.is_empty())
}

/// Progress for people, on stderr.
fn say(text: &str) {
    eprintln!("up: {text}");
}
