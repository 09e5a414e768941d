//! `orderfleet downstream`: whether a step's service keeps the contract of docs/DOWNSTREAM.md.

mod progress;
mod text;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use orderfleet_domain::{AccountId, Order, StepName};
use orderfleet_operations::conformance::{
    Check, CheckError, Headers, Report, Restarted, ServiceUrl, Settings, made_up_order,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::exit::{DEPENDENCY_DOWN, FAILED, Failure, INTERRUPTED, OK};
use crate::output::Output;
use progress::Progress;

/// Exit code of clap too: a mistake in the command line, or in a file that it names.
const USAGE: u8 = 2;
const HEADERS_VARIABLE: &str = "ORDERFLEET_DOWNSTREAM_HEADERS";

const EXAMPLES: &str = "\
Examples:
  orderfleet downstream check http://127.0.0.1:7070/inventory/steps
  orderfleet downstream check http://127.0.0.1:7070/inventory/steps --yes
  orderfleet downstream check https://stock.staging.example/steps --yes \\
      --step inventory --order order.json --headers-file staging.headers
  orderfleet downstream check URL --yes --refused-order sold-out.json --pause-for-restart
  orderfleet downstream check URL --yes --strict --output json \\
      | jq '.rules[] | select(.verdict != \"passed\")'

The check has real effects at the service and undoes all of them. Run it where orders of nobody do
no harm.

Exit codes:
    0  every rule that was checked passed, perhaps with warnings
    1  a rule failed, or with --strict there was a warning, or something could not be undone
    2  mistake in the command line, or in a file that it names
    6  the service cannot be reached
  130  interrupted; what was done has been undone as far as the report says";

/// Check the services behind the steps
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Check(Box<CheckArgs>),
}

/// Check whether a service keeps the downstream contract, rule by rule, by using it
///
/// Without --yes, nothing is sent and the plan is printed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
struct CheckArgs {
    /// Base URL of the service, as in the settings of the step; the step instance is appended to it
    url: ServiceUrl,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// The step that the calls name, where the service wants to read its own
    #[arg(long, value_name = "STEP", default_value = "check")]
    step: StepName,
    /// The account that the calls name
    #[arg(long, value_name = "ACCOUNT", default_value = "check")]
    account: AccountId,
    /// An order that the service accepts, in JSON as posted [default: a made-up one with one line]
    #[arg(long, value_name = "FILE")]
    order: Option<PathBuf>,
    /// An order that the service refuses, in JSON as posted; without it, refusals are not checked
    #[arg(long, value_name = "FILE")]
    refused_order: Option<PathBuf>,
    /// Headers of every call, such as credentials, one `Name: value` per line
    /// [env: ORDERFLEET_DOWNSTREAM_HEADERS (the lines themselves)]
    #[arg(long, value_name = "FILE")]
    headers_file: Option<PathBuf>,
    /// A call that takes longer counts as not answered, as with `timeout_ms` of the step
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    timeout_ms: u64,
    /// How often a do is raced with its undo
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    races: u32,
    /// Wait while you restart the service, and check that it still knows everything
    #[arg(long)]
    pause_for_restart: bool,
    /// Take warnings for failures
    #[arg(long)]
    strict: bool,
}

/// Runs the command; stdout gets the report, or without `--yes` the plan.
///
/// # Errors
/// A file that is named cannot be used, or the service cannot be reached.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let Command::Check(args) = args.command;
    let (yes, strict, restart) = (args.yes, args.strict, args.pause_for_restart);
    let check = Check::new(args.settings()?)?;
    let plan = check.plan(restart);
    if !yes {
        output.print(&plan, &text::plan(&plan))?;
        eprintln!("nothing was sent; the same command with --yes does it");
        return Ok(OK.into());
    }
    eprintln!("{}", text::plan(&plan));
    let progress = Progress::new(plan.rules.len() as u64);
    let restarted = restart.then(|| restarted(progress.clone()));
    let stop = stop_requested(progress.clone());
    let checked = check.run(&|news| progress.tell(&news), stop, restarted).await;
    progress.finish();
    let report = checked.map_err(failure)?;
    print(&report, output)?;
    Ok(exit_code(&report, strict).into())
}

