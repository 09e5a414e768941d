//! What this crate measures. Kept by whatever recorder the process has installed before it connects; without one by nobody.

use std::{
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram};

use crate::{Destination, PublishError};

/// Handles, made once: a publish looks nothing up.
pub(crate) static METERS: LazyLock<Meters> = LazyLock::new(Meters::new);

const DESTINATIONS: [&str; 5] = ["lane", "wait", "compensate", "dead_letter", "event"];
const CONFIRMED: usize = 0;
const OUTCOMES: [&str; 5] = ["confirmed", "not_sent", "returned", "nacked", "unknown"];

pub(crate) struct Meters {
    /// By destination and outcome; those that have not happened do not exist, but for the confirmed ones.
    publish_seconds: [[OnceLock<Histogram>; OUTCOMES.len()]; DESTINATIONS.len()],
    publish_failed: [Counter; OUTCOMES.len()],
    /// Whether the broker has blocked publishing: 0 or 1.
    pub(crate) blocked: Gauge,
    publishing: Gauge,
    consuming: Gauge,
    publishes: Gauge,
    channels: Gauge,
}

impl Meters {
    fn new() -> Self {
        describe();
        let connections = |purpose| metrics::gauge!("orderfleet_broker_connections", "purpose" => purpose);
        let meters = Self {
            publish_seconds: Default::default(),
            publish_failed: OUTCOMES.map(|kind| match kind {
                "confirmed" => Counter::noop(),
                kind => metrics::counter!("orderfleet_publish_failed_total", "kind" => kind),
            }),
            blocked: metrics::gauge!("orderfleet_publishing_blocked"),
            publishing: connections("publishing"),
            consuming: connections("consuming"),
            publishes: metrics::gauge!("orderfleet_publishes_in_flight"),
            channels: metrics::gauge!("orderfleet_publish_channels"),
        };
        for destination in 0..DESTINATIONS.len() {
            meters.publish_seconds(destination, CONFIRMED);
        }
        meters
    }

    /// A publish has ended.
    pub(crate) fn published(&self, to: &Destination, result: &Result<(), PublishError>, took: Duration) {
        let outcome = outcome(result);
        self.publish_failed[outcome].increment(1);
        self.publish_seconds(destination(to), outcome).record(took);
    }

    /// A publishing connection is open for as long as this exists.
    pub(crate) fn publishing_connection(&self) -> Open {
        Open::new(&self.publishing)
    }

    /// A consuming connection is open for as long as this exists.
    pub(crate) fn consuming_connection(&self) -> Open {
        Open::new(&self.consuming)
    }

    /// A message waits to be sent, or for its confirm, for as long as this exists.
    pub(crate) fn publish_in_flight(&self) -> Open {
        Open::new(&self.publishes)
    }

    /// A channel to publish on is open for as long as this exists.
    pub(crate) fn publish_channel(&self) -> Open {
        Open::new(&self.channels)
    }

    fn publish_seconds(&self, destination: usize, outcome: usize) -> &Histogram {
        self.publish_seconds[destination][outcome].get_or_init(|| {
            let (destination, outcome) = (DESTINATIONS[destination], OUTCOMES[outcome]);
            metrics::histogram!("orderfleet_publish_seconds", "destination" => destination, "outcome" => outcome)
        })
    }
}

/// Deliveries that wait for their turn. Of those who consume alone.
static DELIVERIES: LazyLock<Gauge> = LazyLock::new(|| {
    metrics::describe_gauge!("orderfleet_deliveries_waiting", "Deliveries in hand that wait for their turn");
    metrics::gauge!("orderfleet_deliveries_waiting")
});

/// A delivery waits for its turn for as long as this exists.
pub(crate) fn delivery_waiting() -> Open {
    Open::new(&DELIVERIES)
}

/// Deliveries whose acknowledgement is gathered. Of those who consume alone.
static ACKS: LazyLock<Gauge> = LazyLock::new(|| {
    metrics::describe_gauge!("orderfleet_acks_waiting", "Handled deliveries that are not acknowledged yet");
    metrics::gauge!("orderfleet_acks_waiting")
});

/// A handled delivery waits for its acknowledgement for as long as this exists.
pub(crate) fn ack_waiting() -> Open {
    Open::new(&ACKS)
}

/// One of the things a gauge counts.
#[derive(Debug)]
pub(crate) struct Open(Gauge);

impl Open {
    fn new(gauge: &Gauge) -> Self {
        gauge.increment(1);
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

fn describe() {
    metrics::describe_histogram!(
        "orderfleet_publish_seconds",
        "From the wish to publish to the broker's confirm, or to its absence"
    );
    metrics::describe_counter!("orderfleet_publish_failed_total", "Publishes without a plain confirm");
    metrics::describe_gauge!("orderfleet_publishing_blocked", "1 while the broker has blocked publishing");
    metrics::describe_gauge!("orderfleet_broker_connections", "Open connections to the broker");
    metrics::describe_gauge!(
        "orderfleet_publishes_in_flight",
        "Messages that wait to be sent, or for their confirm"
    );
    metrics::describe_gauge!("orderfleet_publish_channels", "Open channels to publish on");
}

fn destination(to: &Destination) -> usize {
    match to {
        Destination::Lane(_) => 0,
        Destination::Wait(..) | Destination::WaitDead(..) => 1,
        Destination::Compensate(_) => 2,
        Destination::DeadLetter(_) => 3,
        Destination::Event(_) => 4,
    }
}

fn outcome(result: &Result<(), PublishError>) -> usize {
    match result {
        Ok(()) => CONFIRMED,
        Err(PublishError::NotSent(_)) => 1,
        Err(PublishError::Returned { .. }) => 2,
        Err(PublishError::Nacked) => 3,
        Err(PublishError::Unknown(_)) => 4,
    }
}
