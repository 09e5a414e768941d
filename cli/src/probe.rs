//! `orderfleet probe`: is a process well? For images that hold no shell and no HTTP client.

use std::{net::SocketAddr, process::ExitCode};

use orderfleet_runtime::probe::{self, Probe};

use crate::exit::{DEPENDENCY_DOWN, Failure};

const HELP: &str = "\
Examples:
  orderfleet probe 127.0.0.1:9095            # is it alive?
  orderfleet probe 127.0.0.1:9095 ready      # is all that it needs there?

Prints nothing if it is well. Exit codes: 0 it is, 6 it is not, or nobody answers within 3 s; stderr says why";

/// Ask a process on this machine whether it is alive or ready
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Where it serves /healthz and /readyz: its admin port, or that of `fleet signal --listen`
    #[arg(value_name = "ADDR")]
    address: SocketAddr,
    /// What to ask
    #[arg(value_enum, value_name = "WHAT", default_value = "alive")]
    what: Probe,
}

/// Asks once.
///
/// # Errors
/// It is not well, or does not answer.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { address, what } = args;
    match probe::ask(address, what.path()).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            let next = "look at its log; what is not alive wants a restart, what is not ready wants what it waits for";
            Err(Failure { code: DEPENDENCY_DOWN, ..Failure::new(format!("{error:#}"), next) }.into())
        }
    }
}
