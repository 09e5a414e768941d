//! Order documents and dead letters on a real MongoDB server.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken expectation is a failed test")]

mod as_modelled;
mod balance;
mod claims;
mod dead_letters;
mod documents;
mod failures;
mod groups;
mod holds;
mod inspection;
mod letters;
mod listing;
mod notes;
mod operator_log;
mod pauses;
mod replays;
mod schema;
mod support;
mod surveys;
mod sweeps;
mod targeting;
mod writes;
