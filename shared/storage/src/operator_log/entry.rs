//! An entry of the operator log, and its hash. No I/O.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::document::{date, timestamp};

/// Begins every hash: another canonical form is another name.
const HASH_NAME: &str = "orderfleet/operator-log/1";
/// Stands for the length of an absent text; no text can be this long.
const ABSENT: u32 = u32::MAX;
/// What the first entry holds instead of a hash of the one before.
const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Which half of an act an entry records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActPhase {
    /// Written before anything is done.
    Begin,
    /// Written when it has been done, or has failed. Missing where whoever acted was gone before.
    End,
}

impl ActPhase {
    /// The word stored and shown: `begin` or `end`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::End => "end",
        }
    }
}

/// What an entry records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// When, by the clock of whoever acted; cut to milliseconds when it is stored.
    pub at: Timestamp,
    /// Who acted, by his own word.
    pub who: String,
    /// What was done, for example `orders.cancel`.
    pub what: String,
    /// The reason given.
    pub why: String,
    /// What it was done to.
    pub target: String,
    /// Which half of the act.
    pub phase: ActPhase,
    /// Names the act: its beginning and its end have the same, and no other entry has.
    pub act: String,
    /// What came of it; only in an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
}

/// An entry of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Its number, from 1, without gaps.
    pub seq: i64,
    /// What it records.
    #[serde(flatten)]
    pub record: LogRecord,
    /// `hash` of the entry before; 64 zeros in the first one.
    pub prev: String,
    /// 64 lower-case hex digits: SHA-256 over `orderfleet/operator-log/1` and these texts in this order: `seq`, `at` in
    /// milliseconds since 1970, `who`, `what`, `why`, `target`, `phase`, `act`, `result`, `prev`. Numbers are decimal. A text is
    /// its length in bytes as 4 bytes, big-endian, then its UTF-8 bytes; an absent one is the length `0xFFFFFFFF` alone.
    pub hash: String,
}

impl LogEntry {
    /// The entry that follows the one of this number and hash, or the first one.
    #[must_use]
    pub fn after(last: Option<&LogHead>, record: &LogRecord) -> Self {
        let (seq, prev) = last.map_or((1, NO_HASH.into()), |last| (last.seq + 1, last.hash.clone()));
        let record = LogRecord { at: timestamp(date(record.at)), ..record.clone() };
        let hash = hash(seq, &record, &prev);
        Self { seq, record, prev, hash }
    }

    /// Whether its hash is that of its content.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.hash == hash(self.seq, &self.record, &self.prev)
    }

    /// Whether it holds the hash of the entry before, or may be the first one.
    #[must_use]
    pub fn follows(&self, before: Option<&Self>) -> bool {
        self.prev == before.map_or(NO_HASH, |before| &before.hash)
    }
}

/// Number and hash of an entry: whoever notes them can tell later whether the chain up to it is still the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogHead {
    /// Its number.
    pub seq: i64,
    /// Its hash.
    pub hash: String,
}

/// A text that is no number and hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a head of the log is written as NUMBER:HASH, the hash with 64 lower-case hex digits")]
pub struct BadLogHead;

impl fmt::Display for LogHead {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for LogHead {
    type Err = BadLogHead;

    fn from_str(text: &str) -> Result<Self, BadLogHead> {
        let (seq, hash) = text.split_once(':').ok_or(BadLogHead)?;
        let seq = seq.parse().map_err(|_| BadLogHead)?;
        let is_hash = hash.len() == NO_HASH.len() && hash.bytes().all(|b| b"0123456789abcdef".contains(&b));
        if is_hash { Ok(Self { seq, hash: hash.to_owned() }) } else { Err(BadLogHead) }
    }
}

impl From<&LogEntry> for LogHead {
    fn from(entry: &LogEntry) -> Self {
        Self { seq: entry.seq, hash: entry.hash.clone() }
    }
}

fn hash(seq: i64, record: &LogRecord, prev: &str) -> String {
    let LogRecord { at, who, what, why, target, phase, act, result } = record;
    let (seq, at) = (seq.to_string(), at.as_millisecond().to_string());
    let texts = [seq.as_str(), at.as_str(), who, what, why, target, phase.as_str(), act].map(Some);
    let mut hash = Sha256::new_with_prefix(HASH_NAME);
    for text in texts.into_iter().chain([result.as_deref(), Some(prev)]) {
        let length = text.map_or(ABSENT, |text| u32::try_from(text.len()).unwrap_or(ABSENT));
        hash.update(length.to_be_bytes());
        hash.update(text.unwrap_or_default());
    }
    HEXLOWER.encode(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> LogRecord {
        LogRecord {
            at: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            who: "jo".into(),
            what: "orders.cancel".into(),
            why: "asked by phone".into(),
            target: "order a".into(),
            phase: ActPhase::Begin,
            act: "a1".into(),
            result: None,
        }
    }

    /// Computed with Python's hashlib and struct from the description on [`LogEntry::hash`].
    #[test]
    fn a_hash_is_what_its_description_says() {
        let first = LogEntry::after(None, &record());
        assert_eq!(first.hash, "f7f29b60bc2cc855e13f2db8f615dd324fd44ba502e2f4cd237f7a76c1c06a9a");
        let end = LogRecord { phase: ActPhase::End, result: Some(String::new()), ..record() };
        let second = LogEntry::after(Some(&LogHead::from(&first)), &end);
        assert_eq!(second.hash, "030be7b96682650d0fec51a26e3af978077559e501884b239c6136c192b64ca1");
        assert!(first.follows(None) && second.follows(Some(&first)) && !second.follows(None));
    }

    #[test]
    fn whatever_is_changed_shows() {
        let entry = LogEntry::after(None, &record());
        assert!(entry.is_intact());
        let changes: [fn(&mut LogEntry); 6] = [
            |entry| entry.seq += 1,
            |entry| entry.prev.replace_range(..1, "1"),
            |entry| entry.record.who.push('x'),
            |entry| entry.record.phase = ActPhase::End,
            |entry| entry.record.result = Some(String::new()),
            // The boundary between two texts is part of the hash.
            |entry| {
                entry.record.what.push('a');
                entry.record.why.remove(0);
            },
        ];
        for change in changes {
            let mut changed = entry.clone();
            change(&mut changed);
            assert!(!changed.is_intact(), "{changed:?}");
        }
    }

    #[test]
    fn a_head_is_read_as_it_is_shown() {
        let head = LogHead { seq: 41, hash: "0a".repeat(32) };
        assert_eq!(head.to_string().parse(), Ok(head));
        for bad in ["", "41", "41:", "x:0a", "41:0A0A", &format!("41:{}", "0g".repeat(32))] {
            assert_eq!(bad.parse::<LogHead>(), Err(BadLogHead), "{bad}");
        }
    }

    #[test]
    fn an_exported_entry_can_still_be_checked() {
        let entry = LogEntry::after(None, &record());
        let line = serde_json::to_string(&entry).unwrap();
        assert!(line.starts_with(r#"{"seq":1,"at":"2026-01-02T03:04:05.678Z","who":"jo""#), "{line}");
        assert!(serde_json::from_str::<LogEntry>(&line).unwrap().is_intact());
    }
}
