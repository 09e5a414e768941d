//! Steps as data: what the settings say about each, and the tiers of waiting.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{StepName, saga::Millis};

const STEPS_MAX: usize = 16;

/// One `[[steps]]` entry of the settings. The last step is the pivot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepSettings {
    /// The step's name: part of its keys and of its dead-letter queue's name.
    pub name: StepName,
    /// Base URL of the downstream service for this step (docs/DOWNSTREAM.md).
    pub url: String,
    /// Whole-call timeout in milliseconds, 1 to 60,000. A call that takes longer has an unknown outcome.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// Charged attempts before the order is compensated, 1 to 1,000. Attempts count the first one.
    #[serde(default = "attempts_max")]
    pub attempts_max: u32,
    /// Seconds from the first charged attempt after which the order is compensated, 1 to 2,592,000.
    #[serde(default = "deadline_s")]
    pub deadline_s: u32,
    /// Repeats at once, with the same key, before an unknown outcome is charged; 0 to 10.
    #[serde(default = "quick_retries")]
    pub quick_retries: u32,
    /// Consecutive calls without a definite answer after which a worker leaves the service alone for a while, 1 to 1,000.
    #[serde(default = "breaker_failures")]
    pub breaker_failures: u32,
    /// Calls in flight per worker, 1 to 1,024. Unset: three quarters of the worker's own concurrency, so that a service that
    /// hangs cannot occupy a whole worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u16>,
    /// Dos of one request at most, 1 to 100; above 1 only for a service that offers batches (docs/DOWNSTREAM.md).
    #[serde(default = "batch_max")]
    pub batch_max: u16,
}

fn timeout_ms() -> u64 {
    5_000
}
fn attempts_max() -> u32 {
    8
}
fn deadline_s() -> u32 {
    86_400
}
fn quick_retries() -> u32 {
    2
}
fn breaker_failures() -> u32 {
    10
}
fn batch_max() -> u16 {
    1
}

impl StepSettings {
    /// The steps where no others are set: inventory, fulfilment and accounting, as the sandbox serves them.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        ["inventory", "fulfilment", "accounting"].iter().filter_map(|name| Self::in_sandbox(name)).collect()
    }

    fn in_sandbox(name: &str) -> Option<Self> {
        Some(Self {
            name: name.parse().ok()?,
            url: format!("http://127.0.0.1:7070/{name}/steps"),
            timeout_ms: timeout_ms(),
            attempts_max: attempts_max(),
            deadline_s: deadline_s(),
            quick_retries: quick_retries(),
            breaker_failures: breaker_failures(),
            concurrency: None,
            batch_max: batch_max(),
        })
    }
}

/// Steps that cannot be worked with; the message names the setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting {setting}: {rule}")]
pub struct PolicyError {
    setting: String,
    rule: &'static str,
}

/// The checked steps, and how long a worker keeps an order to itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Policy {
    steps: Vec<StepSettings>,
    /// Lease of a claim: longer than a run of healthy steps takes, short enough to wait for after a crash.
    pub lease_ms: Millis,
}

impl Policy {
    /// Checks the steps of the settings.
    ///
    /// # Errors
    /// No step or more than 16, a name used twice, a URL that is not http or https, or a number out of its range.
    pub fn new(steps: Vec<StepSettings>, lease_ms: Millis) -> Result<Self, PolicyError> {
        let error = |setting: String, rule| Err(PolicyError { setting, rule });
        if !(1..=STEPS_MAX).contains(&steps.len()) {
            return error("steps".into(), "there must be 1 to 16 [[steps]]");
        }
        let mut names = BTreeSet::new();
        for (index, step) in steps.iter().enumerate() {
            let setting = |name: &str| format!("steps[{index}].{name}");
            if !names.insert(&step.name) {
                return error(setting("name"), "must be unique");
            }
            if !(step.url.starts_with("http://") || step.url.starts_with("https://")) {
                return error(setting("url"), "must start with http:// or https://");
            }
            if step.url.split('/').nth(2).is_some_and(|host| host.contains('@')) {
                return error(setting("url"), "must not hold credentials");
            }
            if !(1..=60_000).contains(&step.timeout_ms) {
                return error(setting("timeout_ms"), "must be between 1 and 60000");
            }
            if !(1..=1_000).contains(&step.attempts_max) {
                return error(setting("attempts_max"), "must be between 1 and 1000");
            }
            if !(1..=2_592_000).contains(&step.deadline_s) {
                return error(setting("deadline_s"), "must be between 1 and 2592000 (30 days)");
            }
            if step.quick_retries > 10 {
                return error(setting("quick_retries"), "must be between 0 and 10");
            }
            if !(1..=1_000).contains(&step.breaker_failures) {
                return error(setting("breaker_failures"), "must be between 1 and 1000");
            }
            if step.concurrency.is_some_and(|calls| !(1..=1_024).contains(&calls)) {
                return error(setting("concurrency"), "must be between 1 and 1024");
            }
            if !(1..=100).contains(&step.batch_max) {
                return error(setting("batch_max"), "must be between 1 and 100");
            }
        }
        Ok(Self { steps, lease_ms })
    }

