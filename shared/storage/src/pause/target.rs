//! What a pause stops, and how that is written: `queue:new`, `downstream:fulfilment`, `account:demo`.

use std::{fmt, str::FromStr};

use orderfleet_domain::{
    AccountId, FailureFingerprint, StepName,
    failure::{Failure, FailureClass},
    saga::{CauseClass, DeadLetterQueue, Entry, Lane},
};
use serde::{Serialize, Serializer};

use crate::dead_letter::{queue_of_word, queue_word};

/// Names of queues may be given as on a broker where fleets have no prefix.
const QUEUE_PREFIX: &str = "orders.";
/// What an order's history has behind the answer of a failed attempt.
const WAITS: &str = "; waits ";

/// What a pause stops.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PauseTarget {
    /// Every queue of fresh orders: `queue:new`.
    NewOrders,
    /// One queue: `queue:retry`. Nothing is taken from it.
    Queue(WorkedQueue),
    /// Every call to the service of a step, undo included: `downstream:fulfilment`.
    Downstream(StepName),
    /// Every call of an account's orders: `account:demo`.
    Account(AccountId),
    /// The next call of every order whose last attempt, at the step in hand, failed like this: `fingerprint:…`.
    Failure(FailureFingerprint),
}

/// A queue that workers consume.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WorkedQueue {
    /// Fresh orders of one partition: `new.0`.
    New(u16),
    /// `retry`
    Retry,
    /// `replay`
    Replay,
    /// `compensate`
    Compensate,
    /// `quarantine`
    Quarantine,
    /// Dead letters, which workers park: `dead.poison`.
    Dead(DeadLetterQueue),
}

/// A text that names nothing that could be paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a target is queue:NAME (new, new.0, retry, replay, compensate, quarantine or dead.NAME), downstream:STEP, \
     account:ACCOUNT, or fingerprint:FINGERPRINT of a failure (16 characters of a-z and 2-7)"
)]
pub struct BadTarget;

impl PauseTarget {
    /// Whether it stops a queue.
    #[must_use]
    pub fn stops(&self, queue: &WorkedQueue) -> bool {
        match self {
            Self::NewOrders => matches!(queue, WorkedQueue::New(_)),
            Self::Queue(stopped) => stopped == queue,
            Self::Downstream(_) | Self::Account(_) | Self::Failure(_) => false,
        }
    }
}

impl PauseTarget {
    /// Whether it stops the next call of an order whose last attempt, at the step in hand, failed like this: it stops failures
    /// of the fingerprint that this one would have if it ended the run, whatever it is that ends it.
    #[must_use]
    pub fn stops_repeat_of(&self, attempt: &Entry) -> bool {
        let Self::Failure(stopped) = self else { return false };
        let detail = attempt.detail.as_deref().unwrap_or_default();
        let answer = detail.rsplit_once(WAITS).map_or(detail, |(answer, _)| answer);
        let ends = [CauseClass::AttemptsExhausted, CauseClass::DeadlinePassed].map(FailureClass::Run);
        let mut failures =
            ends.map(|class| Failure::new(attempt.step.clone(), class, None, answer)).into_iter();
        failures.any(|failure| failure.fingerprint() == *stopped)
    }
}

impl fmt::Display for PauseTarget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewOrders => out.write_str("queue:new"),
            Self::Queue(queue) => write!(out, "queue:{queue}"),
            Self::Downstream(step) => write!(out, "downstream:{step}"),
            Self::Account(account) => write!(out, "account:{account}"),
            Self::Failure(fingerprint) => write!(out, "fingerprint:{fingerprint}"),
        }
    }
}

impl FromStr for PauseTarget {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let (kind, name) = text.split_once(':').ok_or(BadTarget)?;
        let target = match (kind, name.strip_prefix(QUEUE_PREFIX).unwrap_or(name)) {
            ("queue", "new") => Some(Self::NewOrders),
            ("queue", queue) => queue.parse().ok().map(Self::Queue),
            ("downstream", _) => name.parse().ok().map(Self::Downstream),
            ("account", _) => name.parse().ok().map(Self::Account),
            ("fingerprint", _) => name.parse().ok().map(Self::Failure),
            _ => None,
        };
        target.ok_or(BadTarget)
    }
}

impl Serialize for PauseTarget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for WorkedQueue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New(partition) => write!(out, "new.{partition}"),
            Self::Retry => out.write_str("retry"),
            Self::Replay => out.write_str("replay"),
            Self::Compensate => out.write_str("compensate"),
            Self::Quarantine => out.write_str("quarantine"),
            Self::Dead(queue) => write!(out, "dead.{}", queue_word(queue)),
        }
    }
}

impl FromStr for WorkedQueue {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let queue = match text {
            "retry" => Some(Self::Retry),
            "replay" => Some(Self::Replay),
            "compensate" => Some(Self::Compensate),
            "quarantine" => Some(Self::Quarantine),
            _ => match text.split_once('.') {
                Some(("new", partition)) => partition.parse().ok().map(Self::New),
                Some(("dead", word)) => queue_of_word(word).map(Self::Dead),
                _ => None,
            },
        };
        // One spelling each: `new.07` would be another pause than `new.7`.
        queue.filter(|queue| queue.to_string() == text).ok_or(BadTarget)
    }
}

impl From<&Lane> for WorkedQueue {
    fn from(lane: &Lane) -> Self {
        match lane {
            Lane::New(partition) => Self::New(*partition),
            Lane::Retry => Self::Retry,
            Lane::Replay => Self::Replay,
            Lane::Compensate(_) => Self::Compensate,
            Lane::Quarantine => Self::Quarantine,
        }
    }
}

impl From<&DeadLetterQueue> for WorkedQueue {
    fn from(queue: &DeadLetterQueue) -> Self {
        Self::Dead(queue.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> PauseTarget {
        text.parse().unwrap()
    }

    #[test]
    fn a_target_has_one_spelling() {
        for text in [
            "queue:new",
            "queue:new.3",
            "queue:retry",
            "queue:dead.poison",
            "downstream:fulfilment",
            "account:orders.shop-1",
            "fingerprint:syhfgrmrratw5vn7",
        ] {
            assert_eq!(target(text).to_string(), text);
        }
        assert_eq!(target("queue:orders.new.3"), target("queue:new.3"));
        for bad in [
            "",
            "new",
            "queue:",
            "queue:new.03",
            "queue:new.65536",
            "queue:wait.1s",
            "queue:events",
            "downstream:",
            "account:a b",
            "fingerprint:short",
            "order:eu1",
        ] {
            assert_eq!(bad.parse::<PauseTarget>(), Err(BadTarget), "{bad}");
        }
    }

    #[test]
    fn a_pause_of_fresh_orders_stops_every_partition_and_no_other_queue() {
        let queues = [WorkedQueue::New(0), WorkedQueue::New(7), WorkedQueue::Retry];
        let stopped = |text| queues.iter().map(|queue| target(text).stops(queue)).collect::<Vec<_>>();
        assert_eq!(stopped("queue:new"), [true, true, false]);
        assert_eq!(stopped("queue:new.7"), [false, true, false]);
        assert_eq!(stopped("queue:retry"), [false, false, true]);
        assert_eq!(stopped("downstream:retry"), [false; 3]);
    }
}
