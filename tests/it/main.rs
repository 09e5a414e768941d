//! The fleet's promises, checked from outside: by its answers, its queues, its database and the ledgers of the services.

#![expect(clippy::unwrap_used, reason = "a broken expectation is a failed test")]

mod broker;
mod cancelling;
mod case;
mod checker;
mod clocks;
mod compensation;
mod completion;
mod crash_points;
mod downstream;
mod idempotency;
mod intake;
mod load;
mod park;
mod poison;
mod privacy;
mod reading;
mod scenarios;
mod workers;
