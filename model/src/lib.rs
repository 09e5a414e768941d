//! The shipped saga core in a hostile world: one order, a queue that redelivers, a database whose answers get lost,
//! services whose requests arrive late, a broker that does not confirm, workers that crash, freeze and drain.
//!
//! One [`World`] serves three ways of looking: every schedule within small bounds ([`exhaustive`]), millions of long random
//! ones ([`simulate`]), and single ones that were kept ([`Schedule`]). It holds no rule of its own about what a worker
//! does: that is `orderfleet_domain::saga`, the same code that runs in production.

mod actions;
mod broker;
mod check;
pub mod exhaustive;
mod faults;
pub mod mutants;
mod people;
mod schedule;
mod services;
mod setup;
pub mod simulate;
mod store;
mod world;

pub use actions::{Action, CrashTo, Outcome, Skew};
pub use check::Property;
pub use faults::{Budget, Fault};
pub use schedule::{Schedule, Verdict, shrink};
pub use setup::{Judged, Scope, Setup};
pub use store::Database;
pub use world::World;
