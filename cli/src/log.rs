//! `orderfleet log`: who changed what and why, listed, checked and exported.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jiff::Timestamp;
use orderfleet_operations::log::{Head, LogEntries, LogEntry, LogError, LogRange, OperatorLog, Verification};
use serde::Serialize;

use crate::exit::{Failure, NOTHING_MATCHED};
use crate::export::Target;
use crate::fleet::FleetArgs;
use crate::orders::time::{age, moment};
use crate::output::{Output, Row, visible};

const EXAMPLES: &str = "\
Examples:
  orderfleet log list --since 24h
  orderfleet log verify
  orderfleet log export operator-log.jsonl";

const LIST_EXAMPLES: &str = "\
Examples:
  orderfleet log list
  orderfleet log list --since 1h --limit 500
  orderfleet log list --since 24h --output jsonl | jq -r 'select(.who == \"jo\") | .target'

A change is recorded before it is made (begin) and after (end), under one name (act).

Exit codes:
  0  listed
  1  an entry is damaged: orderfleet log verify
  4  the log holds no entry of that time
  5  the database refuses the user
  6  the database does not answer";

const VERIFY_EXAMPLES: &str = "\
Examples:
  orderfleet log verify
  orderfleet log verify --output json | jq -r '\"\\(.head.seq):\\(.head.hash)\"'
  orderfleet log verify --expect 41:ba7816bf8f01cfea41…

From inside, a chain tells when an entry was changed, removed or put in between. Note the head that
is printed, somewhere else: with --expect it also shows when the chain's end was cut off, or all of
it was written anew.

Exit codes:
  0  the chain fits; acts without an end are listed: under way, or left by somebody who was gone
  1  it does not fit; stderr says where
  5  the database refuses the user
  6  the database does not answer";

const EXPORT_EXAMPLES: &str = "\
Examples:
  orderfleet log export operator-log.jsonl
  orderfleet log export | gzip > operator-log.jsonl.gz

One entry a line, oldest first, with its hash. Nothing that is there is overwritten.

Exit codes:
  0  exported
  1  the file is there already or cannot be written, or an entry is damaged
  4  the log holds no entry
  5  the database refuses the user
  6  the database does not answer";

/// See who changed what, and why: the operator log
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    List(List),
    Verify(Verify),
    Export(Export),
}

/// List changes, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = LIST_EXAMPLES)]
struct List {
    /// Only what was recorded then or later: 2026-01-31T12:00:00Z, or 24h for a day ago
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    limit: u64,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Check that no entry was changed, removed or put in between
#[derive(Debug, clap::Args)]
#[command(after_help = VERIFY_EXAMPLES)]
struct Verify {
    /// A head that was printed before: the chain must still lead through it
    #[arg(long, value_name = "NUMBER:HASH")]
    expect: Option<Head>,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Write the whole log to a file, or to stdout, as JSON lines
#[derive(Debug, clap::Args)]
#[command(after_help = EXPORT_EXAMPLES)]
struct Export {
    /// A new file; without it, or with `-`, stdout
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Runs the command.
///
/// # Errors
/// When the database does not answer, the chain does not fit, or a file cannot be written.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List(List { since, limit, fleet }) => {
            list(&open(fleet).await?, LogRange { since, newest_first: true, limit }, output).await
        }
        Command::Verify(Verify { expect, fleet }) => {
            verify(&open(fleet).await?, expect.as_ref(), output).await
        }
        Command::Export(Export { file, fleet }) => export(&open(fleet).await?, file, output).await,
    }
}

async fn open(fleet: FleetArgs) -> anyhow::Result<OperatorLog> {
    Ok(OperatorLog::new(fleet.resolve()?.store().await?))
}

/// What was written to a file.
#[derive(Serialize)]
struct Exported<'a> {
    entries: u64,
    head: &'a Head,
    file: &'a Path,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Line(LogEntry);

impl Row for Line {
    const HEADER: &'static [&'static str] = &["NO", "WHO", "WHAT", "PHASE", "TARGET", "WHY", "RESULT", "AGE"];

    fn cells(&self) -> Vec<String> {
        let LogEntry { seq, record, .. } = &self.0;
        vec![
            seq.to_string(),
            record.who.clone(),
            record.what.clone(),
            record.phase.as_str().into(),
            record.target.clone(),
            record.why.clone(),
            record.result.clone().unwrap_or_else(|| "-".into()),
            age(record.at, Timestamp::now()),
        ]
    }
}

async fn list(log: &OperatorLog, range: LogRange, output: Output) -> anyhow::Result<ExitCode> {
    let mut entries = log.entries(range);
    let mut rows = Vec::new();
    while let Some(entry) = next(&mut entries).await? {
        rows.push(Line(entry));
    }
    output.print_rows(&rows)?;
    if rows.is_empty() {
        eprintln!("the log holds no entry of that time");
        return Ok(NOTHING_MATCHED.into());
    }
    Ok(ExitCode::SUCCESS)
}

async fn verify(log: &OperatorLog, expect: Option<&Head>, output: Output) -> anyhow::Result<ExitCode> {
    let found = log.verify(expect).await.map_err(failure)?;
    let Verification { entries, head, fault, open, open_more } = &found;
    let shown_head = head.as_ref().map_or_else(|| "none".into(), Head::to_string);
    output.print(&found, &format!("{entries} entries fit\nhead {shown_head}"))?;
    for entry in open {
        let LogEntry { seq, record, .. } = entry;
        let (what, target, ago) = (&record.what, visible(&record.target), age(record.at, Timestamp::now()));
        eprintln!("entry {seq} has no end: {} began {what} of {target} {ago} ago", visible(&record.who));
    }
    if *open_more {
        eprintln!("more acts have no end than are listed here");
    }
    let Some(fault) = fault else { return Ok(ExitCode::SUCCESS) };
    let what =
        format!("the operator log does not fit: entry {} {}", visible(&fault.at), visible(&fault.what));
    let next = "compare it with an export, and find out who can write to the collection operator_log";
    Err(Failure::new(what, next).into())
}

async fn export(log: &OperatorLog, file: Option<PathBuf>, output: Output) -> anyhow::Result<ExitCode> {
    let mut target = Target::open(file)?;
    let mut entries = log.entries(LogRange::default());
    let (mut count, mut head) = (0_u64, None);
    while let Some(entry) = next(&mut entries).await? {
        serde_json::to_writer(&mut target, &entry)?;
        writeln!(target)?;
        (count, head) = (count + 1, Some(Head::from(&entry)));
    }
    let file = target.close(count)?;
    let Some(head) = head else {
        eprintln!("the log holds no entry");
        return Ok(NOTHING_MATCHED.into());
    };
    if let Some(file) = &file {
        let told = format!("{count} entries in {}", file.display());
        output.print(&Exported { entries: count, head: &head, file }, &told)?;
    }
    eprintln!("{count} entries; head {head}");
    Ok(ExitCode::SUCCESS)
}

async fn next(entries: &mut LogEntries) -> anyhow::Result<Option<LogEntry>> {
    entries.next().await.map_err(failure)
}

fn failure(error: LogError) -> anyhow::Error {
    let error = anyhow::Error::new(error);
    let next = "bring the database back, or name another one: --config FILE";
    let damaged = || Failure::new(format!("{error:#}"), "orderfleet log verify");
    Failure::of_database(&error, next).unwrap_or_else(damaged).into()
}
