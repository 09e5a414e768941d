//! The fleet's promises, checked from outside: by its answers, its queues, its database and the ledgers of the services.

#![expect(clippy::unwrap_used, reason = "a broken expectation is a failed test")]

mod broker;
mod compensation;
mod completion;
mod downstream;
mod idempotency;
mod intake;
mod load;
mod poison;
mod privacy;
mod reading;
mod workers;
