//! One acceptance, judged.

use jiff::Timestamp;
use orderfleet_domain::{AccountId, Fingerprint, OrderId, saga::Phase};
use orderfleet_storage::Standing;
use serde::Serialize;

use super::Acceptance;

/// What became of an acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Every step took effect once.
    Done,
    /// Its net effect is zero on every step.
    Undone,
    /// It waits for a person.
    Held,
    /// A dead letter holds it, open or given up.
    Parked,
    /// Another body came first under its key; it is recorded, and never executed.
    Conflict,
    /// It is being worked, or waits to be.
    InFlight,
    /// It has a document that this build cannot read.
    Unreadable,
    /// No trace of it yet: it may be in a queue.
    NotSeenYet,
    /// No trace of it, and no queue for it to be in.
    Unaccounted,
    /// Another body has its document, nothing was recorded of it, and there is no queue for it to be in.
    Wrong,
}

impl Class {
    /// All of them, in the order they are shown.
    pub const ALL: [Self; 10] = [
        Self::Done,
        Self::Undone,
        Self::Held,
        Self::Parked,
        Self::Conflict,
        Self::InFlight,
        Self::Unreadable,
        Self::NotSeenYet,
        Self::Unaccounted,
        Self::Wrong,
    ];

    /// The word used in lists and by programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Undone => "undone",
            Self::Held => "held",
            Self::Parked => "parked",
            Self::Conflict => "conflict",
            Self::InFlight => "in_flight",
            Self::Unreadable => "unreadable",
            Self::NotSeenYet => "not_seen_yet",
            Self::Unaccounted => "unaccounted",
            Self::Wrong => "wrong",
        }
    }
}

/// One acceptance, judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The order.
    pub order_id: OrderId,
    /// Whose it is.
    pub account: AccountId,
    /// The accepted body's fingerprint.
    pub fingerprint: Fingerprint,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// What became of it.
    #[serde(rename = "standing")]
    pub class: Class,
    /// What else is known, without blanks; may be empty.
    pub detail: String,
}

impl Finding {
    pub(super) fn new(acceptance: &Acceptance, class: Class) -> Self {
        let Acceptance { order_id, fp, account, accepted_at } = acceptance.clone();
        Self { order_id, account, fingerprint: fp, accepted_at, class, detail: String::new() }
    }

    /// As the database tells it.
    pub(super) fn of(acceptance: &Acceptance, standing: &Standing) -> Self {
        let (class, detail) = told(standing);
        Self { detail, ..Self::new(acceptance, class) }
    }
}

fn told(standing: &Standing) -> (Class, String) {
    match standing {
        Standing::Ended(end) => {
            let class = if end.phase == Phase::Done { Class::Done } else { Class::Undone };
            let words = [(end.is_final, "final"), (end.owes, "event_owed")];
            let words: Vec<_> = words.into_iter().filter_map(|(is, word)| is.then_some(word)).collect();
            (class, words.join(","))
        }
        Standing::UnderWay(way) => {
            let owner = way.owner.as_ref().map(|owner| format!(",owner={}", owner.0)).unwrap_or_default();
            let due = way.due_at.map(|at| format!(",due={at}")).unwrap_or_default();
            (Class::InFlight, format!("{}{owner}{due}", way.phase.as_str()))
        }
        Standing::Held { step } => (Class::Held, format!("step={step}")),
        Standing::Parked { is_discarded: false } => (Class::Parked, String::new()),
        Standing::Parked { is_discarded: true } => (Class::Parked, "discarded".into()),
        Standing::Conflict => (Class::Conflict, String::new()),
        Standing::Unreadable => (Class::Unreadable, String::new()),
        Standing::Unknown | Standing::OtherBody => (Class::NotSeenYet, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_own_word_also_as_json() {
        for class in Class::ALL {
            assert_eq!(serde_json::to_string(&class).unwrap(), format!("{:?}", class.as_str()));
        }
    }
}
