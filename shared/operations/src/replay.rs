//! Replaying dead letters: what it means for each of them, and how many of them come back together.
//!
//! A replay publishes and never writes an order: a message asks for a further run, releases a hold, or is the dead letter's own
//! once more. Workers decide by the document, so that a message that comes twice, or late, has its effect once or none.

mod begin;
mod course;
mod ending;
#[cfg(test)]
mod fixtures;
mod follow;
mod items;
mod judging;
mod plan;
mod publish;
mod ramp;
mod run;

pub use course::{Correction, Course, Nothing, Settled, course};
pub use items::Progress;
pub use plan::{Group, Plan, PlanError, Planned, new_id, plan};
pub use ramp::Ramp;
pub use run::{Budget, Outcome, Replaying, RunError};

pub(crate) use judging::judge;
pub(crate) use publish::correction;
