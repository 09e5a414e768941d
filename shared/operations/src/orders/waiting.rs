//! Why an order that has not ended stands where it stands.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use orderfleet_domain::saga::{Entry, Phase, Policy};
use orderfleet_storage::{ListedOrder, Pause, PauseTarget, Store, StoreError, WorkedQueue};
use serde::Serialize;

/// A try that is due comes a little later than its time: a queue lets its messages go one after the other.
const DUE_SLACK: SignedDuration = SignedDuration::from_secs(10);
/// Orders looked at at once.
const AT_ONCE: usize = 16;

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
    /// The end of a pause, as far as it is known: of its service, its account or its last failure, or of a queue that its message
    /// may be in.
    Paused {
        /// What is paused; of several the one that is over last.
        target: PauseTarget,
        /// Until when, unless somebody resumes it.
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
    /// What an order waits for at a time; `None` for one that has ended and owes nothing. `pauses` are those in force, and `failed`
    /// is its last failed attempt, which only matters where a failure is paused.
    #[must_use]
    pub fn of(order: &ListedOrder, pauses: &[Pause], failed: Option<&Entry>, now: Timestamp) -> Option<Self> {
        if let Some(hold) = &order.hold {
            return Some(Self::Person { since: hold.at });
        }
        if order.status.is_ended() && !order.owes {
            return None;
        }
        let lease = order.lease_until.filter(|until| *until > now);
        if let (Some(owner), Some(until)) = (&order.owner, lease) {
            return Some(Self::Worker { owner: owner.0.clone(), until });
        }
        let stopping = pauses.iter().filter(|pause| stops(&pause.target, order, failed, now));
        if let Some(Pause { target, until, .. }) = stopping.max_by_key(|pause| pause.until) {
            return Some(Self::Paused { target: target.clone(), until: *until });
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
            Self::Paused { .. } => "paused",
            Self::NextTry { .. } => "next_try",
            Self::Sweeper => "sweeper",
            Self::Nobody { .. } => "nobody",
            Self::Message => "message",
        }
    }
}

/// Whether a pause keeps an order from going on: its next call is not made, or nobody takes its message.
fn stops(target: &PauseTarget, order: &ListedOrder, failed: Option<&Entry>, now: Timestamp) -> bool {
    let (is_under_way, is_due) = (!order.status.is_ended(), order.due_at.is_none_or(|at| at <= now));
    match target {
        PauseTarget::Downstream(step) => is_under_way && order.step.as_ref() == Some(step),
        PauseTarget::Account(account) => is_under_way && order.account == *account,
        PauseTarget::Failure(_) => failed.is_some_and(|attempt| target.stops_repeat_of(attempt)),
        PauseTarget::NewOrders => is_due && may_be_in(&WorkedQueue::New(0), order),
        PauseTarget::Queue(queue) => is_due && may_be_in(queue, order),
    }
}

