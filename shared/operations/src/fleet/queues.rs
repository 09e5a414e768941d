//! The queues: what the broker counts, and what the workers say they have in hand of them.

use futures_util::{StreamExt as _, stream};
use orderfleet_messaging::{Counts, Inspector, Topology};
use orderfleet_storage::{Pause, PauseTarget, WorkedQueue};
use serde::Serialize;

use super::workers::Worker;

/// Queues asked for at once.
const AT_ONCE: usize = 8;

/// A queue at one moment. `None` is what cannot be seen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QueueStatus {
    /// Its name, without the fleet's prefix.
    pub queue: String,
    /// Whether workers consume it; messages of the others leave by themselves.
    pub worked: bool,
    /// Messages that nobody has.
    pub ready: Option<u32>,
    /// Consumers, as the broker counts them: also those that were cancelled while messages are in their hands.
    pub consumers: Option<u32>,
    /// Deliveries in the hands of workers.
    pub in_hand: Option<u64>,
    /// Deliveries handled per second, between the last two heartbeats of each worker.
    pub per_second: Option<f64>,
    /// How long what was taken last, between the last two heartbeats of each worker, had waited in the queue, in
    /// milliseconds; the longest of all workers.
    pub taken_age_ms: Option<u64>,
    /// Who has paused it.
    pub paused: Option<Pause>,
}

/// What each queue holds, in the order of their declaration.
pub(super) async fn counts(inspector: &Inspector, topology: &Topology) -> Vec<Option<Counts>> {
    let names: Vec<_> = topology.queue_names().collect();
    let asked = stream::iter(names).map(|name| async move { inspector.counts(name).await.ok() });
    asked.buffered(AT_ONCE).collect().await
}

/// Whether a queue that workers consume, dead letters that are to be parked included, holds a message that nobody has, or does
/// not tell.
pub(super) async fn hold_any(inspector: &Inspector, topology: &Topology) -> bool {
    let names: Vec<_> = topology.queue_names().filter(|name| is_worked(topology, name)).collect();
    let asked = stream::iter(names).map(|name| inspector.counts(name));
    let mut asked = asked.buffer_unordered(AT_ONCE);
    while let Some(told) = asked.next().await {
        if told.map_or(true, |counts| counts.ready > 0) {
            return true;
        }
    }
    false
}

fn is_worked(topology: &Topology, name: &str) -> bool {
    let own = name.strip_prefix(&format!("{}.", topology.own_prefix())).unwrap_or(name);
    own.parse::<WorkedQueue>().is_ok()
}

/// Puts together what is known of each queue.
pub(super) fn queues(
    topology: &Topology,
    counts: Option<&[Option<Counts>]>,
    workers: Option<&[Worker]>,
    pauses: Option<&[Pause]>,
) -> Vec<QueueStatus> {
    let prefix = format!("{}.", topology.own_prefix());
    let names = topology.queue_names().map(|name| name.strip_prefix(&prefix).unwrap_or(name));
    let mut queues = Vec::new();
    for (place, name) in names.enumerate() {
        let counts = counts.and_then(|counts| counts.get(place).copied().flatten());
        let mut status = QueueStatus {
            queue: name.to_owned(),
            worked: false,
            ready: counts.map(|counts| counts.ready),
            consumers: counts.map(|counts| counts.consumers),
            in_hand: None,
            per_second: None,
            taken_age_ms: None,
            paused: None,
        };
        if let Ok(queue) = name.parse::<WorkedQueue>() {
            status.worked = true;
            status.paused = pauses.and_then(|pauses| pause_of(&queue, pauses));
            status.add_work(&queue, workers);
        }
        queues.push(status);
    }
    queues
}

impl QueueStatus {
    /// Adds what the workers say. Who consumes and says nothing, such as an older build, may have anything in hand: then it is
    /// not known how much that is.
    fn add_work(&mut self, queue: &WorkedQueue, workers: Option<&[Worker]>) {
        let Some(workers) = workers else { return };
        let heard = workers.iter().filter(|worker| !worker.stale);
        let loads = heard.flat_map(|worker| &worker.status.queues).filter(|load| load.queue == self.queue);
        let loads: Vec<_> = loads.collect();
        self.taken_age_ms = loads.iter().filter_map(|load| load.taken_age_ms).max();
        if self.is_denied(queue, workers) {
            (self.ready, self.consumers) = (None, None);
            return;
        }
        if self.consumers.is_some_and(|consumers| consumers as usize > loads.len()) {
            return;
        }
        self.in_hand = Some(loads.iter().map(|load| load.in_hand).sum());
        // No float at all would add up to minus zero.
        self.per_second = Some(loads.iter().fold(0.0, |sum, load| sum + load.per_second));
    }
}

