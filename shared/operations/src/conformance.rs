//! The conformance suite of the downstream contract (docs/DOWNSTREAM.md): asks a service what workers would ask it, and
//! tells rule by rule whether it answers as they need it.
//!
//! It makes real effects at the service, each of a step instance of its own, and undoes all of them. Whether a service has
//! effects that it tells nobody of, only its own books can show.

mod address;
mod answer;
mod call;
mod case;
mod check;
mod checks;
mod figures;
mod footprint;
mod headers;
mod masks;
mod order_ids;
mod plan;
mod report;
mod rules;
mod service;
mod suite;

pub use address::{BadUrl, ServiceUrl};
pub use check::{Check, CheckError, Restarted, Settings, Tell, made_up_order};
pub use headers::{BadHeaders, Headers};
pub use plan::Plan;
pub use report::{Counts, Exchange, LeftBehind, Progress, Report, RuleReport, Verdict};
pub use rules::Rule;
