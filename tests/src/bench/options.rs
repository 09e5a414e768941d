//! The command line of the benchmark.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

const AFTER_HELP: &str = "\
Examples:
  orderfleet-bench --quick                        the main figures, in three minutes
  orderfleet-bench --only e2e --rounds 5          one part
  orderfleet-bench --only e2e,latency --quick --set worker.concurrency=64
  orderfleet-bench --only stored --stored 1000000
  orderfleet-bench --data 2010-12.csv.gz --output json

Exit codes: 0 measured, and every accepted order is accounted for, whatever the figures; 1 an accepted order is not, or it
could not be measured; 2 wrong usage.
docs/PERFORMANCE.md says what each figure is.";

/// Fewer orders are over before a rate is to be seen.
const BACKLOG_MIN: u32 = 500;
/// More would only take long.
const BACKLOG_MAX: u32 = 50_000;

/// Measures a whole fleet on this machine beside what broker, database and services give without it, in one run and round by
/// round, and says which targets are met. Every process is started here and ends with it.
#[derive(Debug, Clone, Parser)]
#[command(name = "orderfleet-bench", version, after_help = AFTER_HELP)]
pub struct Options {
    /// The main lines alone, shorter: ingest, e2e, latency and start, 2 seconds each
    #[arg(long)]
    pub quick: bool,
    /// How often each is measured, the bare figure and the fleet's in turn
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
    /// Seconds of a load, and about those of a backlog [default: 5, with --quick 2]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..))]
    pub seconds: Option<u16>,
    /// Orders of a backlog, instead of as many as take about --seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(200..))]
    pub orders: Option<u32>,
    /// Parts to measure instead of all
    #[arg(long, value_name = "PART", value_enum, value_delimiter = ',')]
    pub only: Vec<Part>,
    /// Durable writes per order of the bare pipeline that the fleet is judged by
    #[arg(long, value_name = "1-4", default_value = "3", value_parser = ["1", "2", "3", "4"])]
    pub writes: String,
    /// Workers of every measurement that does not say otherwise
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub workers: u16,
    /// Orders that lie in the database already in the part `stored`
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    pub stored: u32,
    /// A shop's export for orders of real size (CSV or .csv.gz, as for `orderfleet load`); without it generated ones
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// A setting of the fleet, as `--set` of its processes takes it; may be given several times
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// An argument of the bare pipeline (`orderfleet-bare pipeline --help`), such as --bare=--prefetch=512; may be given several times
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub bare: Vec<String>,
    /// Folder for broker, database and logs; an earlier run in it is removed
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub folder: PathBuf,
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Broker and database by themselves
    Raw,
    /// Posting alone, without workers
    Ingest,
    /// A backlog from the first order to the last
    E2e,
    /// The same with 1, 2 and 4 workers
    Workers,
    /// The same with 5 % refusals and 5 % unknown outcomes
    Failures,
    /// The same with dos that go to the services in batches
    Batches,
    /// From the intended moment of a POST to the order's end, at steady rates
    Latency,
    /// What orders cost once many are stored
    Stored,
    /// Five times as many orders as the producer can take
    Overload,
    /// Start and memory of a worker
    Start,
}

/// How the report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table
    Text,
    /// One JSON object
    Json,
}

impl Options {
    const QUICK: [Part; 4] = [Part::Ingest, Part::E2e, Part::Latency, Part::Start];

    /// The parts to measure.
    pub(super) fn parts(&self) -> Vec<Part> {
        match (self.only.is_empty(), self.quick) {
            (false, _) => self.only.clone(),
            (true, true) => Self::QUICK.to_vec(),
            (true, false) => Part::value_variants().to_vec(),
        }
    }

    /// Seconds of load.
    pub(super) fn load_seconds(&self) -> f64 {
        f64::from(self.seconds.unwrap_or(if self.quick { 2 } else { 5 }))
    }

    /// Orders of a backlog that is worked at this rate per second.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` cuts to the bounds")]
    pub(super) fn backlog(&self, rate: f64) -> u32 {
        let enough = (rate * self.load_seconds()) as u32;
        self.orders.unwrap_or(enough.clamp(BACKLOG_MIN, BACKLOG_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_well_formed_and_quick_is_shorter() {
        let parse =
            |flags: &[&str]| Options::try_parse_from([&["orderfleet-bench"], flags].concat()).unwrap();
        let (full, quick) = (parse(&[]), parse(&["--quick"]));
        assert_eq!((quick.backlog(1_000.0), full.backlog(1_000.0)), (2_000, 5_000));
        assert_eq!(quick.backlog(1.0), BACKLOG_MIN);
        assert_eq!(parse(&["--orders", "300"]).backlog(9_000.0), 300);
        assert_eq!(full.parts(), Part::value_variants());
        assert_eq!(quick.parts(), Options::QUICK);
        assert_eq!(parse(&["--quick", "--only", "raw,stored"]).parts(), [Part::Raw, Part::Stored]);
    }
}
