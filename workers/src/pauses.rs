//! Pauses that operators have made: read over and over, and obeyed by what takes deliveries and by what makes calls.
//!
//! While the database is away those that were read last hold, each until its end.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use orderfleet_domain::{
    AccountId, StepName,
    saga::{Entry, Millis},
};
use orderfleet_messaging::{Control, Delays};
use orderfleet_runtime::admin::Health;
use orderfleet_storage::{Pause, PauseTarget, Store, StoreError, WorkedQueue};
use tokio::time::{MissedTickBehavior, interval};

use crate::driver::now;

/// How often they are read, and how often it is looked which are over. With the consumers' own pace an operator is obeyed
/// within a second.
const READ_EVERY: Duration = Duration::from_millis(400);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Longest wait between two tries of the first reading.
const FIRST_READ_EVERY_MAX: Duration = Duration::from_secs(5);

/// The pauses as last read.
#[derive(Debug, Default)]
pub(crate) struct Pauses(RwLock<Vec<Pause>>);

/// A queue of this worker, and what pauses it.
#[derive(Debug, Clone)]
pub(crate) struct Pausable {
    pub(crate) queue: WorkedQueue,
    pub(crate) control: Control,
}

impl Pauses {
    /// Reads them until there is an answer: a worker that does not know them must take nothing.
    pub(crate) async fn first_read(&self, store: &Store) {
        let mut delays = Delays::new(READ_EVERY, FIRST_READ_EVERY_MAX);
        while let Err(error) = self.read(store).await {
            tracing::warn!(%error, "nothing is taken before the pauses are known; reading them again");
            tokio::time::sleep(delays.next_delay()).await;
        }
    }

