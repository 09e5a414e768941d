//! The service as clients and operators meet it: the binary, over HTTP, on a real MongoDB server.

#![expect(clippy::unwrap_used, reason = "a broken expectation is a failed test")]

mod orders;
mod outages;
mod support;
