//! What the checker says: how orders ended, and every promise that was broken.

use std::collections::BTreeMap;

use serde::Serialize;

/// The kind of a broken promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// An accepted order, or a message about one, is gone.
    Lost,
    /// Something took effect more than once.
    Duplicated,
    /// An order ended, or stands still, with some of its steps in effect and others not.
    HalfDone,
    /// Anything else that must not be.
    Unexpected,
}

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Violation {
    /// Its kind.
    pub class: Class,
    /// The rule, in words.
    pub rule: &'static str,
    /// The order, queue or article it is about.
    pub about: String,
    /// What was found.
    pub found: String,
}

/// How the orders ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Bodies posted under a key, however often.
    pub attempted: usize,
    /// Of these, answered 202.
    pub accepted: usize,
    /// Accepted, and each step took effect once.
    pub done: usize,
    /// Accepted, and without any net effect.
    pub undone: usize,
    /// Accepted, and waiting for a person.
    pub held: usize,
    /// Accepted, and recorded as a second body under its key.
    pub conflict: usize,
    /// Executed or undone although no 202 ever reached the client.
    pub recovered: usize,
}

/// The checker's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// How the orders ended.
    #[serde(flatten)]
    pub counts: Counts,
    /// Broken promises by kind; all four are always there.
    pub broken: BTreeMap<Class, usize>,
    /// Every broken promise.
    pub violations: Vec<Violation>,
}

impl Verdict {
    pub(super) fn new(counts: Counts, mut violations: Vec<Violation>) -> Self {
        violations.sort();
        let mut broken: BTreeMap<_, _> = [Class::Lost, Class::Duplicated, Class::HalfDone, Class::Unexpected]
            .map(|class| (class, 0))
            .into();
        for violation in &violations {
            *broken.entry(violation.class).or_default() += 1;
        }
        Self { counts, broken, violations }
    }

    /// Whether no promise was broken.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// How many promises of a kind were broken.
    #[must_use]
    pub fn of(&self, class: Class) -> usize {
        self.broken.get(&class).copied().unwrap_or_default()
    }
}

/// Collects violations; the four classes read as verbs at the place of a rule.
pub(super) trait Report {
    fn found(&mut self, class: Class, rule: &'static str, about: &str, found: impl Into<String>);
}

impl Report for Vec<Violation> {
    fn found(&mut self, class: Class, rule: &'static str, about: &str, found: impl Into<String>) {
        self.push(Violation { class, rule, about: about.to_owned(), found: found.into() });
    }
}
