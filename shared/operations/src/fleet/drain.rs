//! What of a fleet is still in flight while no fresh order is taken, and waiting until nothing is.

use std::{fmt, time::Duration};

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::{FleetStatus, QueueStatus, Watch};

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Nothing must be seen for so long: what is on its way from one place to the next at one look is there at another, and every
/// worker has said in between what it has in hand.
const QUIET: Duration = Duration::from_secs(3);

/// Something that is not over yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InFlight {
    /// What.
    pub what: String,
    /// How many; `None` where that cannot be seen.
    pub count: Option<u64>,
}

impl fmt::Display for InFlight {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            Some(count) => write!(out, "{count} {}", self.what),
            None => write!(out, "unknown: {}", self.what),
        }
    }
}

/// Looks again and again until nothing has been in flight for three seconds, and tells of each look; at most until the deadline.
/// Returns what is still in flight then. What cannot be seen counts as in flight.
pub async fn until_drained(
    watch: &mut Watch,
    deadline: Instant,
    mut tell: impl FnMut(&[InFlight]),
) -> Vec<InFlight> {
    let mut quiet_since = None;
    loop {
        let left = watch.look().await.in_flight();
        tell(&left);
        let now = Instant::now();
        if !left.is_empty() {
            quiet_since = None;
        }
        let is_quiet = left.is_empty() && now - *quiet_since.get_or_insert(now) >= QUIET;
        if is_quiet || (now >= deadline && !left.is_empty()) {
            return left;
        }
        sleep(LOOK_EVERY).await;
    }
}

impl FleetStatus {
    /// What is not over yet, apart from fresh orders that nobody has taken, orders that wait for a person, and dead letters.
    #[must_use]
    pub fn in_flight(&self) -> Vec<InFlight> {
        let mut all: Vec<_> = self.queues.iter().flat_map(of_queue).collect();
        let database = &self.database;
        let open =
            database.under_way.zip(database.held).map(|(under_way, held)| under_way.saturating_sub(held));
        all.push(InFlight { what: "orders under way that are not held".into(), count: open });
        all.push(InFlight { what: "orders that owe a publish".into(), count: database.owing });
        all.retain(|in_flight| in_flight.count != Some(0));
        all
    }
}

fn of_queue(status: &QueueStatus) -> Vec<InFlight> {
    let QueueStatus { queue, ready, consumers, in_hand, .. } = status;
    if queue.starts_with("dead.") {
        return Vec::new();
    }
    // Those that take fresh orders must have stopped; what is ready there stays there.
    let left = if queue.starts_with("new.") {
        InFlight { what: format!("consumers of {queue}"), count: consumers.map(u64::from) }
    } else {
        InFlight { what: format!("messages in {queue}"), count: ready.map(u64::from) }
    };
    let in_hand = InFlight { what: format!("deliveries of {queue} in hand"), count: *in_hand };
    if status.worked { vec![left, in_hand] } else { vec![left] }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{super::DatabaseStatus, *};

    fn queue(name: &str, ready: u32, consumers: u32, in_hand: u64) -> QueueStatus {
        QueueStatus {
            queue: name.into(),
            worked: !name.starts_with("wait."),
            ready: Some(ready),
            consumers: Some(consumers),
            in_hand: Some(in_hand),
            per_second: None,
            taken_age_ms: None,
            paused: None,
        }
    }

    fn left(queues: Vec<QueueStatus>, under_way: u64, owing: u64) -> Vec<String> {
        let status = FleetStatus {
            at: Timestamp::UNIX_EPOCH,
            queues,
            workers: None,
            downstreams: Vec::new(),
            database: DatabaseStatus {
                reachable: true,
                under_way: Some(under_way),
                held: Some(1),
                owing: Some(owing),
                ..DatabaseStatus::default()
            },
            dead_letters: None,
            pauses: None,
            unseen: Vec::new(),
        };
        status.in_flight().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn fresh_orders_in_their_queue_held_ones_and_dead_letters_are_not_in_flight() {
        let queues = vec![queue("new.0", 9, 0, 0), queue("retry", 0, 2, 0), queue("dead.held", 3, 0, 0)];
        assert_eq!(left(queues, 1, 0), [""; 0]);
    }

    #[test]
    fn everything_else_is() {
        let queues = vec![queue("new.0", 9, 1, 4), queue("retry", 2, 2, 0), queue("wait.1s", 3, 0, 0)];
        let expected = [
            "1 consumers of new.0",
            "4 deliveries of new.0 in hand",
            "2 messages in retry",
            "3 messages in wait.1s",
            "5 orders under way that are not held",
            "7 orders that owe a publish",
        ];
        assert_eq!(left(queues, 6, 7), expected);
        let unseen = QueueStatus { ready: None, in_hand: None, ..queue("replay", 0, 0, 0) };
        assert_eq!(
            left(vec![unseen], 1, 0),
            ["unknown: messages in replay", "unknown: deliveries of replay in hand"]
        );
    }
}
