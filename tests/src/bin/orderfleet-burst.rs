//! The `orderfleet-burst` binary: what scaling by the backlog does to the first order and to a burst, in figures.

#![expect(clippy::print_stdout, reason = "the figures are this program's output")]

use std::{
    fs,
    path::PathBuf,
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use orderfleet_tests::NativeFleet;
use serde_json::Value;
use tokio::time::{sleep, timeout};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// From the last order to a fleet without workers.
const IDLE_WITHIN: Duration = Duration::from_secs(1_200);
const AFTER_HELP: &str = "\
Example: orderfleet-burst --orders 20000 --workers 0..8

Exit codes: 0 every order was accepted and is accounted for, and no worker is left; 1 not so; 2 wrong usage";

/// Runs a whole fleet on this machine from no worker at all: times the first order after idling, then posts a burst, follows the
/// number of workers until it is back at none, and balances every accepted order.
#[derive(Debug, Parser)]
#[command(name = "orderfleet-burst", version, after_help = AFTER_HELP)]
struct Flags {
    /// Orders in the burst
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    orders: u32,
    /// Fewest and most workers
    #[arg(long, value_name = "MIN..MAX", default_value = "0..8")]
    workers: String,
    /// How long there must have been nothing to do
    #[arg(long, value_name = "TIME", default_value = "10s")]
    idle_after: String,
    /// Orders posted at once
    #[arg(long, value_name = "N", default_value_t = 64)]
    concurrency: u16,
    /// How often the first order after idling is timed
    #[arg(long, value_name = "N", default_value_t = 3)]
    firsts: u32,
    /// Folder of the fleet; what an earlier run left there is removed
    #[arg(long, value_name = "DIR", default_value = "target/burst")]
    folder: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("orderfleet-burst: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: Flags) -> anyhow::Result<()> {
    if flags.folder.join("up.log").exists() {
        fs::remove_dir_all(&flags.folder).context("cannot remove the earlier run")?;
    }
    fs::create_dir_all(&flags.folder).context("cannot make the folder")?;
    let folder = flags.folder.canonicalize()?;
    let scaled = ["--workers", &flags.workers, "--idle-after", &flags.idle_after];
    let fleet = NativeFleet::start(&folder, &scaled).await.context("the fleet does not start")?;
    until_none(&fleet).await?;
    println!(
        "first order after idling, from its POST: accepted, consumed (its worker was started meanwhile), done"
    );
    for number in 1..=flags.firsts {
        let served = fleet.serve_one(&format!("first-{number}")).await?;
        println!("  {:>9.2?}  {:>9.2?}  {:>9.2?}", served.accepted, served.consumed, served.done);
        until_none(&fleet).await?;
    }
    burst(&fleet, &flags).await?;
    balance(&fleet).await?;
    fleet.stop().await.map(drop)
}

async fn burst(fleet: &NativeFleet, flags: &Flags) -> anyhow::Result<()> {
    let (before, begun) = (fleet.told(), Instant::now());
    println!("burst of {} orders, {} at once; workers over time", flags.orders, flags.concurrency);
    let (orders, concurrency) = (flags.orders.to_string(), flags.concurrency.to_string());
    let load = [
        "load",
        "--generate",
        &orders,
        "--concurrency",
        &concurrency,
        "--key-prefix",
        "burst-",
        "--output",
        "json",
    ];
    let mut load = fleet.command(&load);
    let posting = load.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?.wait_with_output();
    tokio::pin!(posting);
    let (mut posted, mut seen) = (None, String::new());
    while posted.is_none() || !fleet.has_none() {
        tokio::select! {
            output = &mut posting, if posted.is_none() => posted = Some((output?, begun.elapsed())),
            () = sleep(LOOK_EVERY) => {}
        }
        tell_of_change(&fleet.told(), begun, &mut seen);
        ensure!(begun.elapsed() < IDLE_WITHIN, "there are still workers");
    }
    let took = begun.elapsed().as_secs_f64();
    let (output, posted_in) = posted.context("the loop ends after the load")?;
    let summary: Value = serde_json::from_slice(&output.stdout).context("the load's summary")?;
    ensure!(summary["accepted"] == flags.orders, "not all were accepted: {summary}");
    println!(
        "accepted {} in {:.1} s; no worker left after {took:.1} s",
        summary["accepted"],
        posted_in.as_secs_f64()
    );
    tell_of_usage(&before, &fleet.told());
    Ok(())
}

/// A line whenever there are other workers than before.
fn tell_of_change(told: &Value, begun: Instant, seen: &mut String) {
    let count = |field: &str| told[field].as_u64().unwrap_or_default();
    let workers = format!(
        "{} wanted, {} ready, {} starting, {} stopping",
        count("wanted"),
        count("ready"),
        count("starting"),
        count("stopping")
    );
    if !told.is_null() && *seen != workers {
        let reason = told["reason"].as_str().unwrap_or_default();
        println!("  {:>6.1} s  {workers:<48} {reason}", begun.elapsed().as_secs_f64());
        *seen = workers;
    }
}

fn tell_of_usage(before: &Value, after: &Value) {
    let spent =
        |field: &str| after[field].as_f64().unwrap_or_default() - before[field].as_f64().unwrap_or_default();
    let (scaled, fixed) = (spent("worker_seconds"), spent("worker_seconds_fixed"));
    println!(
        "worker-seconds of the burst: {scaled:.0}; of a fixed fleet of the most workers: {fixed:.0} ({:.0} %); since the \
         start, idling included: {:.0} of {:.0}",
        scaled / fixed * 100.0,
        after["worker_seconds"].as_f64().unwrap_or_default(),
        after["worker_seconds_fixed"].as_f64().unwrap_or_default()
    );
}

async fn balance(fleet: &NativeFleet) -> anyhow::Result<()> {
    let (code, audit) = fleet.cli(&["audit"]).await?;
    println!("audit: {audit}");
    ensure!(code == Some(0), "not every accepted order is accounted for");
    Ok(())
}

async fn until_none(fleet: &NativeFleet) -> anyhow::Result<()> {
    let none = async {
        while !fleet.has_none() {
            sleep(LOOK_EVERY).await;
        }
    };
    timeout(IDLE_WITHIN, none).await.context("there are still workers")
}
