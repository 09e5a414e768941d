//! The operator log: every change that a person makes, recorded before it is made and after, and checked as a chain.

mod chain;
mod reading;

use std::fmt;

use jiff::Timestamp;
use orderfleet_storage::{ActPhase, BadLogEntry, LogRecord, Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::Operator;
use chain::Chain;

pub use chain::{ChainFault, Verification};
pub use orderfleet_storage::{BadLogHead as BadHead, LogEntry, LogHead as Head};
pub use reading::{LogEntries, LogRange};

/// Longest reason, target or result, in bytes; longer targets and results are cut.
const TEXT_BYTES_MAX: usize = 1_000;

/// A change that somebody is about to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Who.
    pub who: Operator,
    /// What is done: the command, words joined by dots, for example `orders.cancel`.
    pub what: String,
    /// The reason given; 1 to 1,000 bytes.
    pub why: String,
    /// What it is done to, for example `order eu1-…` or `198 dead letters`; no personal data. Cut at 1,000 bytes.
    pub target: String,
}

/// Names one act in the log. It can be stored with a job, so that whoever finishes the job can record its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActId(String);

impl ActId {
    /// The id as text: 32 hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ActId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why something could not be recorded, or the log not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A change needs a reason.
    #[error("a reason has 1 to {TEXT_BYTES_MAX} bytes")]
    BadReason,
    /// The operating system gave no random bytes to name the act with.
    #[error("no randomness from the operating system")]
    Random,
    /// The log holds no beginning of this act.
    #[error("the operator log holds no beginning of act {0}")]
    NoSuchAct(ActId),
    /// The entry was not confirmed. It may be in the log all the same.
    #[error("cannot record the change in the operator log")]
    Append(#[source] StoreError),
    /// The log cannot be read.
    #[error("cannot read the operator log")]
    Read(#[source] StoreError),
    /// A document in the log is no entry.
    #[error("the operator log is damaged")]
    Damaged(#[source] BadLogEntry),
}

/// The log of one fleet. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OperatorLog {
    store: Store,
}

/// A reason as it is recorded, without blanks around it.
///
/// # Errors
/// Nothing is left of it, or it is too long.
pub fn reason(text: &str) -> Result<&str, LogError> {
    let text = text.trim();
    if text.is_empty() || text.len() > TEXT_BYTES_MAX { Err(LogError::BadReason) } else { Ok(text) }
}

impl OperatorLog {
    /// The log in this database.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Records that an act begins. Call it before the first effect, and leave the act undone if it fails.
    ///
    /// A second call records a second act. A crash right afterwards leaves an act without an end, of which nobody knows whether
    /// it had an effect; [`OperatorLog::verify`] lists those.
    ///
    /// # Errors
    /// The reason is empty or too long, or the database did not confirm the entry within some 20 s.
    pub async fn begin(&self, act: &Act) -> Result<ActId, LogError> {
        let why = reason(&act.why)?;
        let id = new_act()?;
        let record = LogRecord {
            at: Timestamp::now(),
            who: act.who.to_string(),
            what: act.what.clone(),
            why: why.to_owned(),
            target: cut(&act.target),
            phase: ActPhase::Begin,
            act: id.0.clone(),
            result: None,
        };
        self.store.append_to_log(&record).await.map_err(LogError::Append)?;
        Ok(id)
    }

    /// Records what came of an act: a line for people, without personal data, cut at 1,000 bytes. A second call changes
    /// nothing.
    ///
    /// # Errors
    /// The log holds no beginning of this act, or the database did not confirm the entry within some 20 s. What was done is
    /// done all the same.
    pub async fn end(&self, act: &ActId, result: &str) -> Result<(), LogError> {
        let begun = self.store.logged(&act.0, ActPhase::Begin).await.map_err(LogError::Read)?;
        let begun = begun.ok_or_else(|| LogError::NoSuchAct(act.clone()))?;
        let record = LogRecord {
            at: Timestamp::now(),
            phase: ActPhase::End,
            result: Some(cut(result)),
            ..begun.record
        };
        self.store.append_to_log(&record).await.map_err(LogError::Append).map(drop)
    }

    /// The entries of a range, one after the other; read in pages, so that memory is bounded however long the log is.
    #[must_use]
    pub fn entries(&self, range: LogRange) -> LogEntries {
        LogEntries::new(self.store.clone(), range)
    }

    /// Walks the whole chain from its first entry, at bounded memory. With `expected`, a number and hash that were noted
    /// before, it also sees whether everything up to that entry is still what it was then: from inside the chain, neither an
    /// end that was cut off nor a chain that was written anew can be told.
    ///
    /// # Errors
    /// The database did not answer. A chain that does not fit is no error but the answer.
    pub async fn verify(&self, expected: Option<&Head>) -> Result<Verification, LogError> {
        let mut chain = Chain::new(expected);
        let mut entries = self.entries(LogRange::default());
        while let Some(found) = entries.next_or_damage().await? {
            if !chain.accept(found) {
                return Ok(chain.verdict(None));
            }
        }
        let stranger = self.store.stranger_in_log().await.map_err(LogError::Read)?;
        Ok(chain.verdict(stranger))
    }
}

fn new_act() -> Result<ActId, LogError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| LogError::Random)?;
    Ok(ActId(format!("{:032x}", u128::from_be_bytes(bytes))))
}

/// An empty text would be refused by the database, a longer one is of no use to a reader.
fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    if text.is_empty() { "-".into() } else { text[..end].to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_two_characters() {
        assert_eq!(cut(""), "-");
        assert_eq!(cut("why"), "why");
        let cut = cut(&"é".repeat(600));
        assert_eq!((cut.len(), cut.chars().count()), (1_000, 500));
    }
}
