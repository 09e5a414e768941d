//! `orderfleet audit`: is every accepted order accounted for?

mod list;
mod progress;
mod summary;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use orderfleet_messaging::{InspectionError, Publisher};
use orderfleet_operations::audit::{
    Audit, AuditError, Class, Events, Finding, Logs, QueueDepth, Range, Report, Republishing, Watcher,
};
use tokio_util::sync::CancellationToken;

use crate::exit::{self, DEPENDENCY_DOWN, Failure, NOT_AUTHORISED};
use crate::fleet::{Fleet, FleetArgs, operator};
use crate::orders::time::{duration, moment};
use crate::output::Output;
use list::List;
use progress::Progress;

/// A broker that is away is waited for without end by whoever connects to it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

const EXAMPLES: &str = "\
Examples:
  orderfleet audit
  orderfleet audit /var/log/orderfleet/acceptance-*.log.gz --since 24h
  orderfleet audit a.log b.log --list unaccounted --output jsonl
  zcat acceptance-*.gz | orderfleet audit - --strict
  orderfleet audit --since 2h --events
  orderfleet audit --since 2h --events --yes --reason 'the warehouse lost its queue'

Give the logs of all producers, and the rotated ones: what is in no log cannot be missed.

Exit codes:
    0  every acceptance is accounted for, or is not seen yet but may still be in a queue
    1  some are unaccounted for, or another body has their document
    3  with --strict: some are not seen yet, or lines or logs could not be read
    4  the logs hold no acceptance of the range
    5  the database or the broker refuses the user
    6  the database or the broker does not answer
  130  interrupted; what was read so far is balanced";

/// Balance every accepted order against what became of it
///
/// Reads the producers' acceptance logs, one line per 202, and asks the database where each order stands. What it knows nothing
/// of may still be in a queue: unless it was accepted within the time of --grace or a queue holds something, it is
/// unaccounted for.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Acceptance logs, plain or gzip; `-` is standard input
    #[arg(value_name = "LOG", default_value = ".orderfleet/acceptance.log")]
    logs: Vec<PathBuf>,
    /// Only what was accepted then or later, also for --events: 2026-01-31T12:00:00Z, or 24h for a day ago
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only what was accepted earlier than this
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// How old an order without a trace must be to count as lost
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    grace: Duration,
    /// How long to wait for each queue to be seen empty
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    wait: Duration,
    /// Exit with 3 also where something is not seen yet or could not be read
    #[arg(long)]
    strict: bool,
    /// List the orders of which this became; the summary goes to stderr then
    #[arg(long, value_name = "WHAT", value_parser = class_parser())]
    list: Option<Class>,
    #[command(flatten)]
    events: EventArgs,
    #[command(flatten)]
    fleet: FleetArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Publishing terminal events again (ids as they were, each order's last one)")]
struct EventArgs {
    /// Count the last events of the orders of the range that have ended, whenever they did; with --yes publish them
    #[arg(long)]
    events: bool,
    /// Publish
    #[arg(long, requires = "events", requires = "reason")]
    yes: bool,
    /// Why; recorded in the operator log
    #[arg(long, value_name = "TEXT", requires = "yes", value_parser = crate::fleet::reason)]
    reason: Option<String>,
    /// Events a second
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
}

/// Runs the audit and prints its balance, or the orders asked for; the exit code says how it went.
///
/// # Errors
/// When a log cannot be opened, or the database or the broker does not answer.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let Args { logs, since, until, grace, wait, strict, list, events, fleet } = args;
    let logs = open(&logs)?;
    let fleet = fleet.resolve()?;
    let audit = Audit {
        store: fleet.store().await?,
        events: events.resolve(&fleet).await?,
        topology: fleet.topology()?,
        broker: fleet.broker,
        range: Range { since, until },
        grace,
        patience: wait,
    };
    // Rows that run past on the same terminal would tear a bar apart.
    let has_bar = list.is_none() || !std::io::stdout().is_terminal();
    let progress = Progress::new(logs.progress(), has_bar);
    let mut face = Face { list: list.map(|class| List::new(class, output)), progress: &progress };
    let stop = CancellationToken::new();
    let outcome = tokio::select! {
        outcome = audit.run(logs, &mut face, &stop) => outcome,
        never = progress.show() => match never {},
        never = listen_for_ctrl_c(&stop, &progress) => match never {},
    };
    progress.finish();
    let report = outcome.map_err(explained)?;
    match face.list {
        Some(list) => {
            list.end()?;
            eprintln!("{}", summary::table(&report));
        }
        None => output.print(&report, &summary::table(&report))?,
    }
    Ok(exit_code(&report, strict).into())
}

