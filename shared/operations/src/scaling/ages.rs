//! How old the oldest message of a queue is. The broker does not tell: what workers say of those they take, and for how long
//! a queue has been seen to hold messages that nobody takes, come close.

use std::collections::HashMap;
use std::time::Duration;

use crate::fleet::QueueStatus;

/// What was known of the age of each queue's oldest message.
#[derive(Debug, Default)]
pub(super) struct Ages {
    known: HashMap<String, Known>,
}

/// So old it was, then by the time of whoever looks. It may be older than whoever looks has run.
#[derive(Debug, Clone, Copy)]
struct Known {
    at: Duration,
    age: Duration,
}

impl Ages {
    /// Takes a look at a queue and returns the age of its oldest message: none for an empty queue, and `None` where the broker
    /// does not tell what the queue holds. While nobody takes anything it is as old as this has looked, and may be older.
    pub(super) fn on(&mut self, now: Duration, queue: &QueueStatus) -> Option<Duration> {
        if queue.ready? == 0 {
            self.known.remove(&queue.queue);
            return Some(Duration::ZERO);
        }
        let known = self.known.entry(queue.queue.clone()).or_insert(Known { at: now, age: Duration::ZERO });
        if let Some(age) = queue.taken_age_ms {
            // Queues are first in, first out: what waits now is no older than what was taken last.
            *known = Known { at: now, age: Duration::from_millis(age) };
        }
        Some(known.age + now.saturating_sub(known.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::tests::queue;

    const AT: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_queue_that_nobody_takes_from_is_as_old_as_it_was_seen_to_hold_something() {
        let mut ages = Ages::default();
        let waiting = queue("new.0", 7, 0);
        assert_eq!(ages.on(AT(100), &waiting), Some(Duration::ZERO));
        assert_eq!(ages.on(AT(130), &waiting), Some(AT(30)));
        assert_eq!(ages.on(AT(131), &queue("new.0", 0, 0)), Some(Duration::ZERO));
        assert_eq!(ages.on(AT(140), &waiting), Some(Duration::ZERO), "it was empty meanwhile");
    }

    #[test]
    fn what_workers_say_of_what_they_take_counts_and_goes_on_from_there() {
        let mut ages = Ages::default();
        let taken = QueueStatus { taken_age_ms: Some(5_000), ..queue("new.0", 7, 0) };
        assert_eq!(ages.on(AT(100), &taken), Some(AT(5)));
        assert_eq!(ages.on(AT(110), &queue("new.0", 7, 0)), Some(AT(15)));
        assert_eq!(ages.on(AT(120), &QueueStatus { ready: None, ..taken }), None);
    }

    #[test]
    fn a_message_may_be_older_than_whoever_looks_has_run() {
        let mut ages = Ages::default();
        let taken = QueueStatus { taken_age_ms: Some(7_200_000), ..queue("new.0", 7, 0) };
        assert_eq!(ages.on(AT(1), &taken), Some(AT(7_200)));
        assert_eq!(ages.on(AT(3), &queue("new.0", 7, 0)), Some(AT(7_202)));
    }
}