impl CheckArgs {
    fn settings(self) -> anyhow::Result<Settings> {
        let order = self.order.as_deref().map(read_order).transpose()?;
        Ok(Settings {
            headers: read_headers(self.headers_file.as_deref())?,
            order: order.unwrap_or_else(made_up_order),
            refused: self.refused_order.as_deref().map(read_order).transpose()?,
            url: self.url,
            account: self.account,
            step: self.step,
            timeout: Duration::from_millis(self.timeout_ms),
            races: self.races,
        })
    }
}

fn read_order(path: &Path) -> anyhow::Result<Order> {
    let json = read(path)?;
    let next = "give an order in JSON as it is posted to /v1/orders; docs/API.md shows one";
    serde_json::from_str(&json).map_err(|error| unusable(path, &error, next))
}

fn read_headers(file: Option<&Path>) -> anyhow::Result<Headers> {
    let next = "write one header per line, for example Authorization: Bearer TOKEN";
    match (file, std::env::var(HEADERS_VARIABLE)) {
        (Some(path), _) => read(path)?.parse::<Headers>().map_err(|error| unusable(path, &error, next)),
        (None, Ok(lines)) => {
            lines.parse::<Headers>().map_err(|error| unusable(Path::new(HEADERS_VARIABLE), &error, next))
        }
        (None, Err(_)) => Ok(Headers::default()),
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
    text.map_err(|error| {
        let next = "name a text file that exists and may be read";
        Failure { what: format!("{error:#}"), next: next.into(), code: USAGE }.into()
    })
}

fn unusable(path: &Path, error: &dyn std::error::Error, next: &str) -> anyhow::Error {
    Failure { what: format!("{}: {error}", path.display()), next: next.into(), code: USAGE }.into()
}

fn failure(error: CheckError) -> anyhow::Error {
    let CheckError::Unreachable { .. } = &error else { return error.into() };
    let next = "start the service, or correct the URL; nothing was done".into();
    Failure { what: error.to_string(), next, code: DEPENDENCY_DOWN }.into()
}

/// Ends at the first Ctrl-C or SIGTERM; the second one leaves at once.
async fn stop_requested(progress: Progress) {
    signalled().await;
    progress.note("stopping: what was done is being undone; Ctrl-C again leaves at once");
    tokio::spawn(async {
        signalled().await;
        std::process::exit(INTERRUPTED.into());
    });
}

async fn signalled() {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else { return std::future::pending().await };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Ends when Enter was pressed, with `false` if there is nobody who could.
fn restarted(progress: Progress) -> Restarted {
    Box::pin(async move {
        progress.note("now restart the service, and press Enter when it is back");
        let (press, pressed) = oneshot::channel();
        // A thread of its own: one of the runtime's would keep this process from ending until Enter is pressed.
        std::thread::spawn(move || {
            let read = std::io::stdin().read_line(&mut String::new());
            // Nobody waits any more where the check was stopped meanwhile.
            let _ = press.send(read.is_ok_and(|bytes| bytes > 0));
        });
        pressed.await.unwrap_or(false)
    })
}

/// JSON lines have a line per rule, and then one with everything else.
fn print(report: &Report, output: Output) -> anyhow::Result<()> {
    if output != Output::Jsonl {
        return output.print(report, &text::report(report));
    }
    report.rules.iter().try_for_each(|rule| output.print(rule, ""))?;
    output.print(&Report { rules: Vec::new(), ..report.clone() }, "")
}

fn exit_code(report: &Report, strict: bool) -> u8 {
    let counts = &report.counts;
    if report.interrupted {
        INTERRUPTED
    } else if report.unreachable {
        DEPENDENCY_DOWN
    } else if counts.failed > 0 || !report.left_behind.is_empty() || (strict && counts.warnings > 0) {
        FAILED
    } else {
        OK
    }
}
