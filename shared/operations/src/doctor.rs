//! The doctor: what is wrong with a fleet, or will be, and what mends it. He changes nothing, but leaves lines in the broker's log.

mod broker;
mod database;
mod downstreams;
mod machine;
mod probe;
mod queues;
mod replicas;
mod settings;

use std::time::Duration;

use jiff::Timestamp;
use orderfleet_domain::saga::Policy;
use orderfleet_messaging::BrokerSettings;
use orderfleet_storage::DatabaseSettings;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::topology::Management;

/// Longest time of one check, a connection that it makes included.
const CHECK_TIMEOUT: Duration = Duration::from_secs(20);

/// The fleet that is examined.
#[derive(Debug)]
pub struct Subject {
    /// Its broker.
    pub broker: BrokerSettings,
    /// Its database.
    pub database: DatabaseSettings,
    /// Its steps, or what is wrong with them.
    pub steps: Result<Policy, String>,
    /// What its workers take at once.
    pub worker: WorkerLimits,
    /// The management API of its broker, if it has one.
    pub management: Option<Management>,
    /// The clock of this machine.
    pub clock: fn() -> Timestamp,
}

/// What a worker takes at once: of `[worker]`, whose other settings are the worker's own business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct WorkerLimits {
    /// Orders worked on at once. Default 128.
    pub concurrency: u16,
    /// Unacked deliveries of fresh orders, of all partitions together, and of each other queue. Default 160.
    pub prefetch: u16,
}

impl Default for WorkerLimits {
    fn default() -> Self {
        Self { concurrency: 128, prefetch: 160 }
    }
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check.
    pub name: String,
    /// Whether it is well.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What mends it, or how to find out: a command or a setting. Only what is well needs none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// Whether something is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is.
    Ok,
    /// It works, and will not always.
    Warning,
    /// It does not work.
    Error,
    /// It cannot be seen from here.
    Unknown,
}

impl Verdict {
    /// The word for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Unknown => "unknown",
        }
    }
}

/// Makes every check, and tells of each; one that cannot be made keeps no other from being made. Takes some seconds, at most
/// about a minute.
pub async fn examine(subject: &Subject) -> Vec<Finding> {
    let (broker, database, downstreams) =
        tokio::join!(broker::examine(subject), database::examine(subject), downstreams::examine(subject));
    [settings::examine(subject), broker, database, downstreams, machine::examine()].concat()
}

/// What is told where the settings cannot be read: nothing else can be looked at then.
#[must_use]
pub fn unreadable_settings(why: &str) -> Vec<Finding> {
    let fix = "mend the file or the variable it names; orderfleet.example.toml has every setting";
    vec![Judgement::error(why, fix).of("settings")]
}

/// A finding before it has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Judgement {
    verdict: Verdict,
    found: String,
    fix: Option<String>,
}

impl Judgement {
    fn ok(found: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, found: found.into(), fix: None }
    }

    fn warning(found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, found: found.into(), fix: Some(fix.into()) }
    }

    fn error(found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { verdict: Verdict::Error, found: found.into(), fix: Some(fix.into()) }
    }

    fn unknown(found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { verdict: Verdict::Unknown, found: found.into(), fix: Some(fix.into()) }
    }

    fn of(self, name: &str) -> Finding {
        let Self { verdict, found, fix } = self;
        Finding { name: name.to_owned(), verdict, found, fix }
    }
}

/// Makes one check, for as long as a check may take.
async fn check(name: &str, look: impl Future<Output = Judgement>) -> Finding {
    within(CHECK_TIMEOUT, look).await.unwrap_or_else(|late| late).of(name)
}

/// What a look tells, or that it has told nothing in time.
async fn within<T>(limit: Duration, look: impl Future<Output = T>) -> Result<T, Judgement> {
    timeout(limit, look).await.map_err(|_| {
        let found = format!("no answer within {} s", limit.as_secs());
        Judgement::unknown(found, "see whether what it looks at is overloaded, then run the doctor again")
    })
}

/// Of checks that need something that is not there.
fn not_made<'a>(names: impl IntoIterator<Item = &'a str>, why: &str, fix: &str) -> Vec<Finding> {
    names.into_iter().map(|name| Judgement::unknown(why, fix).of(name)).collect()
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The first two numbers of a version.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(version("3.10.8"), Some((3, 10)));
        assert!(version("3.9.29") < Some((3, 10)) && version("4.0.0-rc.1") > Some((3, 10)));
        assert_eq!(version("four"), None);
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_unknown_and_says_so() {
        let late = within(Duration::from_millis(1), std::future::pending::<()>()).await.unwrap_err();
        assert!(late.verdict == Verdict::Unknown && late.fix.is_some(), "{late:?}");
    }
}
