//! What operators and developers can do with a fleet. The CLI is its first face.
//!
//! Whatever changes something is planned first and shown, done for a reason by a person with a name, and recorded.

pub mod audit;
pub mod compat;
pub mod conformance;
pub mod correction;
pub mod dead_letters;
pub mod doctor;
pub mod filter;
pub mod fleet;
pub mod forecast;
pub mod log;
mod operator;
pub mod orders;
pub mod pause;
pub mod replay;
pub mod scaling;
pub mod shards;
pub mod topology;

pub use operator::{BadOperator, Operator};
