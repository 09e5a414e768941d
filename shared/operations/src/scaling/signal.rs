//! What is to be done, as far as it can be seen.

use std::time::Duration;

use serde::Serialize;

use super::ages::Ages;
use super::limits::{self, Limit, state_of};
use crate::fleet::{FleetStatus, QueueStatus, Unseen};

/// The work of a fleet at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Signal {
    /// Its parts.
    pub parts: Parts,
    /// What the queues that do tell hold together, also where others do not.
    pub at_least: AtLeast,
    /// Why what is needed for a decision is unknown. Empty: the decision is by everything.
    pub unknown: Vec<Unseen>,
    /// Workers that were heard of and take orders: neither stale nor draining. `None` where that cannot be seen.
    pub workers_live: Option<u64>,
    /// What holds orders up.
    pub limits: Vec<Limit>,
    /// How long the calls of each step take.
    pub latencies: Vec<Latency>,
    /// Age of the oldest message of each queue of orders that is not paused; as `oldest_age_s`.
    pub ages: Vec<(String, Option<Duration>)>,
}

/// The parts of the work; `None` is unknown. Queues that a person has paused hold no work while they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Parts {
    /// Messages that wait in queues of orders.
    pub ready: Option<u64>,
    /// Deliveries in the hands of workers.
    pub in_flight: Option<u64>,
    /// Dead letters that wait to be parked.
    pub to_park: Option<u64>,
    /// Orders whose wait is over within seconds.
    pub due: Option<u64>,
    /// Orders that the next sweep brings back: owed publishes, and waits that were over long ago.
    pub owed: Option<u64>,
    /// Age of the oldest message that waits in a queue of orders, in seconds: a lower bound where nobody takes from its queue.
    pub oldest_age_s: Option<f64>,
    /// Orders handled per second, all workers together.
    pub per_second: Option<f64>,
    /// How long all that is ready or in flight would take at that rate, in seconds; unknown while nothing is handled.
    pub drain_predicted_s: Option<f64>,
}

/// Parts of the work, as far as queues tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AtLeast {
    /// As [`Parts::ready`].
    pub ready: u64,
    /// As [`Parts::in_flight`].
    pub in_flight: u64,
    /// As [`Parts::to_park`].
    pub to_park: u64,
}

/// How long the calls of a step take: the mean of all workers' last heartbeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latency {
    /// The step.
    pub step: String,
    /// In milliseconds.
    pub millis: u64,
}

impl Signal {
    /// What a look at a fleet says; `ages` remembers what earlier looks have seen.
    pub(super) fn of(status: &FleetStatus, now: Duration, ages: &mut Ages) -> Self {
        let mut unknown = Vec::new();
        let worked = || status.queues.iter().filter(|queue| queue.worked && queue.paused.is_none());
        let (dead, orders): (Vec<_>, Vec<_>) = worked().partition(|queue| queue.queue.starts_with("dead."));
        // Each queue is remembered, also behind one that does not tell.
        let ages: Vec<_> = orders.iter().map(|queue| (queue.queue.clone(), ages.on(now, queue))).collect();
        let oldest: Option<Vec<_>> = ages.iter().map(|(_, age)| *age).collect();
        let database = &status.database;
        let (sum_ready, sum_in_hand) = (sum(&orders, ready), sum(&orders, in_hand));
        let sum_dead = sum(&dead, |queue| Some(ready(queue)? + in_hand(queue)?));
        let at_least = AtLeast { ready: sum_ready.told, in_flight: sum_in_hand.told, to_park: sum_dead.told };
        let mut parts = Parts {
            ready: known(&mut unknown, "ready", status, sum_ready.all()),
            in_flight: known(&mut unknown, "in flight", status, sum_in_hand.all()),
            to_park: known(&mut unknown, "to park", status, sum_dead.all()),
            due: known(&mut unknown, "due", status, database.coming_due.ok_or(Hidden::Database)),
            owed: known(&mut unknown, "owed", status, database.to_bring_back.ok_or(Hidden::Database)),
            oldest_age_s: oldest.map(|ages| ages.iter().max().map_or(0.0, Duration::as_secs_f64)),
            per_second: orders.iter().map(|queue| queue.per_second).sum(),
            drain_predicted_s: None,
        };
        parts.drain_predicted_s = parts.drain_predicted_s();
        let live = |workers: &Vec<crate::fleet::Worker>| {
            workers.iter().filter(|worker| !worker.stale && !worker.status.draining).count() as u64
        };
        Self {
            parts,
            at_least,
            unknown,
            workers_live: status.workers.as_ref().map(live),
            limits: limits::limits(status),
            latencies: latencies(status),
            ages,
        }
    }

