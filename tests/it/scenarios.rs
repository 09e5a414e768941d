//! Named disasters on a real fleet, each told what it injected and judged by the checker of the chaos runs.
//!
//! With `ORDERFLEET_LONG=1` they last as long, and are as large, as in the reliability report.
//! One more is in `cancelling.rs`: a cancel that comes before the order's document exists.

mod broker_alarm;
mod crashing_body;
mod database_away;
mod overload;
mod secondaries;
mod steps;
mod two_bodies;
mod zombie;

use std::env;

use orderfleet_native::{RabbitMq, RabbitMqOptions, TempFolder};

/// Whether there is time for the full size.
pub(crate) fn long() -> bool {
    env::var("ORDERFLEET_LONG").is_ok_and(|value| value == "1")
}

/// A broker of the scenario's own, for what would hit everybody; its folder goes after it.
async fn own_broker() -> (RabbitMq, TempFolder) {
    let folder = TempFolder::new().unwrap();
    let broker = RabbitMq::start(folder.path(), RabbitMqOptions::default()).await.unwrap();
    (broker, folder)
}
