//! What an audit has found, and what it cannot see.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::Serialize;

use super::{Class, EventCounts, Finding, LogSeen, Malformed, QueueDepth, Range, look::Seen, window};

/// Malformed lines that are named; further ones are only counted.
const MALFORMED_NAMED_MAX: usize = 100;

/// The balance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Which acceptances.
    #[serde(flatten)]
    pub range: Range,
    /// Orders and bodies accepted in the range: the sum of the balance.
    pub accepted: u64,
    /// By what became of them.
    pub balance: BTreeMap<Class, u64>,
    /// Lines about what was accepted before, with the same body.
    pub repeated: u64,
    /// Lines outside the range.
    pub outside: u64,
    /// Lines that are no acceptances.
    pub malformed: u64,
    /// The first hundred of them.
    pub malformed_lines: Vec<Malformed>,
    /// The earliest acceptance that was not seen yet.
    pub oldest_not_seen_yet: Option<Timestamp>,
    /// Queues that were not seen empty, where they were looked at.
    pub queues_waiting: Option<Vec<QueueDepth>>,
    /// Consumers of the queues, which may have deliveries in hand, where they were looked at.
    pub consumers: Option<u64>,
    /// Terminal events, where they were asked for.
    pub events: Option<EventCounts>,
    /// The logs.
    pub logs: Vec<LogSeen>,
    /// It was stopped before the logs' end.
    pub interrupted: bool,
    /// What is beyond this audit, a phrase each.
    pub cannot_see: Vec<String>,
}

impl Report {
    pub(super) fn new(range: Range) -> Self {
        Self {
            range,
            accepted: 0,
            balance: Class::ALL.map(|class| (class, 0)).into(),
            repeated: 0,
            outside: 0,
            malformed: 0,
            malformed_lines: Vec::new(),
            oldest_not_seen_yet: None,
            queues_waiting: None,
            consumers: None,
            events: None,
            logs: Vec::new(),
            interrupted: false,
            cannot_see: Vec::new(),
        }
    }

