//! What is to become of an order whose message crashed workers: held for a person, or, where it has ended, its event
//! published again. No I/O.

use std::time::Duration;

use orderfleet_domain::{
    Command, CommandKind,
    saga::{
        DOCUMENT_VERSION, Entry, Expect, Hold, Millis, Nonce, Note, Policy, Record, WorkerId, Write,
        dead_letter_id,
    },
};

/// A message that crashed workers.
#[derive(Debug)]
pub(crate) struct Crashed<'a> {
    /// The message.
    pub(crate) command: &'a Command,
    /// What is known of the crashes.
    pub(crate) reason: &'a str,
}

/// What to do with the order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing: it is held already, or is not what the message was about.
    LeaveAlone,
    /// Nothing yet: only a newer build knows what its document means.
    LeaveToNewer,
    /// A worker may have it in hand: look again after this time.
    Wait(Duration),
    /// Change it. A change that meets another document than the one judged is to be judged anew.
    Change(Change),
}

/// A change to the order's document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Claim the order and hold it.
    Hold(Box<Write>),
    /// Insert a document that is held.
    InsertHeld(Box<Record>),
    /// Raise `evp` of an order that has ended.
    Owe(Note),
}

/// Judges by the document, if there is one.
///
/// An order without one gets it, held from the start: whoever is slow and not dead could still begin the order unseen. One
/// that has ended may owe its event to this very message, whatever it asked for, and so it is owed again.
pub(crate) fn judge(
    found: Option<&Record>,
    crashed: &Crashed<'_>,
    policy: &Policy,
    now: Millis,
    nonce: Nonce,
) -> Verdict {
    let Some(record) = found else {
        return insert_held(crashed, policy, now, nonce)
            .map_or(Verdict::LeaveAlone, |record| Verdict::Change(Change::InsertHeld(Box::new(record))));
    };
    if record.sv > DOCUMENT_VERSION {
        return Verdict::LeaveToNewer;
    }
    if !record.is_consistent() {
        return Verdict::LeaveAlone;
    }
    if record.phase.is_terminal() {
        let Record { generation, rev, .. } = *record;
        return Verdict::Change(Change::Owe(Note::Owed { generation, rev, owed: true }));
    }
    if !concerns(record, crashed.command) || record.hold.is_some() {
        return Verdict::LeaveAlone;
    }
    // A lease that ends later was written by a clock that is wrong.
    let latest = now + 2 * policy.lease_ms;
    if (now + 1..=latest).contains(&record.lease_until) {
        let left = u64::try_from(record.lease_until - now).unwrap_or(0);
        return Verdict::Wait(Duration::from_millis(left + 1));
    }
    Verdict::Change(Change::Hold(Box::new(claim_and_hold(record, crashed, now, nonce))))
}

/// Only messages that work an order hold it, and only in the run they are about.
fn concerns(record: &Record, command: &Command) -> bool {
    let works = !matches!(command.kind, CommandKind::Cancel { .. });
    let same_body = command.fp.as_ref().is_none_or(|fp| !fp.is_comparable_to(&record.fp) || *fp == record.fp);
    works && same_body && record.generation == command.generation
}

/// A claim and not a mere revision: a slow owner would take one of those at its own epoch for a new base, and a write of its
/// own that lies beneath it for not applied.
fn claim_and_hold(record: &Record, crashed: &Crashed<'_>, now: Millis, nonce: Nonce) -> Write {
    let Record { generation, epoch, rev, .. } = *record;
    let claimed = Record {
        epoch: epoch + 1,
        rev: rev + 1,
        nonce,
        owner: None,
        lease_until: 0,
        hold: None,
        ..record.clone()
    };
    let step = Some(record.step(record.cur).clone());
    let entry = Entry { at: now, what: "held".into(), step, detail: Some(crashed.reason.to_owned()) };
    Write {
        expect: Expect { generation, epoch, rev, uncancelled: false },
        next: held(claimed, crashed, now),
        owes: false,
        entries: vec![entry],
    }
}

fn insert_held(crashed: &Crashed<'_>, policy: &Policy, now: Millis, nonce: Nonce) -> Option<Record> {
    let (CommandKind::Place { .. }, Some(fp)) = (&crashed.command.kind, &crashed.command.fp) else {
        return None;
    };
    let first = Record::first(fp.clone(), policy.step_names(), WorkerId(String::new()), 0, nonce);
    // Nobody has called a step, or will: who has not inserted the order meets this one.
    Some(held(Record { owner: None, hi: 0, ..first }, crashed, now))
}

/// The hold's id has the revision in it: a person's decision must not hit a later hold by the same message.
fn held(record: Record, crashed: &Crashed<'_>, now: Millis) -> Record {
    let hold = Hold {
        id: dead_letter_id(&crashed.command.order_id, record.generation, record.rev),
        step: record.step(record.cur).clone(),
        reason: crashed.reason.to_owned(),
        at: now,
    };
    Record { hold: Some(hold), ..record }
}

#[cfg(test)]
mod tests;
