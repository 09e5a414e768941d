//! The ways an order can take, and the crash points on each.

use orderfleet_runtime::crash;
use orderfleet_tests::{Plan, Sandbox};
use serde_json::json;

/// A way that orders take. A fleet that is to crash on it gets orders of this way and no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// From the insert to the last step and the event.
    Forward,
    /// The message of an order that is done comes again.
    Finishing,
    /// A service fails, and the order waits in a tier.
    Deferring,
    /// The last step is refused, and all is undone.
    Compensating,
    /// A service fails for good: undone, and parked to be run again.
    Failing,
    /// A person has such an order run again.
    Replaying,
    /// The worker is told to end while a call is under way.
    Draining,
    /// The customer cancels while a call hangs.
    Cancelling,
    /// Another body comes under the key of a done order.
    Conflicting,
    /// An undo is refused: held for a person.
    Holding,
    /// A done order owes its event.
    Sweeping,
    /// A message that crashed workers comes to its dead-letter queue.
    Parking,
    /// The producer takes an order.
    Accepting,
    /// The producer takes a cancel.
    AcceptingCancels,
}

/// A crash point on a way, and how often one order passes it there.
pub(super) type Passed = (&'static str, u32);

impl Life {
    pub(super) const ALL: [Self; 14] = [
        Self::Forward,
        Self::Finishing,
        Self::Deferring,
        Self::Compensating,
        Self::Failing,
        Self::Replaying,
        Self::Draining,
        Self::Cancelling,
        Self::Conflicting,
        Self::Holding,
        Self::Sweeping,
        Self::Parking,
        Self::Accepting,
        Self::AcceptingCancels,
    ];

    /// Crash points on this way.
    pub(super) fn points(self) -> Vec<Passed> {
        let passed = |(effect, times): &Passed| {
            let of_it = crash::POINTS.iter().filter(|point| {
                point.strip_prefix(effect).is_some_and(|end| ["", ".before", ".after"].contains(&end))
            });
            of_it.map(|point| (*point, *times)).collect::<Vec<_>>()
        };
        self.effects().iter().flat_map(passed).collect()
    }

    /// Effects on this way, each with a crash point before and one after it, and single crash points.
    fn effects(self) -> &'static [Passed] {
        match self {
            Self::Forward => &[
                ("worker.insert", 1),
                ("worker.claim", 1),
                ("worker.call_do", 3),
                ("worker.write", 2),
                ("worker.publish_event", 1),
                ("worker.ack", 1),
            ],
            Self::Finishing => {
                &[("worker.insert", 1), ("worker.claim", 1), ("worker.publish_event", 1), ("worker.ack", 1)]
            }
            Self::Deferring => &[
                ("worker.claim", 1),
                ("worker.call_do", 2),
                ("worker.write", 2),
                ("worker.publish_copy", 1),
                ("worker.ack", 1),
            ],
            Self::Compensating => &[
                ("worker.claim", 1),
                ("worker.call_undo", 3),
                ("worker.write", 5),
                ("worker.publish_compensation", 1),
                ("worker.publish_event", 1),
                ("worker.ack", 2),
            ],
            Self::Failing => &[
                ("worker.call_undo", 2),
                ("worker.write", 3),
                ("worker.publish_compensation", 1),
                ("worker.publish_dead_letter", 1),
                ("worker.publish_event", 1),
                ("worker.ack", 2),
            ],
            Self::Replaying => &[
                ("worker.claim", 1),
                ("worker.call_do", 3),
                ("worker.write", 3),
                ("worker.publish_event", 1),
                ("worker.ack", 1),
            ],
            Self::Draining => &[("worker.write", 1), ("worker.publish_copy", 1), ("worker.ack", 1)],
            Self::Cancelling => &[("worker.note", 1), ("worker.ack", 1)],
            Self::Conflicting => &[("worker.publish_dead_letter", 1), ("worker.note", 1), ("worker.ack", 1)],
            Self::Holding => &[
                ("worker.call_undo", 2),
                ("worker.write", 3),
                ("worker.publish_dead_letter", 1),
                ("worker.ack", 2),
            ],
            Self::Sweeping => &[
                ("sweep.publish", 1),
                ("sweep.postpone.after", 1),
                ("worker.publish_event", 1),
                ("worker.note", 1),
                ("worker.ack", 1),
            ],
            Self::Parking => &[
                ("park.begin_reading", 1),
                ("park.store", 1),
                ("park.end_readings", 1),
                ("park.hold", 1),
                ("park.ack", 1),
            ],
            Self::Accepting => &[("producer.publish", 1), ("producer.accepted.after", 1)],
            Self::AcceptingCancels => &[("producer.publish", 1)],
        }
    }

    pub(super) fn plan(self) -> Plan {
        let steps = match self {
            Self::Failing | Self::Replaying => "attempts_max = 1\nquick_retries = 0\nbreaker_failures = 1000",
            Self::Deferring => "attempts_max = 1000\nquick_retries = 0\nbreaker_failures = 1000",
            Self::Cancelling => "timeout_ms = 60_000",
            _ => "",
        };
        let roles = if self == Self::Parking { Plan::ALL_ROLES } else { Plan::default().roles };
        Plan { workers: 0, steps, roles, ..Plan::default() }
    }

    /// What the services do wrong while orders of this way crash workers.
    pub(super) async fn harm(self, sandbox: &Sandbox) {
        let rules = match self {
            Self::Compensating => vec![json!({ "service": "accounting", "refuse": true })],
            Self::Failing | Self::Replaying => vec![json!({ "service": "fulfilment", "error_rate": 1.0 })],
            Self::Draining => vec![json!({ "service": "*", "latency_ms": 300 })],
            Self::Cancelling => vec![json!({ "service": "fulfilment", "hang": true })],
            Self::Holding => vec![
                json!({ "service": "fulfilment", "refuse": true }),
                json!({ "service": "inventory", "refuse": true, "verb": "undo" }),
            ],
            _ => Vec::new(),
        };
        for rule in rules {
            sandbox.fault(rule).await;
        }
    }

    /// Where a worker is to crash first, for points that only a second delivery of a message passes.
    pub(super) fn crashes_first_at(self, point: &str) -> Option<&'static str> {
        let is_at = |effect: &str| point.starts_with(effect);
        match self {
            Self::Forward if is_at("worker.claim.") => Some("worker.call_do.before"),
            Self::Parking if is_at("park.begin_reading.") || is_at("park.end_readings.") => {
                Some("park.store.before")
            }
            _ => None,
        }
    }

    /// Whether an order must be done before it can take this way.
    pub(super) fn starts_done(self) -> bool {
        matches!(self, Self::Finishing | Self::Conflicting | Self::Sweeping | Self::AcceptingCancels)
    }
}
