//! Why an order that has not ended stands where it stands.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use orderfleet_domain::saga::{Phase, Policy};
use orderfleet_storage::{ListedOrder, Store, StoreError};
use serde::Serialize;

/// A try that is due comes a little later than its time: a queue lets its messages go one after the other.
const DUE_SLACK: SignedDuration = SignedDuration::from_secs(10);

/// What an order that has not ended waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "for")]
pub enum Waiting {
    /// A person must decide.
    Person {
        /// Since when.
        since: Timestamp,
    },
    /// A worker has it in hand, or was gone before it could give it back: then another takes it when the lease is over.
    Worker {
        /// Who.
        owner: String,
        /// Until when others leave it to him.
        until: Timestamp,
    },
    /// The next try, in a wait tier until then.
    NextTry {
        /// When it is due.
        at: Timestamp,
    },
    /// The sweeper: a publish is owed and has not been made.
    Sweeper,
    /// Somebody to come: a try was due and nobody has. Are there workers, and is the retry lane empty? The sweeper brings it back
    /// an hour later.
    Nobody {
        /// When it was due.
        since: Timestamp,
    },
    /// Its message, which is in a queue or on its way.
    Message,
}

impl Waiting {
    /// What an order waits for at a time; `None` for one that has ended and owes nothing.
    #[must_use]
    pub fn of(order: &ListedOrder, now: Timestamp) -> Option<Self> {
        if let Some(hold) = &order.hold {
            return Some(Self::Person { since: hold.at });
        }
        if order.status.is_ended() {
            return order.owes.then_some(Self::Sweeper);
        }
        let lease = order.lease_until.filter(|until| *until > now);
        if let (Some(owner), Some(until)) = (&order.owner, lease) {
            return Some(Self::Worker { owner: owner.0.clone(), until });
        }
        match order.due_at {
            Some(at) if now.duration_since(at) < DUE_SLACK => Some(Self::NextTry { at }),
            _ if order.owes => Some(Self::Sweeper),
            Some(since) => Some(Self::Nobody { since }),
            None => Some(Self::Message),
        }
    }

    /// One word.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Person { .. } => "person",
            Self::Worker { .. } => "worker",
            Self::NextTry { .. } => "next_try",
            Self::Sweeper => "sweeper",
            Self::Nobody { .. } => "nobody",
            Self::Message => "message",
        }
    }
}

/// An order that has not ended, why it waits, and how long it may go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StuckOrder {
    /// The order.
    #[serde(flatten)]
    pub order: ListedOrder,
    /// What it waits for.
    pub waiting: Option<Waiting>,
    /// Charged attempts at the step in hand after which it is undone; none while it is undone, which is tried without end.
    pub attempts_max: Option<u32>,
    /// After which a charged attempt of unknown outcome is the last one; from the first charged attempt on.
    pub deadline: Option<Timestamp>,
}

/// Orders that have not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stuck {
    /// The orders.
    pub orders: Vec<StuckOrder>,
    /// Ids of documents that match and that this build cannot read.
    pub unreadable: Vec<String>,
}

impl StuckOrder {
    /// Adds to an order what the time and the settings of its step say.
    #[must_use]
    pub fn new(order: ListedOrder, policy: &Policy, now: Timestamp) -> Self {
        let forward = order.phase == Phase::Run && order.hold.is_none();
        let settings = order.step.as_ref().filter(|_| forward).and_then(|step| policy.step(step));
        let deadline = settings.zip(order.charged_at).and_then(|(settings, charged_at)| {
            let allowed = SignedDuration::from_secs(settings.deadline_s.into());
            charged_at.checked_add(allowed + SignedDuration::from_millis(order.excused_ms)).ok()
        });
        let waiting = Waiting::of(&order, now);
        Self { waiting, attempts_max: settings.map(|settings| settings.attempts_max), deadline, order }
    }
}

