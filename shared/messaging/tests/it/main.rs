//! Topology, publishing and consuming on a real RabbitMQ server.

#![expect(clippy::unwrap_used, reason = "a broken expectation is a failed test")]

mod consuming;
mod delivery_limit;
mod inspection;
mod outages;
mod pausing;
mod peeking;
mod publishing;
mod recovering;
mod shutdown;
mod support;
mod tiers;
mod topology;