    async fn read(&self, store: &Store) -> Result<(), StoreError> {
        let read = store.pauses(now()).await?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    /// Keeps up with them for as long as the process lives.
    pub(crate) async fn keep_up(self: Arc<Self>, store: Store, queues: Vec<Pausable>, health: Arc<Health>) {
        tokio::join!(self.keep_reading(&store), self.keep_obeying(&queues, &health));
    }

    async fn keep_reading(&self, store: &Store) {
        let mut every = interval(READ_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_away = false;
        loop {
            every.tick().await;
            match self.read(store).await {
                Ok(()) => is_away = false,
                Err(error) if !is_away => {
                    tracing::warn!(%error, "the pauses cannot be read; those in force hold until their end");
                    is_away = true;
                }
                Err(_) => {}
            }
        }
    }

    async fn keep_obeying(&self, queues: &[Pausable], health: &Health) {
        let mut every = interval(LOOK_EVERY);
        loop {
            every.tick().await;
            self.obey(queues, health);
        }
    }

    /// Pauses and resumes the queues, and names what is paused. A paused fleet is no sick one: it stays ready.
    pub(crate) fn obey(&self, queues: &[Pausable], health: &Health) {
        let now = now();
        for Pausable { queue, control } in queues {
            control.pause(self.stops_at(queue, now));
        }
        let targets = self.targets();
        metrics::gauge!("orderfleet_pauses").set(u32::try_from(targets.len()).unwrap_or(u32::MAX));
        health.note("paused", (!targets.is_empty()).then(|| targets.join(", ")));
    }

    /// What is paused.
    pub(crate) fn targets(&self) -> Vec<String> {
        let now = now();
        self.with(|pauses| in_force(pauses, now).map(|pause| pause.target.to_string()).collect())
    }

    /// Whether nothing is to be taken from a queue.
    pub(crate) fn stops(&self, queue: &WorkedQueue) -> bool {
        self.stops_at(queue, now())
    }

    fn stops_at(&self, queue: &WorkedQueue, now: Millis) -> bool {
        self.with(|pauses| in_force(pauses, now).any(|pause| pause.target.stops(queue)))
    }

    /// The pause that keeps a call from being sent, for the service or the account.
    pub(crate) fn of_call(&self, step: &StepName, account: &AccountId) -> Option<Pause> {
        self.find(|target| match target {
            PauseTarget::Downstream(paused) => paused == step,
            PauseTarget::Account(paused) => paused == account,
            _ => false,
        })
    }

    /// A pause of any failure: only then it matters how an order failed.
    pub(crate) fn of_any_failure(&self) -> Option<Pause> {
        self.find(|target| matches!(target, PauseTarget::Failure(_)))
    }

    /// The pause of orders that failed like this.
    pub(crate) fn of_failure(&self, attempt: &Entry) -> Option<Pause> {
        self.find(|target| target.stops_repeat_of(attempt))
    }

    fn find(&self, wanted: impl Fn(&PauseTarget) -> bool) -> Option<Pause> {
        let now = now();
        self.with(|pauses| in_force(pauses, now).find(|pause| wanted(&pause.target)).cloned())
    }

    fn with<T>(&self, look: impl FnOnce(&[Pause]) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What an order's history says of a call that was not sent for a pause. Its customer reads that: who paused it and why are not
/// his.
pub(crate) fn told(pause: &Pause) -> String {
    format!("{} is paused until {:.0}", pause.target, pause.until)
}

fn in_force(pauses: &[Pause], now: Millis) -> impl Iterator<Item = &Pause> {
    pauses.iter().filter(move |pause| pause.is_in_force(now))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use orderfleet_domain::{
        failure::{Failure, FailureClass},
        saga::CauseClass,
    };

    use super::*;

    fn pause(target: &str, until: Millis) -> Pause {
        Pause {
            target: target.parse().unwrap(),
            owner: "jo".into(),
            reason: "the bank is away".into(),
            at: Timestamp::UNIX_EPOCH,
            until: Timestamp::from_millisecond(until).unwrap(),
        }
    }

    fn pauses(targets: &[(&str, Millis)]) -> Pauses {
        Pauses(RwLock::new(targets.iter().map(|(target, until)| pause(target, *until)).collect()))
    }

    #[test]
    fn a_pause_that_is_over_stops_nothing_also_when_it_was_never_removed() {
        let later = now() + 60_000;
        let pauses = pauses(&[("queue:new", later), ("queue:retry", now()), ("downstream:a", now())]);
        let (queue, control) = (WorkedQueue::New(3), Control::default());
        let retry = Pausable { queue: WorkedQueue::Retry, control: Control::default() };
        let queues = [Pausable { queue: queue.clone(), control: control.clone() }, retry];
        let health = Health::new(&[]);
        pauses.obey(&queues, &health);
        assert!(control.is_paused() && pauses.stops(&queue));
        assert!(!queues[1].control.is_paused() && !pauses.stops(&WorkedQueue::Retry));
        assert_eq!(pauses.targets(), ["queue:new"]);
        assert!(!pauses.stops_at(&queue, later) && health.unready().is_empty());
        assert_eq!(pauses.of_call(&"a".parse().unwrap(), &"demo".parse().unwrap()), None);
    }

    #[test]
    fn a_call_is_stopped_for_its_service_or_its_account_and_its_history_names_no_operator() {
        let later = now() + 60_000;
        let pauses = pauses(&[("downstream:accounting", later), ("account:shop-1", later)]);
        let of =
            |step: &str, account: &str| pauses.of_call(&step.parse().unwrap(), &account.parse().unwrap());
        assert_eq!(of("inventory", "demo"), None);
        assert!(of("inventory", "shop-1").is_some());
        let told = told(&of("accounting", "demo").unwrap());
        assert!(told.starts_with("downstream:accounting is paused until ") && told.ends_with('Z'), "{told}");
    }

    #[test]
    fn an_attempt_has_the_fingerprint_that_its_dead_letter_would_have() {
        let step: StepName = "fulfilment".parse().unwrap();
        let detail = Some("503 Service Unavailable; waits 30s".to_owned());
        let attempt = Entry { at: 0, what: "attempt_failed".into(), step: Some(step.clone()), detail };
        let class = FailureClass::Run(CauseClass::AttemptsExhausted);
        let dead = Failure::new(Some(step), class, None, "503 Service Unavailable").fingerprint();
        let pauses = pauses(&[(&format!("fingerprint:{dead}"), now() + 60_000)]);
        assert!(pauses.of_any_failure().is_some() && pauses.of_failure(&attempt).is_some());
        let other = Entry { detail: Some("timeout; waits 1s".into()), ..attempt };
        assert_eq!(pauses.of_failure(&other), None);
    }
}
