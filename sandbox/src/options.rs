//! The command line of the sandbox, which is also how tests configure one in-process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Parser;

use crate::rules::{Rule, RuleError};

const AFTER_HELP: &str = "\
Services and their base URLs for the worker:
  http://127.0.0.1:7070/inventory/steps
  http://127.0.0.1:7070/fulfilment/steps
  http://127.0.0.1:7070/accounting/steps

Fault rules are written SERVICE:FAULT[=VALUE][,verb=do|undo|both][,share=0..1][,times=N], where SERVICE is
inventory, fulfilment, accounting or '*' and FAULT is one of
  refuse_sku=SKU       refuse every order that holds this SKU (do only)
  refuse_country=CC    refuse every order that ships to this country (do only)
  refuse               refuse whatever comes
  latency_ms=N         wait N milliseconds first
  error_rate=0..1      answer 500 for this share of calls, without effect
  error_country=CC     answer 500 for every order that ships to this country, without effect (do only)
  unavailable          answer 503, without effect
  hang                 never answer, without effect; the connection is closed after 10 minutes, or when the
                       rules are cleared or replaced
  lost_reply           have the effect, then close the connection without an answer
and, to test a checker with, since no caller can put right what such a service does,
  ignore_keys          forget what was done: every do of a step instance takes effect anew (do only)
  ignore_tombstones    forget what was undone: a do after an undo takes effect (do only)
verb defaults to do, share to 1; a rule with times=N fires at most N times. Rules can be read and changed while
the sandbox runs, as JSON of the same words: GET, PUT, POST and DELETE on /faults.

Read back: GET /inventory/stock, /fulfilment/shipments, /accounting/accounts, /faults, /healthz, and for each
service /SERVICE/summary and /SERVICE/ledger (JSON lines; ?order_id= filters).

Examples:
  orderfleet-sandbox
  orderfleet-sandbox --listen 127.0.0.1:0 --data ./ledgers
  orderfleet-sandbox --fault fulfilment:refuse_sku=85123A --fault '*:latency_ms=20,verb=both'
  orderfleet-sandbox --fault accounting:lost_reply,share=0.1 --fault inventory:error_rate=0.05
  curl -X POST localhost:7070/faults -d '{\"service\":\"inventory\",\"hang\":true,\"times\":3}'";

/// Stand-ins for the shop's inventory, fulfilment and accounting services.
///
/// One process plays all three, each under its own path. They follow the downstream contract, keep an
/// append-only ledger each, and misbehave on request.
#[derive(Debug, Clone, Parser)]
#[command(name = "orderfleet-sandbox", version, after_help = AFTER_HELP)]
pub struct Options {
    /// Address to listen on; port 0 picks a free one and prints it.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7070", env = "ORDERFLEET_SANDBOX_LISTEN")]
    pub listen: SocketAddr,

    /// Folder for the ledgers; without it they live in memory only.
    ///
    /// It is created if missing. What the ledgers in it say is rebuilt at start.
    #[arg(long, value_name = "DIR", env = "ORDERFLEET_SANDBOX_DATA")]
    pub data: Option<PathBuf>,

    /// Units of every SKU in stock at the start.
    #[arg(long, value_name = "UNITS", default_value_t = 1_000_000)]
    pub stock: u64,

    /// A fault rule, such as fulfilment:refuse_sku=85123A; may be given several times.
    #[arg(long = "fault", value_name = "RULE", value_parser = Rule::from_flag)]
    pub fault: Vec<Rule>,

    /// A file with a JSON list of fault rules, added before those of --fault.
    #[arg(long, value_name = "FILE")]
    pub faults: Option<PathBuf>,

    /// Decides which calls a share picks; the same seed picks the same ones.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub seed: u64,

    /// Asks the sandbox that runs at --listen whether it is alive; exits 0 if so, else 1.
    #[arg(long)]
    pub probe: bool,
}

impl Options {
    /// The defaults of the command line, but on a free port of the loopback interface.
    pub fn on_free_port() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            data: None,
            stock: 1_000_000,
            fault: Vec::new(),
            faults: None,
            seed: 0,
            probe: false,
        }
    }

    /// All fault rules asked for: those of the file first, then those of the flags.
    pub(crate) fn rules(&self) -> Result<Vec<Rule>, FaultsFileError> {
        let mut rules = match &self.faults {
            Some(path) => read_rules(path)?,
            None => Vec::new(),
        };
        rules.extend(self.fault.iter().cloned());
        Ok(rules)
    }
}

fn read_rules(path: &Path) -> Result<Vec<Rule>, FaultsFileError> {
    let text =
        std::fs::read(path).map_err(|source| FaultsFileError::Read { path: path.to_owned(), source })?;
    Rule::list_from_json(&text).map_err(|source| FaultsFileError::Rule { path: path.to_owned(), source })
}

/// Why the file of fault rules could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FaultsFileError {
    /// The file cannot be read.
    #[error("cannot read the fault rules in {}", path.display())]
    Read {
        /// The file named by `--faults`.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A rule in it is wrong.
    #[error("wrong fault rule in {}", path.display())]
    Rule {
        /// The file named by `--faults`.
        path: PathBuf,
        /// Which field is wrong, and what would be right.
        source: RuleError,
    },
}
