//! Stand-ins for three services that belong to other people: inventory, fulfilment and accounting.
//!
//! They follow the contract of `docs/DOWNSTREAM.md`, keep an append-only ledger each, and misbehave on
//! request. Everything starts with [`Sandbox::start`]. Beside them is a TCP fault [`proxy`].

mod accounting;
mod call;
mod faults;
mod fulfilment;
mod http;
mod inventory;
mod ledger;
mod options;
mod order;
mod outlook;
pub mod proxy;
mod record;
mod rules;
mod server;
mod service;

pub use ledger::LedgerError;
pub use options::{FaultsFileError, Options};
pub use rules::{Rule, RuleError};
pub use server::{Sandbox, StartError};