    /// All steps, first to last.
    #[must_use]
    pub fn steps(&self) -> &[StepSettings] {
        &self.steps
    }

    /// The names of the steps, first to last.
    #[must_use]
    pub fn step_names(&self) -> Vec<StepName> {
        self.steps.iter().map(|step| step.name.clone()).collect()
    }

    /// The pivot.
    #[must_use]
    pub fn last_step(&self) -> &StepName {
        &self.steps[self.steps.len() - 1].name
    }

    /// The settings of a step, or `None` for one that an order pinned and this worker no longer knows.
    #[must_use]
    pub fn step(&self, name: &StepName) -> Option<&StepSettings> {
        self.steps.iter().find(|step| step.name == *name)
    }
}

/// The wait tiers: one queue with one constant time-to-live each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each names its length")]
pub enum Tier {
    S1,
    S5,
    S30,
    M2,
    M10,
    H1,
}

impl Tier {
    /// All tiers, shortest first.
    pub const ALL: [Self; 6] = [Self::S1, Self::S5, Self::S30, Self::M2, Self::M10, Self::H1];

    /// Length of the wait.
    #[must_use]
    pub fn millis(self) -> Millis {
        match self {
            Self::S1 => 1_000,
            Self::S5 => 5_000,
            Self::S30 => 30_000,
            Self::M2 => 120_000,
            Self::M10 => 600_000,
            Self::H1 => 3_600_000,
        }
    }

    /// The tier's name, the last part of its queue's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::S1 => "1s",
            Self::S5 => "5s",
            Self::S30 => "30s",
            Self::M2 => "2m",
            Self::M10 => "10m",
            Self::H1 => "1h",
        }
    }

    /// The tier after `charged` charged attempts (at least 1), at least as long as the downstream asked for.
    #[must_use]
    pub fn after_attempts(charged: u32, retry_after: Option<Millis>) -> Self {
        let by_count = Self::ALL[(charged.max(1) as usize - 1).min(Self::ALL.len() - 1)];
        let asked = retry_after
            .map(|asked| Self::ALL.into_iter().find(|tier| tier.millis() >= asked).unwrap_or(Self::H1));
        asked.map_or(by_count, |asked| asked.max(by_count))
    }

    /// The tier after an uncharged wait: nothing was sent, so looking again soon is cheap.
    #[must_use]
    pub fn after_waits(waits: u32) -> Self {
        Self::ALL[(waits.max(1) as usize - 1).min(2)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str) -> StepSettings {
        serde_json::from_value(serde_json::json!({"name": name, "url": "http://127.0.0.1/x"})).unwrap()
    }

    #[test]
    fn bad_steps_name_the_setting() {
        let mut slow = step("b");
        slow.timeout_ms = 0;
        let mut odd = step("b");
        odd.url = "ftp://x".into();
        let (mut touchy, mut closed) = (step("b"), step("b"));
        touchy.breaker_failures = 0;
        closed.concurrency = Some(0);
        let mut hoarding = step("b");
        hoarding.batch_max = 101;
        let mut telling = step("b");
        telling.url = "http://user:secret@host/steps".into();
        for (steps, setting) in [
            (vec![], "steps"),
            (vec![step("a"), step("a")], "steps[1].name"),
            (vec![step("a"), slow], "steps[1].timeout_ms"),
            (vec![step("a"), touchy], "steps[1].breaker_failures"),
            (vec![step("a"), closed], "steps[1].concurrency"),
            (vec![step("a"), hoarding], "steps[1].batch_max"),
            (vec![step("a"), odd], "steps[1].url"),
            (vec![step("a"), telling], "steps[1].url"),
        ] {
            let error = Policy::new(steps, 1).unwrap_err().to_string();
            assert!(error.contains(setting), "{error}");
        }
    }

    #[test]
    fn the_default_steps_are_good() {
        assert_eq!(Policy::new(StepSettings::defaults(), 1).unwrap().step_names().len(), 3);
    }

    #[test]
    fn waits_grow_and_respect_what_the_downstream_asks_for() {
        assert_eq!(Tier::after_attempts(1, None), Tier::S1);
        assert_eq!(Tier::after_attempts(99, None), Tier::H1);
        assert_eq!(Tier::after_attempts(1, Some(7_000)), Tier::S30);
        assert_eq!(Tier::after_attempts(1, Some(i64::MAX)), Tier::H1);
        assert_eq!(Tier::after_waits(50), Tier::S30);
    }
}
