//! Pausing and resuming: a queue, a downstream, an account, or the orders that fail alike. Workers obey within a second.

use std::time::Duration;

use jiff::Timestamp;
use orderfleet_domain::saga::Policy;
use orderfleet_messaging::Topology;
use orderfleet_storage::{
    PAUSE_REASON_CHARS_MAX, PAUSES_MAX, Pause, PauseTarget, Store, StoreError, WorkedQueue,
};
use serde::Serialize;

use crate::{
    dead_letters::Asked,
    log::{Act, LogError, OperatorLog},
};

/// Longest pause: what is to last longer is a change of the fleet, and a forgotten one must not.
pub const PAUSE_MAX: Duration = Duration::from_hours(7 * 24);

/// The pauses of one fleet. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pauses {
    store: Store,
    log: OperatorLog,
}

/// A pause that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Paused {
    /// It.
    #[serde(flatten)]
    pub pause: Pause,
    /// The pause of the same target that was in force before, and is not any more.
    pub replaced: Option<Pause>,
}

/// Why something could not be paused or resumed.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// The database failed.
    #[error("the pauses cannot be reached")]
    Store(#[from] StoreError),
    /// The operator log failed, or refused the reason.
    #[error("the operator log has no record of it")]
    Log(#[from] LogError),
    /// Longer, or shorter, than a pause may be.
    #[error("a pause lasts for 1 second to 7 days")]
    BadLength,
    /// It is shown in a row of a table.
    #[error("the reason of a pause has at most {PAUSE_REASON_CHARS_MAX} characters")]
    LongReason,
    /// Workers obey no more.
    #[error("{PAUSES_MAX} pauses are in force already")]
    TooMany,
    /// This fleet has no such queue or step.
    #[error("this fleet has no {target}")]
    NotHere {
        /// What was named.
        target: PauseTarget,
        /// What it could have been.
        known: Vec<String>,
    },
}

impl Pauses {
    /// Those in this database.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { log: OperatorLog::new(store.clone()), store }
    }

    /// What is in force, by target.
    ///
    /// # Errors
    /// The database failed.
    pub async fn in_force(&self) -> Result<Vec<Pause>, PauseError> {
        Ok(self.store.pauses(Timestamp::now().as_millisecond()).await?)
    }

    /// Pauses a target for a time from now. A second call takes the place of the first, also to end sooner. Recorded as `what`, such as
    /// `fleet.pause`, before and after. A crash in between leaves an act without an end, and the pause made or not: call it
    /// again.
    ///
    /// # Errors
    /// The length or the reason is refused, 256 other pauses are in force, or the operator log refuses the record: then nothing
    /// was done. Or the database failed, and the pause may be made.
    pub async fn pause(
        &self,
        asked: &Asked,
        what: &str,
        target: &PauseTarget,
        length: Duration,
    ) -> Result<Paused, PauseError> {
        let pause = pause(asked, target, length)?;
        let in_force = self.in_force().await?;
        self.make(asked, what, pause, &in_force).await
    }

    /// As [`Pauses::pause`], but for that time at least: a pause of the target that lasts longer gives its end to this one. One
    /// that somebody makes at the same moment may end sooner all the same; `replaced` tells.
    ///
    /// # Errors
    /// As [`Pauses::pause`].
    pub async fn pause_at_least(
        &self,
        asked: &Asked,
        what: &str,
        target: &PauseTarget,
        length: Duration,
    ) -> Result<Paused, PauseError> {
        let mut pause = pause(asked, target, length)?;
        let in_force = self.in_force().await?;
        let before = in_force.iter().find(|other| other.target == *target);
        pause.until = before.map_or(pause.until, |before| before.until.max(pause.until));
        self.make(asked, what, pause, &in_force).await
    }

    async fn make(
        &self,
        asked: &Asked,
        what: &str,
        pause: Pause,
        in_force: &[Pause],
    ) -> Result<Paused, PauseError> {
        let Pause { target, at, until, .. } = &pause;
        let others = in_force.iter().filter(|other| other.target != *target).count();
        if others >= PAUSES_MAX as usize {
            return Err(PauseError::TooMany);
        }
        let act = self.log.begin(&act(asked, what, format!("{target} until {until:.0}"))).await?;
        let replaced = self.store.pause(&pause).await;
        let replaced = replaced
            .map(|before| before.filter(|before| before.is_in_force(at.as_millisecond())))
            .map_err(PauseError::from);
        let result = match &replaced {
            Ok(None) => "paused".to_owned(),
            Ok(Some(before)) => format!("paused in place of {}'s until {:.0}", before.owner, before.until),
            Err(error) => format!("broke off: {error}"),
        };
        self.log.end(&act, &result).await?;
        Ok(Paused { pause, replaced: replaced? })
    }

    /// Ends a pause and returns it; `None`, and nothing recorded, if there is none in force. A crash in between leaves an act
    /// without an end, and the pause over or not: call it again.
    ///
    /// # Errors
    /// The operator log refuses the record: then nothing was done. Or the database failed, and the pause may be over.
    pub async fn resume(&self, asked: &Asked, target: &PauseTarget) -> Result<Option<Pause>, PauseError> {
        if !self.in_force().await?.iter().any(|pause| pause.target == *target) {
            return Ok(None);
        }
        let act = self.log.begin(&act(asked, "fleet.resume", target.to_string())).await?;
        let resumed = self.store.resume(target).await;
        let result = match &resumed {
            Ok(Some(pause)) => format!("resumed; paused by {} until {:.0}", pause.owner, pause.until),
            Ok(None) => "it was over meanwhile".to_owned(),
            Err(error) => format!("broke off: {error}"),
        };
        self.log.end(&act, &result).await?;
        Ok(resumed?)
    }
}

