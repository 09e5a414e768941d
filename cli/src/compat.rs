//! `orderfleet compat`: can this build go on with what a running fleet has?

use std::process::ExitCode;
use std::time::Duration;

use orderfleet_messaging::{ConnectError, Inspector};
use orderfleet_operations::compat::{Candidate, Kind, Report, Verdict, examine};
use tokio::time::timeout;

use crate::exit;
use crate::fleet::{Fleet, FleetArgs, unusable_broker};
use crate::fleet_command::progress::Progress;
use crate::output::{Output, table, visible};

const APP_NAME: &str = "orderfleet compat";
/// Beyond the time that connecting takes at most.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How many more of a kind are read before that is told again.
const TOLD_EVERY: u64 = 500;

const EXAMPLES: &str = "\
Examples:
  orderfleet compat --against live                    # with the candidate's own CLI and settings
  orderfleet compat --against live --messages 0       # without a look into queues
  orderfleet compat --against live --output json | jq '.kinds[] | select(.misfits != [])'

What is looked at, and what that costs:
  database  every open order, every dead letter that nobody has dealt with: read, nothing else
  queues    the first messages of each. A broker has no look without a delivery: each is given
            back, which counts as one of the 20 deliveries after which a message goes to
            quarantine. A look ends at a message that was given back ten times already, but
            each run costs the first message one return, without a bound: do not loop it.
            What is in quarantine is not looked at

Exit codes:
   0  this build can go on with all of it
   1  failed; stderr says why
   3  nothing that does not fit was found, but not all could be looked at: NOTE says what. Left
      out on purpose, and no reason for it: quarantine, and queues with --messages 0
   5  the database or the broker refuses the user
   6  the database or the broker does not answer
  10  something does not fit this build, or not these settings";

/// Check that this build can go on with what a running fleet has, before it is let in or rolled back to
///
/// Reads messages, dead letters and open orders with the decoders, the saga core and the settings of this build: run the CLI of
/// the build that is to come. Changes nothing, but for what a look into a queue costs.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to compare with: the fleet that the settings name
    #[arg(long, value_enum)]
    against: Against,
    /// Most messages to look at in each queue
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    messages: u32,
    /// Most orders of a kind, and most dead letters, to read
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    fleet: FleetArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Against {
    /// A fleet that runs
    Live,
}

/// Looks, and prints what was found.
///
/// # Errors
/// When the settings cannot be used, or the database or the broker does not answer. What does not fit is no error but the
/// result.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let Args { against: Against::Live, messages, limit, fleet } = args;
    let fleet = fleet.resolve()?;
    let policy = fleet.policy()?;
    let store = fleet.store().await?;
    let inspector = connect(&fleet).await?;
    let (messages_max, documents_max) = (messages, limit);
    let candidate =
        Candidate { store: &store, inspector: &inspector, policy: &policy, documents_max, messages_max };
    let mut progress = Progress::new();
    let report = examine(&candidate, |kind, seen| {
        if seen.is_multiple_of(TOLD_EVERY) {
            progress.tell(&format!("{kind}: {seen} read"));
        }
    });
    let report = report.await;
    drop(progress);
    inspector.close().await;
    output.print(&report, &text(&report))?;
    Ok(exit_code(report.verdict).into())
}

fn exit_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Fits | Verdict::LeftOut => exit::OK,
        Verdict::Unknown => exit::PARTLY,
        Verdict::FitsWithSettings | Verdict::DoesNotFit => exit::DOES_NOT_FIT,
    }
}

async fn connect(fleet: &Fleet) -> anyhow::Result<Inspector> {
    let connecting = Inspector::connect(&fleet.broker, fleet.topology()?, APP_NAME);
    let error = match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(inspector)) => return Ok(inspector),
        Ok(Err(error)) => error,
        Err(_) => ConnectError::Timeout,
    };
    Err(unusable_broker(&fleet.broker, &error).into())
}

/// A line per kind; what does not fit stands below, with its fix.
fn text(report: &Report) -> String {
    let header = &["KIND", "VERDICT", "SEEN", "NOTE"];
    let mut text = table(header, report.kinds.iter().map(cells));
    for kind in &report.kinds {
        for misfit in &kind.misfits {
            let (name, verdict, what) = (visible(&kind.kind), misfit.verdict.as_str(), visible(&misfit.what));
            text.push_str(&format!("\n\n{name}, {verdict}: {} {what}", misfit.count));
            if !misfit.examples.is_empty() {
                text.push_str(&format!("\n  for example {}", visible(&misfit.examples.join(", "))));
            }
            text.push_str(&format!("\n  {}", visible(&misfit.fix)));
        }
    }
    let Report { messages_up_to, documents_up_to, verdict, .. } = report;
    text.push_str(&format!(
        "\n\nthis build reads messages up to version {messages_up_to} and documents up to version {documents_up_to}: {}",
        verdict.as_str()
    ));
    text
}

fn cells(kind: &Kind) -> Vec<String> {
    let Kind { kind, verdict, seen, of, note, .. } = kind;
    let seen = of.map_or_else(|| seen.to_string(), |of| format!("{seen} of {of}"));
    vec![kind.clone(), verdict.as_str().to_owned(), seen, note.clone().unwrap_or_default()]
}
