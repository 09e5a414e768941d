//! The chain of the log, walked from its first entry: where it first does not fit, and which acts have no end. No I/O.

use std::{collections::BTreeMap, fmt};

use orderfleet_storage::{ActPhase, BadLogEntry, LogEntry, LogHead as Head};
use serde::Serialize;

/// Acts without an end that a walk keeps in memory.
const OPEN_MAX: usize = 10_000;

/// What a walk along the chain has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Entries that fit, counted from the first.
    pub entries: u64,
    /// The last of them.
    pub head: Option<Head>,
    /// The first thing that does not fit; nothing behind it was looked at.
    pub fault: Option<ChainFault>,
    /// Acts without an end, oldest first: under way, or left by somebody who was gone before he could record it.
    pub open: Vec<LogEntry>,
    /// Whether there are more of these than are kept here, 10,000.
    pub open_more: bool,
}

/// Where the chain does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainFault {
    /// The entry, or the number of the one that is missing.
    pub at: String,
    /// What is wrong, for people.
    pub what: String,
}

#[derive(Debug, Default)]
pub(super) struct Chain<'a> {
    expected: Option<&'a Head>,
    last: Option<LogEntry>,
    entries: u64,
    open: BTreeMap<String, LogEntry>,
    open_more: bool,
    fault: Option<ChainFault>,
}

impl<'a> Chain<'a> {
    pub(super) fn new(expected: Option<&'a Head>) -> Self {
        Self { expected, ..Self::default() }
    }

    /// Takes the next entry of the chain; false for one that does not fit.
    pub(super) fn accept(&mut self, found: Result<LogEntry, BadLogEntry>) -> bool {
        match found {
            Ok(entry) => {
                self.fault = self.fault_of(&entry);
                if self.fault.is_none() {
                    self.append(entry);
                }
            }
            Err(bad) => {
                self.fault =
                    Some(fault(bad.id, format!("is no entry as this build writes them: {}", bad.source)));
            }
        }
        self.fault.is_none()
    }

    fn fault_of(&self, entry: &LogEntry) -> Option<ChainFault> {
        let next = self.last.as_ref().map_or(1, |last| last.seq + 1);
        let at = entry.seq;
        if at != next {
            return Some(fault(next, format!("is missing; the next entry is {at}")));
        }
        if !entry.is_intact() {
            return Some(fault(at, "was changed: its hash is not that of its content".into()));
        }
        if !entry.follows(self.last.as_ref()) {
            return Some(fault(
                at,
                format!("does not follow: it names another hash than that of entry {}", at - 1),
            ));
        }
        let expected = self.expected.filter(|head| head.seq == at)?;
        (expected.hash != entry.hash).then(|| {
            fault(at, "is not the one that was noted: it, or one before it, was written anew".into())
        })
    }

    fn append(&mut self, entry: LogEntry) {
        let act = entry.record.act.clone();
        if entry.record.phase == ActPhase::End {
            self.open.remove(&act);
        } else if self.open.len() < OPEN_MAX {
            self.open.insert(act, entry.clone());
        } else {
            self.open_more = true;
        }
        self.entries += 1;
        self.last = Some(entry);
    }

    /// The answer, once there are no more entries or one did not fit.
    pub(super) fn verdict(mut self, stranger: Option<String>) -> Verification {
        let beside = |id| fault(id, "stands beside the chain: its id is no number".into());
        self.fault = self.fault.take().or_else(|| self.cut_off()).or_else(|| stranger.map(beside));
        let mut open: Vec<_> = self.open.into_values().collect();
        open.sort_unstable_by_key(|entry| entry.seq);
        Verification {
            entries: self.entries,
            head: self.last.as_ref().map(Head::from),
            fault: self.fault,
            open,
            open_more: self.open_more,
        }
    }

