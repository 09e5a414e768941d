//! The declared topology against the broker: what differs, what would mend it, and mending what can be mended safely.
//!
//! A queue's arguments cannot be changed, so one that differs has to be deleted and declared anew. Only what is empty and
//! unused is deleted here; for anything else the plan says what people have to do.

mod apply;
mod diff;
mod management;
mod plan;

pub use apply::{Applied, Approval, apply};
pub(crate) use diff::compare;
pub use diff::{Diff, Drift, DriftState, diff};
pub(crate) use management::Observed;
pub use management::{Management, ManagementError};
pub use plan::{Action, By, Plan, Step, plan};
