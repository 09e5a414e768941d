//! A whole fleet as real processes on a real broker and database, driven and looked at from outside.
//!
//! Everything here panics when an expectation does not hold: a broken expectation is a failed test. The fleet then shows
//! the last lines of its logs.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken expectation is a failed test")]

pub mod bench;
mod broker;
pub mod chaos;
mod cleanup;
mod client;
mod fleet;
mod member;
mod native_fleet;
mod orders;
mod plan;
mod proc;
mod sandbox;
mod until;

pub use broker::{Broker, Message, Tap};
pub use client::{Answer, Client};
pub use fleet::Fleet;
pub use member::{Member, program};
pub use native_fleet::{NativeFleet, Served};
pub use orders::{large_order, order, order_of};
pub use plan::Plan;
pub use sandbox::{Count, Effects, SERVICES, Sandbox};
pub use until::{DEADLINE, until, until_equal, until_within};
