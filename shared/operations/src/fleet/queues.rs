//! The queues: what the broker counts, and what the workers say they have in hand of them.

use futures_util::{StreamExt as _, stream};
use orderfleet_messaging::{Counts, Inspector, Topology};
use orderfleet_storage::{Pause, WorkedQueue};
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
    /// How long before that what was taken last, between the last two heartbeats of each worker, had been accepted, in
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
            status.add_work(workers);
            status.paused = pauses.and_then(|pauses| pause_of(&queue, pauses));
        }
        queues.push(status);
    }
    queues
}

impl QueueStatus {
    /// Adds what the workers say. Who consumes and says nothing, such as an older build, may have anything in hand: then it is
    /// not known how much that is.
    fn add_work(&mut self, workers: Option<&[Worker]>) {
        let Some(workers) = workers else { return };
        let heard = workers.iter().filter(|worker| !worker.stale);
        let loads = heard.flat_map(|worker| &worker.status.queues).filter(|load| load.queue == self.queue);
        let loads: Vec<_> = loads.collect();
        self.taken_age_ms = loads.iter().filter_map(|load| load.taken_age_ms).max();
        if self.consumers.is_some_and(|consumers| consumers as usize > loads.len()) {
            return;
        }
        self.in_hand = Some(loads.iter().map(|load| load.in_hand).sum());
        // No float at all would add up to minus zero.
        self.per_second = Some(loads.iter().fold(0.0, |sum, load| sum + load.per_second));
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
            let counts = Some(Counts { ready: 0, consumers });
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
    fn a_pause_of_fresh_orders_is_one_of_every_partition() {
        let at = Timestamp::UNIX_EPOCH;
        let pause = Pause {
            target: "queue:new".parse().unwrap(),
            owner: "jo".into(),
            reason: "r".into(),
            at,
            until: at,
        };
        let queues = queues(&topology(), None, None, Some(&[pause]));
        let paused: Vec<_> = queues.iter().filter(|status| status.paused.is_some()).collect();
        assert_eq!(paused.iter().map(|status| status.queue.as_str()).collect::<Vec<_>>(), ["new.0", "new.1"]);
    }
}
