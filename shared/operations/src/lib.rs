//! What operators and developers can do with a fleet. The CLI is its first face.
//!
//! Whatever changes something is planned first and shown, done for a reason by a person with a name, and recorded.

mod operator;

pub use operator::{BadOperator, Operator};