/// Orders that were inserted longer ago than `older_than` and have not ended, oldest first; at most `limit`.
///
/// # Errors
/// The database did not answer in time.
pub async fn stuck(
    store: &Store,
    policy: &Policy,
    older_than: Duration,
    limit: u32,
) -> Result<Stuck, StoreError> {
    let now = Timestamp::now();
    let before = now.checked_sub(older_than).unwrap_or(Timestamp::MIN);
    let found = store.stuck_orders(before, limit).await?;
    let orders = found.orders.into_iter().map(|order| StuckOrder::new(order, policy, now)).collect();
    Ok(Stuck { orders, unreadable: found.unreadable })
}

#[cfg(test)]
pub(super) mod tests {
    use orderfleet_domain::saga::{StepSettings, WorkerId};
    use orderfleet_storage::{ListedHold, OrderStatus};

    use super::*;

    pub(in crate::orders) fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    pub(in crate::orders) fn listed() -> ListedOrder {
        ListedOrder {
            order_id: "eu1-vqhnbfvs-dw3nwqzm4jeqqutrep4bxjfyvskigkny".parse().unwrap(),
            account: "demo".parse().unwrap(),
            status: OrderStatus::Run,
            phase: Phase::Run,
            generation: 1,
            is_final: false,
            step: "inventory".parse().ok(),
            attempts: 0,
            waits: 0,
            cause: None,
            hold: None,
            cancel_requested: false,
            conflicts: 0,
            owes: false,
            due_at: None,
            charged_at: None,
            excused_ms: 0,
            owner: None,
            lease_until: None,
            created_at: time(0),
            updated_at: time(0),
        }
    }

    #[test]
    fn an_order_says_what_it_waits_for() {
        let (now, order) = (time(1_000), listed());
        let owner = Some(WorkerId("w1".into()));
        let hold = ListedHold {
            id: "h".into(),
            step: "inventory".parse().unwrap(),
            reason: "r".into(),
            at: time(5),
        };
        let leased = ListedOrder { owner, lease_until: Some(time(1_030)), ..order.clone() };
        let over = ListedOrder { lease_until: Some(time(990)), ..leased.clone() };
        let due = |at| ListedOrder { due_at: Some(time(at)), ..order.clone() };
        let done = ListedOrder { status: OrderStatus::Done, phase: Phase::Done, ..order.clone() };
        for (order, waiting) in [
            (leased.clone(), Some(Waiting::Worker { owner: "w1".into(), until: time(1_030) })),
            (ListedOrder { hold: Some(hold), ..leased }, Some(Waiting::Person { since: time(5) })),
            (over, Some(Waiting::Message)),
            (due(1_005), Some(Waiting::NextTry { at: time(1_005) })),
            (due(995), Some(Waiting::NextTry { at: time(995) })),
            (due(900), Some(Waiting::Nobody { since: time(900) })),
            (ListedOrder { owes: true, ..due(900) }, Some(Waiting::Sweeper)),
            (ListedOrder { owes: true, ..due(1_005) }, Some(Waiting::NextTry { at: time(1_005) })),
            (order.clone(), Some(Waiting::Message)),
            (ListedOrder { owes: true, ..done.clone() }, Some(Waiting::Sweeper)),
            (done, None),
        ] {
            assert_eq!(Waiting::of(&order, now), waiting, "{order:?}");
        }
    }

    #[test]
    fn the_deadline_runs_from_the_first_charged_attempt_and_only_forward() {
        let policy = Policy::new(StepSettings::defaults(), 0).unwrap();
        let charged = ListedOrder { charged_at: Some(time(100)), excused_ms: 5_000, ..listed() };
        let stuck = |order: &ListedOrder| StuckOrder::new(order.clone(), &policy, time(200));
        assert_eq!(stuck(&charged).deadline, Some(time(100 + 86_400 + 5)));
        assert_eq!((stuck(&listed()).deadline, stuck(&listed()).attempts_max), (None, Some(8)));
        let undoing = ListedOrder { phase: Phase::Comp, status: OrderStatus::Comp, ..charged };
        assert_eq!((stuck(&undoing).deadline, stuck(&undoing).attempts_max), (None, None));
    }
}
