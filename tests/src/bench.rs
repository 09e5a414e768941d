//! The benchmark: what broker, database and services give by themselves, and beside it what the fleet makes of them, measured
//! in turn within one run.

mod bare;
mod bodies;
mod connection;
mod drain;
mod events;
mod load;
mod options;
mod parts;
mod report;
mod run;
mod schedule;
mod stage;
mod usage;

pub use bare::Bare;
pub use options::{Options, Output, Part};
pub use report::{Accounts, CostLine, Judged, Line, Report, Spread, Surroundings, Target};
pub use run::run;