    /// Whether all that is needed for a decision is known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.unknown.is_empty()
    }

    /// What is known to be ready: there may be more.
    pub(super) fn ready(&self) -> u64 {
        self.parts.ready.unwrap_or(self.at_least.ready)
    }

    /// All the work that is known of: there may be more where a part is unknown.
    #[must_use]
    pub fn known_work(&self) -> u64 {
        let Parts { in_flight, to_park, due, owed, .. } = self.parts;
        let in_flight = in_flight.unwrap_or(self.at_least.in_flight);
        let to_park = to_park.unwrap_or(self.at_least.to_park);
        self.ready() + in_flight + to_park + due.unwrap_or(0) + owed.unwrap_or(0)
    }
}

impl Parts {
    #[expect(clippy::cast_precision_loss, reason = "a prediction in seconds")]
    fn drain_predicted_s(&self) -> Option<f64> {
        let left = self.ready? + self.in_flight?;
        match self.per_second? {
            _ if left == 0 => Some(0.0),
            per_second if per_second > 0.0 => Some(left as f64 / per_second),
            _ => None,
        }
    }
}

/// Where a part could not be seen.
enum Hidden {
    /// In this queue.
    Queue(String),
    Database,
}

fn ready(queue: &QueueStatus) -> Option<u64> {
    queue.ready.map(u64::from)
}

fn in_hand(queue: &QueueStatus) -> Option<u64> {
    queue.in_hand
}

/// A figure of some queues.
#[derive(Default)]
struct Sum {
    /// Of those that tell.
    told: u64,
    /// The first that does not.
    silent: Option<String>,
}

impl Sum {
    fn all(self) -> Result<u64, Hidden> {
        self.silent.map_or(Ok(self.told), |queue| Err(Hidden::Queue(queue)))
    }
}

fn sum(queues: &[&QueueStatus], figure: impl Fn(&QueueStatus) -> Option<u64>) -> Sum {
    let mut sum = Sum::default();
    for queue in queues {
        match figure(queue) {
            Some(some) => sum.told += some,
            None => _ = sum.silent.get_or_insert_with(|| queue.queue.clone()),
        }
    }
    sum
}

/// A part, or `None` with a word on why.
fn known(
    unknown: &mut Vec<Unseen>,
    what: &'static str,
    status: &FleetStatus,
    part: Result<u64, Hidden>,
) -> Option<u64> {
    let hidden = match part {
        Ok(known) => return Some(known),
        Err(hidden) => hidden,
    };
    let of = |what| status.unseen.iter().find(|unseen| unseen.what == what).map(|unseen| unseen.why.clone());
    let why = match hidden {
        Hidden::Database => of("database")
            .or_else(|| of("orders coming due"))
            .or_else(|| of("orders to bring back"))
            .unwrap_or_else(|| "the database does not tell".to_owned()),
        Hidden::Queue(queue) => {
            of("queues").or_else(|| of("workers")).or_else(|| of("database")).unwrap_or_else(|| {
                format!(
                    "the broker does not tell what {queue} holds, or a consumer of it says nothing of itself"
                )
            })
        }
    };
    unknown.push(Unseen { what, why });
    None
}

fn latencies(status: &FleetStatus) -> Vec<Latency> {
    let heard: Vec<_> = status.workers.iter().flatten().filter(|worker| !worker.stale).collect();
    let latency = |step: &str| {
        let states = heard.iter().filter_map(|worker| state_of(step, worker));
        let timed = states.filter_map(|state| Some((state.calls, state.latency_ms?)));
        let (calls, took) =
            timed.fold((0, 0), |(calls, took), (some, millis)| (calls + some, took + some * millis));
        Some(Latency { step: step.to_owned(), millis: u64::checked_div(took, calls)? })
    };
    status.downstreams.iter().filter_map(|step| latency(&step.step)).collect()
}
