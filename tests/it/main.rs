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
mod doctor;
mod downstream;
mod idempotency;
mod intake;
mod load;
mod log_level;
mod metrics;
mod operating;
mod operator;
mod park;
mod pauses;
mod poison;
mod privacy;
mod reading;
mod replaying;
mod scaling;
mod scenarios;
mod secrets;
mod sharding;
mod shipped;
mod traces;
mod upgrading;
mod workers;
