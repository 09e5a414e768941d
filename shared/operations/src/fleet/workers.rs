//! The workers, by their heartbeats, and the services of the steps as they see them.

use jiff::{SignedDuration, Timestamp};
use orderfleet_domain::saga::Policy;
use orderfleet_storage::{Pause, PauseTarget, WorkerStatus};
use serde::Serialize;

/// A worker that was not heard of for so long, five heartbeats, is gone, hangs, or is cut off from the database.
pub const STALE_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// A worker, as it was heard of last.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Worker {
    /// What it said.
    #[serde(flatten)]
    pub status: WorkerStatus,
    /// How long ago, by the database's clock, in milliseconds.
    pub heard_ms: u64,
    /// So long ago that it does not count any more.
    pub stale: bool,
    /// Deliveries it works on, or holds until it can.
    pub in_hand: u64,
    /// Deliveries handled per second, between its last two heartbeats.
    pub per_second: f64,
}

/// The circuits of one step, of all workers that were heard of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Circuits {
    /// The step.
    pub step: String,
    /// How many of each state; `None` where no worker was heard of.
    pub circuits: Option<Counted>,
    /// Who has paused the service.
    pub paused: Option<Pause>,
}

/// Circuits by their state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Calls are made.
    pub closed: u32,
    /// One call finds out whether the service is back.
    pub half_open: u32,
    /// The service is left alone.
    pub open: u32,
}

/// What was heard, judged by the database's clock; longest running first.
pub(super) fn workers(heard: Vec<WorkerStatus>, now: Timestamp) -> Vec<Worker> {
    let mut workers: Vec<_> = heard.into_iter().map(|status| judged(status, now)).collect();
    workers.sort_by(|one, other| {
        (one.status.started_at, &one.status.instance).cmp(&(other.status.started_at, &other.status.instance))
    });
    workers
}

fn judged(status: WorkerStatus, now: Timestamp) -> Worker {
    let age = now.duration_since(status.at);
    Worker {
        heard_ms: u64::try_from(age.as_millis()).unwrap_or(0),
        stale: age > STALE_AFTER,
        in_hand: status.queues.iter().map(|load| load.in_hand).sum(),
        // No float at all would add up to minus zero.
        per_second: status.queues.iter().fold(0.0, |sum, load| sum + load.per_second),
        status,
    }
}

/// The services of the steps.
pub(super) fn downstreams(
    policy: &Policy,
    workers: Option<&[Worker]>,
    pauses: Option<&[Pause]>,
) -> Vec<Circuits> {
    let step_names = policy.step_names().into_iter();
    step_names
        .map(|step| {
            let target = PauseTarget::Downstream(step.clone());
            let paused = pauses.and_then(|pauses| pauses.iter().find(|pause| pause.target == target));
            let circuits = workers.and_then(|workers| counted(step.as_str(), workers));
            Circuits { step: step.to_string(), circuits, paused: paused.cloned() }
        })
        .collect()
}

fn counted(step: &str, workers: &[Worker]) -> Option<Counted> {
    let heard = workers.iter().filter(|worker| !worker.stale);
    let mut counted: Option<Counted> = None;
    for circuit in heard.flat_map(|worker| &worker.status.circuits).filter(|circuit| circuit.step == step) {
        let counted = counted.get_or_insert_default();
        match circuit.state.as_str() {
            "closed" => counted.closed += 1,
            "half_open" => counted.half_open += 1,
            _ => counted.open += 1,
        }
    }
    counted
}

#[cfg(test)]
pub(super) mod tests {
    use orderfleet_domain::saga::StepSettings;
    use orderfleet_storage::{CircuitState, QueueLoad};

    use super::*;

    /// A worker that was just heard of and has so much in hand of a queue.
    pub(in crate::fleet) fn worker(instance: &str, queue: &str, in_hand: u64) -> Worker {
        judged(status(instance, queue, in_hand), Timestamp::UNIX_EPOCH)
    }

    fn status(instance: &str, queue: &str, in_hand: u64) -> WorkerStatus {
        let load =
            QueueLoad { queue: queue.into(), in_hand, handled: 9, per_second: 1.5, taken_age_ms: None };
        WorkerStatus {
            instance: instance.into(),
            host: "h".into(),
            pid: 1,
            build: "0.1.0".into(),
            roles: vec!["forward".into()],
            started_at: Timestamp::UNIX_EPOCH,
            at: Timestamp::UNIX_EPOCH,
            draining: false,
            queues: vec![load],
            circuits: vec![CircuitState {
                step: "inventory".into(),
                state: "open".into(),
                ..CircuitState::default()
            }],
            pauses: Vec::new(),
        }
    }

    #[test]
    fn a_worker_that_was_not_heard_of_for_five_heartbeats_does_not_count() {
        let now = Timestamp::from_second(11).unwrap();
        let late = workers(vec![status("a", "retry", 1)], now);
        assert!(late[0].stale && late[0].heard_ms == 11_000, "{late:?}");
        let fresh = workers(vec![status("a", "retry", 1)], Timestamp::from_second(10).unwrap());
        assert!(!fresh[0].stale, "{fresh:?}");
        let policy = Policy::new(StepSettings::defaults(), 0).unwrap();
        assert_eq!(downstreams(&policy, Some(&late), None)[0].circuits, None);
        let open = Counted { open: 1, ..Counted::default() };
        assert_eq!(downstreams(&policy, Some(&fresh), None)[0].circuits, Some(open));
        assert_eq!(downstreams(&policy, None, None).len(), 3);
    }
}