    fn cut_off(&self) -> Option<ChainFault> {
        let last = self.last.as_ref().map_or(0, |last| last.seq);
        let expected = self.expected.filter(|head| head.seq > last)?;
        Some(fault(
            last + 1,
            format!("is missing, and all up to {} that was noted: the end was cut off", expected.seq),
        ))
    }
}

fn fault(at: impl fmt::Display, what: String) -> ChainFault {
    ChainFault { at: at.to_string(), what }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use orderfleet_storage::LogRecord;

    use super::*;

    fn record(act: &str, phase: ActPhase) -> LogRecord {
        let [who, what, why, target] = ["jo", "orders.cancel", "why", "order a"].map(str::to_owned);
        LogRecord { at: Timestamp::UNIX_EPOCH, who, what, why, target, phase, act: act.into(), result: None }
    }

    /// Two acts, one after the other, and one without an end.
    fn chain() -> Vec<LogEntry> {
        let mut entries: Vec<LogEntry> = Vec::new();
        for (act, phase) in [
            ("a", ActPhase::Begin),
            ("a", ActPhase::End),
            ("b", ActPhase::Begin),
            ("c", ActPhase::Begin),
            ("b", ActPhase::End),
        ] {
            let last = entries.last().map(Head::from);
            entries.push(LogEntry::after(last.as_ref(), &record(act, phase)));
        }
        entries
    }

    fn verify(entries: Vec<LogEntry>, expected: Option<&Head>) -> Verification {
        let mut chain = Chain::new(expected);
        let _ = entries.into_iter().all(|entry| chain.accept(Ok(entry)));
        chain.verdict(None)
    }

    #[test]
    fn a_sound_chain_tells_its_head_and_the_acts_without_an_end() {
        let verdict = verify(chain(), None);
        assert_eq!((verdict.entries, &verdict.fault), (5, &None));
        assert_eq!(verdict.head, chain().last().map(Head::from));
        let open: Vec<_> = verdict.open.iter().map(|entry| entry.record.act.as_str()).collect();
        assert_eq!(open, ["c"]);
        assert_eq!(verify(Vec::new(), None).entries, 0);
    }

    #[test]
    fn a_changed_a_removed_and_an_inserted_entry_are_found() {
        let mut changed = chain();
        changed[2].record.why = "another".into();
        let mut rehashed = changed.clone();
        rehashed[2] = LogEntry::after(Some(&Head::from(&chain()[1])), &changed[2].record);
        let mut removed = chain();
        removed.remove(1);
        let mut inserted = chain();
        let last = inserted.last().map(Head::from);
        let forged = last.map(|head| Head { hash: "0".repeat(64), ..head });
        inserted.push(LogEntry::after(forged.as_ref(), &record("d", ActPhase::Begin)));
        for (entries, at, what) in [
            (changed, "3", "was changed"),
            (rehashed, "4", "does not follow"),
            (removed, "2", "is missing"),
            (inserted, "6", "does not follow"),
        ] {
            let fault = verify(entries, None).fault.unwrap();
            assert!(fault.at == at && fault.what.contains(what), "{fault:?}");
        }
    }

    #[test]
    fn only_a_head_that_was_noted_tells_of_an_end_that_was_cut_off_and_of_a_chain_that_was_written_anew() {
        let noted = chain().last().map(Head::from).unwrap();
        assert_eq!(verify(chain(), Some(&noted)).fault, None);
        let mut cut_off = chain();
        cut_off.truncate(3);
        let mut anew = vec![LogEntry::after(None, &record("x", ActPhase::Begin))];
        for entry in &chain()[1..] {
            anew.push(LogEntry::after(anew.last().map(Head::from).as_ref(), &entry.record));
        }
        for (entries, at, what) in [(cut_off, "4", "cut off"), (anew, "5", "written anew")] {
            assert_eq!(verify(entries.clone(), None).fault, None);
            let fault = verify(entries, Some(&noted)).fault.unwrap();
            assert!(fault.at == at && fault.what.contains(what), "{fault:?}");
        }
    }
}