/// Whether an order's message may be in a queue: which one it is in, its document does not say.
fn may_be_in(queue: &WorkedQueue, order: &ListedOrder) -> bool {
    match queue {
        // What owes a publish comes back by it, too.
        WorkedQueue::Retry => true,
        WorkedQueue::Dead(_) => false,
        _ if order.owes => false,
        WorkedQueue::New(_) => order.phase == Phase::Run && order.due_at.is_none(),
        WorkedQueue::Compensate => order.phase == Phase::Comp,
        WorkedQueue::Replay | WorkedQueue::Quarantine => true,
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
    /// Adds to an order what the time, the settings of its step and the pauses in force say; `failed` as for [`Waiting::of`].
    #[must_use]
    pub fn new(
        order: ListedOrder,
        policy: &Policy,
        pauses: &[Pause],
        failed: Option<&Entry>,
        now: Timestamp,
    ) -> Self {
        let forward = order.phase == Phase::Run && order.hold.is_none();
        let settings = order.step.as_ref().filter(|_| forward).and_then(|step| policy.step(step));
        let deadline = settings.zip(order.charged_at).and_then(|(settings, charged_at)| {
            let allowed = SignedDuration::from_secs(settings.deadline_s.into());
            charged_at.checked_add(allowed + SignedDuration::from_millis(order.excused_ms)).ok()
        });
        let waiting = Waiting::of(&order, pauses, failed, now);
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
    let judge = Judge::new(store, policy).await?;
    let before = judge.now.checked_sub(older_than).unwrap_or(Timestamp::MIN);
    let found = store.stuck_orders(before, limit).await?;
    let judging = stream::iter(found.orders).map(|order| judge.judge(order));
    let orders = judging.buffered(AT_ONCE).try_collect().await?;
    Ok(Stuck { orders, unreadable: found.unreadable })
}

/// What orders are judged by at one moment.
pub(super) struct Judge<'a> {
    store: &'a Store,
    policy: &'a Policy,
    pauses: Vec<Pause>,
    now: Timestamp,
}

impl<'a> Judge<'a> {
    /// As it is now.
    pub(super) async fn new(store: &'a Store, policy: &'a Policy) -> Result<Self, StoreError> {
        let now = Timestamp::now();
        let pauses = store.pauses(now.as_millisecond()).await?;
        Ok(Self { store, policy, pauses, now })
    }

    /// Where an order stands. One read more where a failure is paused and this one has failed.
    pub(super) async fn judge(&self, order: ListedOrder) -> Result<StuckOrder, StoreError> {
        let is_failure = |pause: &Pause| matches!(pause.target, PauseTarget::Failure(_));
        let failed = if order.attempts > 0 && self.pauses.iter().any(is_failure) {
            self.store.last_failed_attempt(&order.order_id).await?
        } else {
            None
        };
        Ok(StuckOrder::new(order, self.policy, &self.pauses, failed.as_ref(), self.now))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use orderfleet_domain::{
        failure::{Failure, FailureClass},
        saga::{CauseClass, StepSettings, WorkerId},
    };
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
            assert_eq!(Waiting::of(&order, &[], None, now), waiting, "{order:?}");
        }
    }

    #[test]
    fn an_order_behind_a_pause_says_so_and_no_other_does() {
        let (now, order) = (time(1_000), listed());
        let due = ListedOrder { due_at: Some(time(900)), ..order.clone() };
        let waits = ListedOrder { due_at: Some(time(1_005)), ..order.clone() };
        let comp = ListedOrder { status: OrderStatus::Comp, phase: Phase::Comp, ..order.clone() };
        let owes = ListedOrder { owes: true, ..order.clone() };
        let done = ListedOrder { owes: true, status: OrderStatus::Done, phase: Phase::Done, ..order.clone() };
        let leased = ListedOrder {
            owner: Some(WorkerId("w1".into())),
            lease_until: Some(time(1_030)),
            ..order.clone()
        };
        let failure = Failure::new(
            order.step.clone(),
            FailureClass::Run(CauseClass::AttemptsExhausted),
            None,
            "503 Service Unavailable",
        );
        let failed = Entry {
            at: 0,
            what: "attempt_failed".into(),
            step: order.step.clone(),
            detail: Some("503 Service Unavailable; waits 30s".into()),
        };
        let fingerprint = format!("fingerprint:{}", failure.fingerprint());
        let pause = |target: &str, until| Pause {
            target: target.parse().unwrap(),
            owner: "jo".into(),
            reason: "r".into(),
            at: time(0),
            until: time(until),
        };
        for (target, order, is_paused) in [
            ("downstream:inventory", &waits, true),
            ("downstream:accounting", &waits, false),
            ("downstream:inventory", &leased, false),
            ("downstream:inventory", &done, false),
            ("account:demo", &comp, true),
            ("account:other", &comp, false),
            (fingerprint.as_str(), &waits, true),
            ("fingerprint:aaaaaaaaaaaaaaaa", &waits, false),
            ("queue:retry", &due, true),
            ("queue:retry", &waits, false),
            ("queue:retry", &done, true),
            ("queue:replay", &due, true),
            ("queue:replay", &owes, false),
            ("queue:new", &order, true),
            ("queue:new.3", &order, true),
            ("queue:new", &due, false),
            ("queue:compensate", &comp, true),
            ("queue:compensate", &due, false),
            ("queue:dead.poison", &due, false),
        ] {
            let waiting = Waiting::of(order, &[pause(target, 2_000)], Some(&failed), now);
            let is = matches!(waiting, Some(Waiting::Paused { .. }));
            assert_eq!(is, is_paused, "{target}: {order:?}");
        }
        let both = [pause("queue:retry", 3_000), pause("account:demo", 2_000)];
        let longest = Waiting::Paused { target: "queue:retry".parse().unwrap(), until: time(3_000) };
        assert_eq!(Waiting::of(&due, &both, None, now), Some(longest));
    }

    #[test]
    fn the_deadline_runs_from_the_first_charged_attempt_and_only_forward() {
        let policy = Policy::new(StepSettings::defaults(), 0).unwrap();
        let charged = ListedOrder { charged_at: Some(time(100)), excused_ms: 5_000, ..listed() };
        let stuck = |order: &ListedOrder| StuckOrder::new(order.clone(), &policy, &[], None, time(200));
        assert_eq!(stuck(&charged).deadline, Some(time(100 + 86_400 + 5)));
        assert_eq!((stuck(&listed()).deadline, stuck(&listed()).attempts_max), (None, Some(8)));
        let undoing = ListedOrder { phase: Phase::Comp, status: OrderStatus::Comp, ..charged };
        assert_eq!((stuck(&undoing).deadline, stuck(&undoing).attempts_max), (None, None));
    }
}
