//! `orderfleet keys`: API keys. The file holds hashes only; a key is shown once, when it is made.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  orderfleet keys new --account shop-1 --region eu1
  orderfleet keys new --account shop-1 --region eu1 --file /etc/orderfleet/keys.toml --output json";

/// Make API keys
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    New(New),
}

/// Make a new key for an account and print it, once
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
struct New {
    /// The account whose orders the key may post and read
    #[arg(long, value_name = "NAME")]
    account: String,
    /// The account's home region; it is part of every order id and never changes
    #[arg(long, value_name = "REGION")]
    region: String,
    /// The file of hashed keys that the producer and the query API read
    #[arg(long, value_name = "FILE", default_value = "keys.toml")]
    file: PathBuf,
}

#[derive(Serialize)]
struct Made<'a> {
    key: &'a str,
    account: &'a str,
    region: &'a str,
    file: &'a std::path::Path,
}

/// Runs the command; stdout gets the key and nothing else.
///
/// # Errors
/// When the account or region is malformed, or the file cannot be read or appended to.
pub(crate) fn run(args: &Args, output: Output) -> anyhow::Result<ExitCode> {
    let Command::New(New { account, region, file }) = &args.command;
    let key = orderfleet_runtime::keys::create(file, account, region)?;
    output.print(&Made { key: &key, account, region, file }, &key)?;
    eprintln!("its hash is in {}; the key itself is stored nowhere and not shown again", file.display());
    Ok(ExitCode::SUCCESS)
}
