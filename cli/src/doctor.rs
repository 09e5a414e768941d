//! `orderfleet doctor`: what is wrong with the fleet, and what mends it.

use std::process::ExitCode;

use jiff::Timestamp;
use orderfleet_operations::doctor::{Finding, Subject, Verdict, examine, unreadable_settings};
use serde::Serialize;

use crate::exit;
use crate::fleet::{Fleet, FleetArgs};
use crate::output::{Output, Row, table, visible};
use crate::topology::ManagementArgs;

const EXAMPLES: &str = "\
Examples:
  orderfleet doctor
  orderfleet doctor --config /etc/orderfleet.toml --management-url http://broker:15672
  orderfleet doctor --output jsonl | jq -r 'select(.verdict == \"error\") | .name'

Exit codes:
  0  no error: what is unknown or warned of is told all the same
  1  at least one error
  2  mistake in the command line";

/// Look for what is wrong with the fleet, or will be, and say what mends it
///
/// Checks settings, broker, topology, database, its collections, the services of the steps, clock and limits. Changes nothing:
/// it sends one message to a queue of its own, writes one document of its own and deletes it, and asks each service for a step
/// instance that does not exist. What it asks the broker for its rights, and for queues that should not be there, is refused
/// and leaves about 35 entries in the broker's log.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    management: ManagementArgs,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// As it is shown: the fix stands below the table.
#[derive(Serialize)]
#[serde(transparent)]
struct Shown<'a>(&'a Finding);

impl Row for Shown<'_> {
    const HEADER: &'static [&'static str] = &["CHECK", "VERDICT", "FOUND"];

    fn cells(&self) -> Vec<String> {
        let Finding { name, verdict, found, .. } = self.0;
        vec![name.clone(), verdict.as_str().to_owned(), found.clone()]
    }
}

/// Runs every check and prints what each has found.
///
/// # Errors
/// When the management API's address or its file cannot be used, or stdout cannot be written. What is wrong with the fleet is
/// no error but the result.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let findings = match args.fleet.resolve() {
        Ok(fleet) => examine(&subject(fleet, &args.management)?).await,
        Err(error) => unreadable_settings(&format!("{error:#}")),
    };
    print(&findings, output)?;
    let has_error = findings.iter().any(|finding| finding.verdict == Verdict::Error);
    Ok(if has_error { exit::FAILED.into() } else { ExitCode::SUCCESS })
}

fn subject(fleet: Fleet, management: &ManagementArgs) -> anyhow::Result<Subject> {
    let steps = fleet.policy().map_err(|error| format!("{error:#}"));
    let management = management.resolve(&fleet)?;
    let Fleet { broker, database, worker, .. } = fleet;
    Ok(Subject { broker, database, steps, worker, management, clock: Timestamp::now })
}

fn print(findings: &[Finding], output: Output) -> anyhow::Result<()> {
    let rows: Vec<_> = findings.iter().map(Shown).collect();
    if output != Output::Table {
        return output.print_rows(&rows);
    }
    let mut text = table(Shown::HEADER, rows.iter().map(Row::cells));
    for finding in findings {
        if let Some(fix) = &finding.fix {
            let Finding { name, verdict, .. } = finding;
            text.push_str(&format!("\n\n{name} ({}):\n  {}", verdict.as_str(), visible(fix)));
        }
    }
    output.print(&(), &text)
}

#[cfg(test)]
mod tests {
    use orderfleet_operations::doctor::WorkerLimits;

    #[test]
    fn a_worker_takes_by_default_what_the_example_file_says() {
        let example: toml::Table = include_str!("../../orderfleet.example.toml").parse().unwrap();
        let WorkerLimits { concurrency, prefetch } = WorkerLimits::default();
        let setting = |name: &str| example["worker"][name].as_integer();
        assert_eq!(setting("concurrency"), Some(concurrency.into()));
        assert_eq!(setting("prefetch"), Some(prefetch.into()));
    }
}