/// Whether this fleet has the queue or the step that a target names. Accounts and fingerprints are not looked up.
///
/// # Errors
/// It has not; the error names those that it has.
pub fn check_target(target: &PauseTarget, topology: &Topology, policy: &Policy) -> Result<(), PauseError> {
    let known: Vec<_> = match target {
        PauseTarget::NewOrders | PauseTarget::Account(_) | PauseTarget::Failure(_) => return Ok(()),
        PauseTarget::Queue(_) => {
            queues(topology, policy).into_iter().map(|queue| PauseTarget::Queue(queue).to_string()).collect()
        }
        PauseTarget::Downstream(_) => {
            policy.step_names().into_iter().map(|step| PauseTarget::Downstream(step).to_string()).collect()
        }
    };
    if known.contains(&target.to_string()) {
        return Ok(());
    }
    Err(PauseError::NotHere { target: target.clone(), known })
}

/// The queues that this fleet's workers consume.
pub(crate) fn queues(topology: &Topology, policy: &Policy) -> Vec<WorkedQueue> {
    use orderfleet_domain::saga::DeadLetterQueue::{Conflict, Held, Poison, Step};
    let fresh = (0..topology.partitions()).map(WorkedQueue::New);
    let worked = [WorkedQueue::Retry, WorkedQueue::Replay, WorkedQueue::Compensate, WorkedQueue::Quarantine];
    let dead = policy.step_names().into_iter().map(Step).chain([Poison, Held, Conflict]);
    fresh.chain(worked).chain(dead.map(WorkedQueue::Dead)).collect()
}

/// A pause from now on.
fn pause(asked: &Asked, target: &PauseTarget, length: Duration) -> Result<Pause, PauseError> {
    let reason = asked.why.trim().to_owned();
    if reason.chars().count() > PAUSE_REASON_CHARS_MAX {
        return Err(PauseError::LongReason);
    }
    let at = Timestamp::now();
    Ok(Pause { target: target.clone(), owner: asked.who.to_string(), reason, at, until: until(at, length)? })
}

fn until(at: Timestamp, length: Duration) -> Result<Timestamp, PauseError> {
    if !(Duration::from_secs(1)..=PAUSE_MAX).contains(&length) {
        return Err(PauseError::BadLength);
    }
    at.checked_add(length).map_err(|_| PauseError::BadLength)
}

fn act(asked: &Asked, what: &str, target: String) -> Act {
    Act { who: asked.who.clone(), what: what.to_owned(), why: asked.why.clone(), target }
}

#[cfg(test)]
mod tests {
    use orderfleet_domain::saga::StepSettings;

    use super::*;

    #[test]
    fn a_target_must_be_one_that_this_fleet_has() {
        let policy = Policy::new(StepSettings::defaults(), 0).unwrap();
        let topology = Topology::new("t.", 2, 1_000, &policy.step_names());
        let check = |text: &str| check_target(&text.parse().unwrap(), &topology, &policy);
        for here in
            ["queue:new", "queue:new.1", "queue:dead.fulfilment", "downstream:accounting", "account:x"]
        {
            check(here).unwrap();
        }
        for (elsewhere, known) in
            [("queue:new.2", "queue:new.1"), ("downstream:fulfillment", "downstream:fulfilment")]
        {
            let Err(PauseError::NotHere { known: names, .. }) = check(elsewhere) else {
                panic!("{elsewhere}")
            };
            assert!(names.iter().any(|name| name == known), "{names:?}");
        }
    }

    #[test]
    fn a_pause_has_an_end_within_a_week() {
        let at = Timestamp::UNIX_EPOCH;
        assert_eq!(until(at, Duration::from_secs(60)).unwrap().as_second(), 60);
        for bad in [Duration::ZERO, PAUSE_MAX + Duration::from_secs(1), Duration::MAX] {
            assert!(matches!(until(at, bad), Err(PauseError::BadLength)), "{bad:?}");
        }
    }
}
