//! How many workers a fleet needs: a signal from the broker and the database, and a decision by it.
//!
//! The signal is what is to be done: messages that wait in queues which workers consume, deliveries in their hands, dead letters to
//! park, orders about to come out of a wait tier, and what the sweeper has to bring back. Each part is known or unknown, and
//! unknown is never nothing. [`Scaler`] decides without a clock and without I/O; `orderfleet up` does what it says, and
//! `orderfleet fleet signal` tells it to whatever scales workers elsewhere.

mod ages;
mod limits;
mod sampler;
mod scaler;
mod signal;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use limits::Limit;
pub use sampler::{Sample, Sampler};
pub use scaler::{Bounds, Decision, Scaler, Size};
pub use signal::{AtLeast, Latency, Parts, Signal};