impl QueueStatus {
    /// Whether the broker says that there is nothing and nobody, while a worker says that it consumes this: of a quorum queue without
    /// a leader it says so (RabbitMQ 3.10 source, `rabbit_quorum_queue:stat/2`), and of one whose workers it has just lost.
    fn is_denied(&self, queue: &WorkedQueue, workers: &[Worker]) -> bool {
        let stops = |target: &String| target.parse::<PauseTarget>().is_ok_and(|target| target.stops(queue));
        let consumes = |worker: &Worker| {
            let status = &worker.status;
            !worker.stale
                && !status.draining
                && !status.pauses.iter().any(stops)
                && status.queues.iter().any(|load| load.queue == self.queue)
        };
        self.paused.is_none()
            && (self.ready, self.consumers) == (Some(0), Some(0))
            && workers.iter().any(consumes)
    }
}

/// Of two pauses that stop it the one that lasts longer.
fn pause_of(queue: &WorkedQueue, pauses: &[Pause]) -> Option<Pause> {
    pauses.iter().filter(|pause| pause.target.stops(queue)).max_by_key(|pause| pause.until).cloned()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use orderfleet_domain::saga::{Policy, StepSettings};

    use super::{super::workers::tests::worker, *};

    fn topology() -> Topology {
        let policy = Policy::new(StepSettings::defaults(), 0).unwrap();
        Topology::new("t.", 2, 1_000, &policy.step_names())
    }

    fn status<'a>(queues: &'a [QueueStatus], name: &str) -> &'a QueueStatus {
        queues.iter().find(|status| status.queue == name).unwrap()
    }

    #[test]
    fn what_cannot_be_seen_is_not_told_as_nothing() {
        let queues = queues(&topology(), None, None, None);
        assert_eq!(queues.len(), topology().queue_names().count());
        for status in &queues {
            assert_eq!((status.ready, status.in_hand, status.per_second), (None, None, None), "{status:?}");
        }
        assert!(!status(&queues, "wait.1s").worked && status(&queues, "new.1").worked);
    }

    #[test]
    fn what_workers_have_in_hand_is_added_up_unless_somebody_consumes_and_says_nothing() {
        let workers = [worker("a", "new.0", 2), worker("b", "new.0", 3)];
        let counts = |consumers| {
            let counts = Some(Counts { ready: 1, consumers });
            vec![counts; topology().queue_names().count()]
        };
        let in_hand = |consumers| {
            let queues = queues(&topology(), Some(&counts(consumers)), Some(&workers), None);
            status(&queues, "new.0").in_hand
        };
        assert_eq!(in_hand(2), Some(5));
        assert_eq!(in_hand(0), Some(5));
        assert_eq!(in_hand(3), None);
        let stale = [Worker { stale: true, ..worker("a", "new.0", 2) }];
        let queues = queues(&topology(), Some(&counts(0)), Some(&stale), None);
        assert_eq!(status(&queues, "new.0").in_hand, Some(0));
    }

    #[test]
    fn a_broker_that_knows_nobody_where_a_worker_consumes_does_not_tell_what_there_is() {
        let counts = vec![Some(Counts::default()); topology().queue_names().count()];
        let seen = |worker: Worker, pauses: &[Pause]| {
            let queues = queues(&topology(), Some(&counts), Some(&[worker]), Some(pauses));
            let seen = status(&queues, "new.0");
            (seen.ready, seen.in_hand)
        };
        let consumes = || worker("a", "new.0", 2);
        let of = |change: fn(&mut Worker)| {
            let mut worker = consumes();
            change(&mut worker);
            seen(worker, &[])
        };
        assert_eq!(seen(consumes(), &[]), (None, None));
        assert_eq!(seen(worker("a", "new.1", 2), &[]), (Some(0), Some(0)), "it consumes another");
        assert_eq!(of(|worker| worker.stale = true), (Some(0), Some(0)));
        assert_eq!(of(|worker| worker.status.draining = true), (Some(0), Some(2)));
        assert_eq!(of(|worker| worker.status.pauses = vec!["queue:new".into()]), (Some(0), Some(2)));
        assert_eq!(seen(consumes(), &[paused()]), (Some(0), Some(2)));
    }

    fn paused() -> Pause {
        let at = Timestamp::UNIX_EPOCH;
        Pause { target: "queue:new".parse().unwrap(), owner: "jo".into(), reason: "r".into(), at, until: at }
    }

    #[test]
    fn a_pause_of_fresh_orders_is_one_of_every_partition() {
        let queues = queues(&topology(), None, None, Some(&[paused()]));
        let paused: Vec<_> = queues.iter().filter(|status| status.paused.is_some()).collect();
        assert_eq!(paused.iter().map(|status| status.queue.as_str()).collect::<Vec<_>>(), ["new.0", "new.1"]);
    }
}
