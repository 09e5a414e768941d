//! Completions, man pages and help topics: all from the definition of the command line itself.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::exit;

const COMPLETIONS: &str = "\
Examples:
  orderfleet completions bash > ~/.local/share/bash-completion/completions/orderfleet
  orderfleet completions fish > ~/.config/fish/completions/orderfleet.fish
  orderfleet completions zsh > ~/.zfunc/_orderfleet";

const MAN: &str = "\
Examples:
  orderfleet man | man -l -
  orderfleet man ~/.local/share/man/man1";

/// Shown for a help topic: no usage, no options.
const TOPIC: &str = "{about}{after-help}";

/// Every variable that is looked at.
const ENVIRONMENT: &str = "\
Which fleet:
  ORDERFLEET_CONFIG           settings file of the fleet's services, as --config
  ORDERFLEET_AMQP_URL         the broker, with its password; wins over broker.url of the file
  ORDERFLEET_MONGODB_URI      the database, with its password; wins over database.uri of the file
  ORDERFLEET_<SECTION>__<KEY> any setting, for example ORDERFLEET_DATABASE__NAME=shop
  ORDERFLEET_MANAGEMENT_URL   the broker's management API, as --management-url
  ORDERFLEET_MANAGEMENT_LOGIN_FILE
                              a file with its USER:PASSWORD, as --management-login-file

Posting and reading orders as a client:
  ORDERFLEET_PRODUCER_URL     base URL of the producer, as --producer-url
  ORDERFLEET_QUERY_URL        base URL of the query API, as --query-url
  ORDERFLEET_API_KEY          the API key itself
  ORDERFLEET_API_KEY_FILE     a file that holds it

Checking a downstream service:
  ORDERFLEET_DOWNSTREAM_HEADERS
                              headers for it, one a line, for example its credentials

Who and how:
  ORDERFLEET_OPERATOR         your name as it is recorded with changes; else that of the user
  VISUAL, EDITOR              the editor for what is edited
  NO_COLOR                    no colours, also on a terminal

Flags win over variables, variables over the settings file. Secrets are read from variables and
files, never from flags: a command line is seen by everybody on the machine.

Example:
  ORDERFLEET_OPERATOR=jo ORDERFLEET_CONFIG=/etc/orderfleet.toml orderfleet audit --since 24h";

/// Print the completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETIONS)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

/// Write the man pages, one for each command
#[derive(Debug, clap::Args)]
#[command(after_help = MAN)]
pub(crate) struct Man {
    /// Folder for the pages, made if it is missing; without one the first page is printed
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// The exit codes of every command
#[derive(Debug, clap::Args)]
#[command(hide = true, help_template = TOPIC, after_help = exit::HELP)]
pub(crate) struct ExitCodes {}

/// The environment variables that are looked at
#[derive(Debug, clap::Args)]
#[command(hide = true, help_template = TOPIC, after_help = ENVIRONMENT)]
pub(crate) struct Environment {}

impl Completions {
    /// Prints the script.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::Cli::command(), "orderfleet", &mut script);
        print(&script)
    }
}

impl Man {
    /// Writes or prints the pages; what is there already is replaced.
    ///
    /// # Errors
    /// When the folder or stdout cannot be written.
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let Some(dir) = &self.dir else {
            let mut page = Vec::new();
            clap_mangen::Man::new(crate::Cli::command()).render(&mut page)?;
            return print(&page);
        };
        std::fs::create_dir_all(dir)
            .and_then(|()| clap_mangen::generate_to(crate::Cli::command(), dir))
            .with_context(|| format!("writing the man pages to {}", dir.display()))?;
        eprintln!("written; read them with: man -M {} orderfleet", dir.parent().unwrap_or(dir).display());
        Ok(ExitCode::SUCCESS)
    }
}

impl ExitCodes {
    /// Prints the topic, as `orderfleet help exit-codes` does.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(crate) fn run() -> anyhow::Result<ExitCode> {
        print(format!("{}\n", exit::HELP).as_bytes())
    }
}

impl Environment {
    /// Prints the topic, as `orderfleet help environment` does.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(crate) fn run() -> anyhow::Result<ExitCode> {
        print(format!("{ENVIRONMENT}\n").as_bytes())
    }
}

fn print(bytes: &[u8]) -> anyhow::Result<ExitCode> {
    std::io::stdout().lock().write_all(bytes)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