    /// Whether every acceptance is accounted for, or may still be.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.of(Class::Unaccounted) + self.of(Class::Wrong) == 0
    }

    /// Whether nothing was left open: no acceptance that was not seen yet, no line that could not be read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let are_whole = self.logs.iter().all(|log| log.broken.is_none());
        self.of(Class::NotSeenYet) + self.malformed == 0 && are_whole && !self.interrupted
    }

    /// How many became this.
    #[must_use]
    pub fn of(&self, class: Class) -> u64 {
        self.balance.get(&class).copied().unwrap_or_default()
    }

    pub(super) fn took(&mut self, malformed: Vec<Malformed>, ended: Option<LogSeen>) {
        self.malformed += malformed.len() as u64;
        let room = MALFORMED_NAMED_MAX - self.malformed_lines.len();
        self.malformed_lines.extend(malformed.into_iter().take(room));
        self.logs.extend(ended);
    }

    pub(super) fn count(&mut self, finding: &Finding) {
        self.accepted += 1;
        *self.balance.entry(finding.class).or_default() += 1;
        if finding.class == Class::NotSeenYet {
            let at = finding.accepted_at;
            self.oldest_not_seen_yet = Some(self.oldest_not_seen_yet.map_or(at, |oldest| oldest.min(at)));
        }
    }

    /// The last look is the one that counts.
    pub(super) fn looked(&mut self, seen: Seen) {
        self.queues_waiting = Some(seen.waiting);
        self.consumers = Some(seen.consumers);
    }

    pub(super) fn ended(mut self, events: Option<EventCounts>, interrupted: bool) -> Self {
        (self.events, self.interrupted) = (events, interrupted);
        self.cannot_see = self.blind_spots();
        self
    }

    fn blind_spots(&self) -> Vec<String> {
        let mut spots = Vec::new();
        if self.interrupted {
            spots.push("what was not read: the audit was stopped".to_owned());
        }
        let broken = self.logs.iter().filter_map(|log| Some((log, log.broken.as_ref()?)));
        spots.extend(broken.map(|(log, why)| format!("{} behind line {}: {why}", log.log, log.lines)));
        if self.malformed > 0 {
            spots.push(format!("{} malformed lines, each of them perhaps an acceptance", self.malformed));
        }
        spots.extend(self.uncovered());
        spots.push("producers whose logs were not given, and parts of a log that were rotated away: no line names its producer".into());
        spots.extend(self.unseen_in_queues());
        if self.accepted + self.repeated > window::REMEMBERED_MAX as u64 {
            spots.push(format!(
                "repeats of an acceptance more than {} acceptances apart: they are in the balance twice",
                window::REMEMBERED_MAX
            ));
        }
        spots
    }

    /// The ends of the range that no log reaches.
    fn uncovered(&self) -> Vec<String> {
        let first = self.logs.iter().filter_map(|log| log.first).min();
        let last = self.logs.iter().filter_map(|log| log.last).max();
        let before = self.range.since.zip(first).filter(|(since, first)| since < first);
        let after = self.range.until.zip(last).filter(|(until, last)| last < until);
        let before = before.map(|(since, first)| format!("{since} to {first}: the earliest line is later"));
        let after = after.map(|(until, last)| format!("{last} to {until}: the latest line is earlier"));
        before.into_iter().chain(after).collect()
    }

    fn unseen_in_queues(&self) -> Vec<String> {
        let mut spots = Vec::new();
        if let Some(waiting) = self.queues_waiting.as_ref().filter(|waiting| !waiting.is_empty()) {
            let depths: Vec<_> =
                waiting.iter().map(|depth| format!("{} ({})", depth.queue, depth.ready)).collect();
            spots.push(format!(
                "whether orders not seen yet are in the queues that were never empty: {}",
                depths.join(", ")
            ));
        }
        if let Some(consumers) = self.consumers.filter(|consumers| *consumers > 0) {
            spots.push(format!(
                "what {consumers} consumers have in hand: stop the workers for a look without this gap"
            ));
        }
        if self.consumers.is_some() {
            spots.push(
                "what is in a queue whose replicas have no majority: the broker says it is empty".into(),
            );
        }
        spots
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("orders accepted")?;
        if let Some(since) = self.since {
            write!(f, " since {since}")?;
        }
        if let Some(until) = self.until {
            write!(f, " until {until}")?;
        }
        f.write_str(if *self == Self::default() { " at any time" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Timestamp {
        format!("2026-01-02T{time}:00Z").parse().unwrap()
    }

    fn report(since: &str, until: &str) -> Report {
        let log = |first, last| LogSeen {
            log: format!("{first}.log"),
            lines: 2,
            malformed: 0,
            first: Some(at(first)),
            last: Some(at(last)),
            broken: None,
        };
        let mut report = Report::new(Range { since: Some(at(since)), until: Some(at(until)) });
        report.logs = vec![log("09:00", "10:00"), log("10:00", "11:00")];
        report.ended(None, false)
    }

    fn tells(report: &Report, text: &str) -> bool {
        report.cannot_see.iter().any(|spot| spot.contains(text))
    }

    #[test]
    fn the_ends_of_the_range_that_no_log_reaches_are_told() {
        let covered = report("09:00", "11:00");
        assert!(!tells(&covered, "earliest") && !tells(&covered, "latest"), "{:?}", covered.cannot_see);
        let wider = report("08:00", "12:00");
        assert!(tells(&wider, "2026-01-02T08:00:00Z to 2026-01-02T09:00:00Z"), "{:?}", wider.cannot_see);
        assert!(tells(&wider, "2026-01-02T11:00:00Z to 2026-01-02T12:00:00Z"), "{:?}", wider.cannot_see);
    }

    #[test]
    fn what_the_queues_may_hide_is_told_once_they_were_looked_at() {
        assert!(!tells(&report("09:00", "11:00"), "majority"));
        let mut looked = Report::new(Range::default());
        let waiting = vec![QueueDepth { queue: "orders.new.0".into(), ready: 3 }];
        looked.looked(Seen { waiting, consumers: 2 });
        let looked = looked.ended(None, false);
        for text in ["orders.new.0 (3)", "2 consumers", "majority"] {
            assert!(tells(&looked, text), "{text}: {:?}", looked.cannot_see);
        }
    }
}
