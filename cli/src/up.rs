//! `orderfleet up`: the whole fleet on this machine, in one folder, until Ctrl-C.

mod announcement;
mod autoscaler;
mod child;
mod fleet;
mod folder;
mod interrupts;
mod member;
pub(crate) mod scaling;
mod settings;
mod usage;
mod wishes;

use std::convert::Infallible;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use orderfleet_native::{AMQP_URL_VARIABLE, MONGODB_URI_VARIABLE};
use orderfleet_operations::scaling::Size;
use serde_json::json;
use tokio::select;

use crate::exit;
use crate::fleet::FleetArgs;
use crate::fleet_command;
use crate::orders::time::duration;
use crate::output::Output;
use crate::workers::Workers;
use announcement::Announcement;
use autoscaler::Autoscaler;
use fleet::Fleet;
use folder::Folder;
use interrupts::Interrupts;
use settings::Endpoints;
use wishes::Wishes;

const EXAMPLES: &str = "\
Examples:
  orderfleet up
  orderfleet up --workers 0..8
  orderfleet up --workers 4
  ORDERFLEET_AMQP_URL=amqp://user:password@broker:5672/%2f orderfleet up
  orderfleet up --only workers --workers 0..8 --config /etc/orderfleet/orderfleet.toml
  orderfleet up --output json | jq -r .producer_url

With a range the backlog decides how many workers run, one line on stderr says each change and
why, and the end says what it has cost; `orderfleet fleet scale` overrules it. docs/OPERATIONS.md,
\"Scaling\", says how it decides.

Ctrl-C or SIGTERM stops everything in order; a second one leaves at once. Orders, ledgers and ports
stay in the folder.";

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
    /// Worker processes: a fixed number, or a range within which the backlog decides
    #[arg(long, value_name = "N|MIN..MAX", default_value = "1..4", value_parser = workers)]
    workers: Workers,
    /// How long there must have been nothing to do before the fewest are left
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration)]
    idle_after: Duration,
    /// Run the workers alone, for a broker, a database, a producer and services that run elsewhere
    #[arg(long, value_name = "PART", requires = "config")]
    only: Option<Only>,
    /// Settings file (TOML) of the workers, with --only
    #[arg(long, value_name = "FILE", requires = "only")]
    config: Option<PathBuf>,
}

/// A part of the fleet that runs here without the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    Workers,
}

/// Who has a say on the number of workers, and what decides by the backlog where there is a range.
type Deciders = (Wishes, Option<Autoscaler>);

/// Runs the command; stdout gets the endpoints once the fleet is ready.
///
/// # Errors
/// When another fleet runs in the folder, a part of the fleet cannot be started, or workers that run alone were all given up.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::listen()?;
    let folder = Folder::open(&args.dir)?;
    scaling::forget(&folder);
    let mut fleet = args.config.clone().map_or_else(Fleet::default, Fleet::of_workers);
    let outcome = select! {
        outcome = start(&args, &folder, &mut fleet, output) => outcome.map(Some),
        () = interrupts.next() => Ok(None),
    };
    let outcome = match outcome {
        Ok(Some((wishes, autoscaler))) => {
            select! {
                () = interrupts.next() => Ok(()),
                lost = fleet.obey(&folder, wishes) => Err(lost.into()),
                never = decide(autoscaler) => match never {},
            }
        }
        other => other.map(drop),
    };
    let usage = fleet.usage();
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
    if args.workers.is_range() {
        say(&usage.to_string());
    }
    say(&format!("stopped; the data stays in {}", folder.shown().display()));
    Ok(ExitCode::SUCCESS)
}

async fn decide(autoscaler: Option<Autoscaler>) -> Infallible {
    match autoscaler {
        Some(autoscaler) => autoscaler.run().await,
        None => std::future::pending().await,
    }
}

/// Starts it, and says who is to decide on the number of workers.
async fn start(args: &Args, folder: &Folder, fleet: &mut Fleet, output: Output) -> anyhow::Result<Deciders> {
    let announcing = match &args.config {
        None => start_all(args, folder, fleet).await?,
        Some(config) => {
            let text = format!(
                "workers {} of the fleet of {}; their logs are on stderr",
                args.workers.0,
                config.display()
            );
            (json!({ "workers": args.workers.0, "config": config }), text)
        }
    };
    let (wishes, autoscaler) = deciders(args, folder)?;
    fleet.count_from_now(args.workers.0.max);
    // Whoever reads the endpoints may ask for another number of workers at once.
    fleet.tell_first(folder, &wishes)?;
    output.print(&announcing.0, &announcing.1)?;
    Ok((wishes, autoscaler))
}

/// Everything. Returns the endpoints, for programs and for people.
async fn start_all(
    args: &Args,
    folder: &Folder,
    fleet: &mut Fleet,
) -> anyhow::Result<(serde_json::Value, String)> {
    let (amqp_url, mongodb_uri) = (named(AMQP_URL_VARIABLE), named(MONGODB_URI_VARIABLE));
    let services = fleet.start_services(folder, amqp_url, mongodb_uri).await?;
    let places = settings::Places::choose(folder)?;
    folder.write_private(folder::SETTINGS, &settings::toml(folder, &services, &places)?)?;
    folder.require_demo_key()?;
    fleet.start_processes(folder, &places, args.workers.0.min).await?;

    let endpoints = Endpoints::new(folder, &services, &places);
    let json = serde_json::to_value(&endpoints).context("endpoints as JSON")?;
    folder.write_private(folder::ENDPOINTS, &json.to_string())?;
    Ok((json, Announcement::new(folder, &endpoints)?.to_string()))
}

fn deciders(args: &Args, folder: &Folder) -> anyhow::Result<Deciders> {
    let bounds = args.workers.0;
    if !args.workers.is_range() {
        return Ok((Wishes::fixed(bounds.max), None));
    }
    let config = args.config.clone().unwrap_or_else(|| folder.path(folder::SETTINGS));
    let watch = fleet_command::watch(&FleetArgs::of(config).resolve()?)?;
    let size = Size { bounds, idle_after: args.idle_after };
    let (autoscaler, decisions) = Autoscaler::new(watch, size);
    Ok((Wishes::by_signal(bounds, decisions), Some(autoscaler)))
}

/// Reads how many workers there may be on one machine.
fn workers(text: &str) -> Result<Workers, String> {
    let workers: Workers = text.parse()?;
    let most = scaling::WORKERS_MAX;
    if workers.0.max <= most { Ok(workers) } else { Err(format!("at most {most} on one machine")) }
}

/// A running server named by the environment: not by a flag, which would show its password in the process list.
fn named(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|url| !url.is_empty())
}

/// Progress for people, on stderr.
fn say(text: &str) {
    eprintln!("up: {text}");
}
