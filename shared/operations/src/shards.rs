//! Sharding: where orders are to be kept on a sharded cluster, what has to be done to get there, and doing it.

mod apply;
mod place;
mod plan;

pub use apply::{Applied, Look, ShardsError, init, look};
pub use place::{Home, Pieces};
pub use plan::{Difference, Plan, Step, Whole, plan};
