//! Order documents on a real MongoDB server.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken expectation is a failed test")]

mod claims;
mod documents;
mod failures;
mod notes;
mod schema;
mod support;
mod sweeps;
mod targeting;
mod writes;
