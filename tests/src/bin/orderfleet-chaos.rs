//! The `orderfleet-chaos` binary: runs the fleet under load and faults, and says whether its promise held.

#![expect(clippy::print_stdout, reason = "the report is this program's output")]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use orderfleet_tests::chaos::{self, Fault, OtherPrograms, Outcome, Report};

const AFTER_HELP: &str = "\
Exit codes: 0 nothing was lost, doubled or half-done; 1 a promise was broken; 2 wrong usage; 3 the run proves nothing
(a planned fault without evidence, too few faults or orders, or the harness failed).

Examples:
  orderfleet-chaos
  orderfleet-chaos --duration 60 --seed 7 --report /tmp/chaos
  orderfleet-chaos --only 'kill,broker' --fault-every 4     only kinds whose name holds one of these words
  orderfleet-chaos --older /tmp/release-1/debug --only 'downstream errors'    an upgrade, with failed orders
  orderfleet-chaos --rolling 10 --duration 300              half of the workers restart every 10 seconds
  orderfleet-chaos --kinds                                  lists the kinds

The report folder gets report.txt, report.json, clients.jsonl (every request and answer), faults.jsonl, the services'
ledgers and the logs of all processes.";

/// What a run of this length has to bring at least; others in proportion.
const SECONDS_OF_A_RUN: usize = 180;
const ORDERS_OF_A_RUN: usize = 2_000;
const FAULTS_OF_A_RUN: usize = 20;

/// Runs a whole fleet on this machine under load, harms it in every way it knows, and checks from outside that no accepted
/// order was lost, doubled or left half-done.
#[derive(Debug, Parser)]
#[command(name = "orderfleet-chaos", version, after_help = AFTER_HELP)]
struct Flags {
    /// Seconds of load and faults; start, drain and checking come on top.
    #[arg(long, value_name = "SECONDS", default_value_t = 180, value_parser = clap::value_parser!(u64).range(1..))]
    duration: u64,

    /// Decides orders and faults; the same seed plans the same ones. Drawn at random if left out.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// Orders per second, at a steady pace whatever the answers.
    #[arg(long, value_name = "NUMBER", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,

    /// Seconds between two faults on average.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    fault_every: f64,

    /// Only kinds of faults whose name holds one of these words.
    #[arg(long, value_name = "WORDS", value_delimiter = ',')]
    only: Vec<String>,

    /// No faults but one: half of the workers get SIGTERM every so many seconds, one half after the other, and are started again.
    /// No order may waste more than one attempt.
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["only", "older"], value_parser = clap::value_parser!(u64).range(1..))]
    rolling: Option<u64>,

    /// Accepted orders below which the run proves nothing; if left out, 2,000 for 180 seconds of duration, and so on.
    #[arg(long, value_name = "NUMBER")]
    orders_min: Option<usize>,

    /// Faults with evidence below which the run proves nothing; if left out, 20 for 180 seconds of duration, and so on.
    #[arg(long, value_name = "NUMBER")]
    faults_min: Option<usize>,

    /// Seconds until every order must have ended after the last fault is healed, or the last order posted if that is later.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    drain_max: u64,

    /// Another worker than that of this build, such as one with a rule broken.
    #[arg(long, value_name = "FILE")]
    worker: Option<PathBuf>,

    /// Folder with the producer and the worker of an older build: the run begins with these, replaces them one by one by
    /// those of this build, half of them back, and then all. Other faults strike only where --only names them.
    #[arg(long, value_name = "DIR")]
    older: Option<PathBuf>,

    /// Folder for report and logs; an earlier report in it is replaced. Default target/chaos/SEED.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,

    /// How the report is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,

    /// Lists the kinds of faults and ends.
    #[arg(long)]
    kinds: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    if flags.kinds {
        Fault::all().iter().for_each(|kind| println!("{kind}"));
        return ExitCode::SUCCESS;
    }
    let options = match options(&flags) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("orderfleet-chaos: {error:#}");
            return ExitCode::from(2);
        }
    };
    match run(options, flags.output).await {
        Ok(report) => ExitCode::from(match report.outcome {
            Outcome::Passed => 0,
            Outcome::Violated => 1,
            Outcome::Invalid => 3,
        }),
        Err(error) => {
            eprintln!("orderfleet-chaos: {error:#}");
            ExitCode::from(3)
        }
    }
}

/// What the flags ask for; an error is wrong usage.
fn options(flags: &Flags) -> anyhow::Result<chaos::Options> {
    let seed = flags.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    let duration = Duration::from_secs(flags.duration);
    let every = Duration::try_from_secs_f64(flags.fault_every).context("--fault-every")?;
    anyhow::ensure!(every >= Duration::from_millis(100), "--fault-every must be at least 0.1");
    let wanted = |kind: &Fault| {
        let name = kind.to_string();
        flags.only.is_empty() || flags.only.iter().any(|word| name.contains(word))
    };
    let kinds: Vec<_> = Fault::all().into_iter().filter(wanted).collect();
    anyhow::ensure!(!kinds.is_empty(), "--only names no kind of fault; see --kinds");
    let mut plan = match flags.older.is_some() && flags.only.is_empty() {
        true => Vec::new(),
        false => chaos::plan(seed, duration, every, &kinds),
    };
    if let Some(seconds) = flags.rolling {
        plan = chaos::rolling(duration, Duration::from_secs(seconds));
    }
    let older = flags.older.as_ref().map(|folder| folder.canonicalize().context("--older")).transpose()?;
    if older.is_some() {
        plan.extend(chaos::upgrade(duration, chaos::WORKERS, chaos::PRODUCERS));
        plan.sort_by_key(|planned| planned.at);
    }
    let (seconds, faults_planned) = (usize::try_from(flags.duration)?, plan.len());
    let scaled = |per_run: usize| seconds.saturating_mul(per_run) / SECONDS_OF_A_RUN;
    Ok(chaos::Options {
        duration,
        rate: flags.rate,
        seed,
        plan,
        drain_max: Duration::from_secs(flags.drain_max),
        orders_min: flags.orders_min.unwrap_or_else(|| scaled(ORDERS_OF_A_RUN)),
        faults_min: flags.faults_min.unwrap_or_else(|| match flags.rolling {
            Some(_) => faults_planned,
            None => scaled(FAULTS_OF_A_RUN),
        }),
        wasted_max: flags.rolling.map(|_| 1),
        others: OtherPrograms { worker: flags.worker.clone(), older },
        report: flags.report.clone().unwrap_or_else(|| format!("target/chaos/{seed}").into()),
    })
}

async fn run(options: chaos::Options, output: Output) -> anyhow::Result<Report> {
    eprintln!("seed {}", options.seed);
    let report = chaos::run(options, |line| eprintln!("{line}")).await?;
    match output {
        Output::Text => println!("\n{}", report.text()),
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    Ok(report)
}