/// Shows findings and waits, as they come.
struct Face<'a> {
    list: Option<List>,
    progress: &'a Progress,
}

impl Watcher for Face<'_> {
    fn found(&mut self, finding: &Finding) -> std::io::Result<()> {
        self.list.as_mut().map_or(Ok(()), |list| list.add(finding))
    }

    fn waiting(&mut self, queues: &[QueueDepth]) {
        self.progress.waiting(queues);
    }
}

impl EventArgs {
    async fn resolve(self, fleet: &Fleet) -> anyhow::Result<Events> {
        let Self { events, reason, rate, .. } = self;
        let Some(why) = reason else { return Ok(if events { Events::Count } else { Events::Leave }) };
        let who = operator()?;
        Ok(Events::Publish(Republishing { publisher: publisher(fleet).await?, rate, who, why }))
    }
}

async fn publisher(fleet: &Fleet) -> anyhow::Result<Publisher> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, fleet.publisher()).await;
    connected.unwrap_or_else(|_| {
        let what = format!("the broker did not answer within {} s", CONNECT_TIMEOUT.as_secs());
        Err(Failure { what, next: "orderfleet doctor".into(), code: DEPENDENCY_DOWN }.into())
    })
}

fn open(logs: &[PathBuf]) -> anyhow::Result<Logs> {
    Ok(Logs::open(logs).map_err(|error| {
        let source =
            std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        let next =
            "name the logs of the producers (their setting producer.acceptance_log): orderfleet audit LOG…";
        Failure::new(format!("{error}{source}"), next)
    })?)
}

/// Once: what is in hand is finished. Twice: leave at once.
async fn listen_for_ctrl_c(stop: &CancellationToken, progress: &Progress) -> std::convert::Infallible {
    loop {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        if stop.is_cancelled() {
            std::process::exit(exit::INTERRUPTED.into());
        }
        progress.note("stopping; Ctrl-C again leaves at once");
        stop.cancel();
    }
}

fn explained(error: AuditError) -> anyhow::Error {
    let next = match &error {
        AuditError::Store(_) | AuditError::Queues(_) => {
            "see what is wrong: orderfleet doctor; then run the audit again"
        }
        AuditError::Event { .. } => {
            "bring the broker back, then run the same command again: consumers know events they have seen by their ids"
        }
        AuditError::Record(_) => "nothing is published without a record: see that the database takes writes",
        AuditError::Show(_) => return error.into(),
    };
    let code = match &error {
        AuditError::Queues(InspectionError::Connect(error)) if error.is_refusal() => NOT_AUTHORISED,
        _ => DEPENDENCY_DOWN,
    };
    let error = anyhow::Error::from(error);
    let down = || Failure { what: format!("{error:#}"), next: next.into(), code };
    Failure::of_database(&error, next).unwrap_or_else(down).into()
}

fn exit_code(report: &Report, strict: bool) -> u8 {
    if !report.is_balanced() {
        exit::FAILED
    } else if report.interrupted {
        exit::INTERRUPTED
    } else if report.accepted == 0 {
        exit::NOTHING_MATCHED
    } else if strict && !report.is_complete() {
        exit::PARTLY
    } else {
        exit::OK
    }
}

fn class_parser() -> impl clap::builder::TypedValueParser<Value = Class> {
    use clap::builder::{PossibleValuesParser, TypedValueParser as _};
    let words = PossibleValuesParser::new(Class::ALL.map(Class::as_str));
    words.try_map(|word| {
        Class::ALL.into_iter().find(|class| class.as_str() == word).ok_or_else(|| "no such class".to_owned())
    })
}
