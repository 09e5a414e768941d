//! Which dead letters: conditions, and what they are to the database.

use jiff::Timestamp;
use mongodb::bson::{Bson, DateTime, Document, doc};
use orderfleet_domain::{AccountId, OrderId, StepName, saga::DeadLetterQueue};

use super::{
    letter::queue_name,
    stored::{UNTOLD, untold},
};
use crate::document::date;

/// A choice of dead letters. Unless a condition in it speaks of their state, only open ones are chosen: those that nobody has
/// replayed or discarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LetterFilter {
    /// All of these. None of them chooses every letter.
    And(Vec<LetterFilter>),
    /// At least one of these. None of them chooses no letter.
    Or(Vec<LetterFilter>),
    /// Not this.
    Not(Box<LetterFilter>),
    /// Those with this property.
    With(Condition),
}

/// A property of dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It came to this queue.
    Queue(DeadLetterQueue),
    /// Its failure fingerprint is this one, or begins like this.
    Fingerprint(String),
    /// It failed at this step.
    Step(StepName),
    /// Its class is this word.
    Class(String),
    /// It is about an order of this account.
    Account(AccountId),
    /// This build gave it up.
    Build(String),
    /// Its message asks for this.
    Kind(String),
    /// It is about one of these orders.
    Order(Vec<OrderId>),
    /// It is one of these.
    Id(Vec<String>),
    /// It was parked first before this time.
    Before(Timestamp),
    /// It was parked first at this time or later.
    Since(Timestamp),
    /// What has been done about it.
    State(LetterState),
}

/// Whether something has been done about a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterState {
    /// Nothing.
    Open,
    /// It was replayed or discarded.
    Ended,
    /// Either.
    Any,
}

impl LetterFilter {
    /// Every open dead letter.
    #[must_use]
    pub fn all() -> Self {
        Self::And(Vec::new())
    }

    /// These dead letters, by their ids.
    #[must_use]
    pub fn ids(ids: impl IntoIterator<Item = String>) -> Self {
        Self::With(Condition::Id(ids.into_iter().collect()))
    }

    /// Those of this choice that another one chooses, too.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::And(vec![self, other])
    }

    /// The open ones of this choice, also where it speaks of others.
    #[must_use]
    pub fn open(self) -> Self {
        if self.speaks_of_state() { self.and(Self::With(Condition::State(LetterState::Open))) } else { self }
    }

    fn speaks_of_state(&self) -> bool {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::speaks_of_state),
            Self::Not(part) => part.speaks_of_state(),
            Self::With(condition) => matches!(condition, Condition::State(_)),
        }
    }

    /// The database's filter. The indexes of open letters serve what has `ended: null` in it, and a bound for the field that
    /// all of them have.
    pub(super) fn document(&self) -> Document {
        if self.speaks_of_state() {
            return self.matching();
        }
        let open = doc! { "ended": null, "first_seen": { "$gte": DateTime::MIN } };
        doc! { "$and": [open, self.matching()] }
    }

    /// As [`LetterFilter::document`], of letters open or not, unless a condition speaks of that.
    pub(super) fn matching(&self) -> Document {
        let all = |parts: &[Self]| parts.iter().map(Self::matching).collect::<Vec<_>>();
        match self {
            Self::And(parts) if parts.is_empty() => Document::new(),
            Self::And(parts) => doc! { "$and": all(parts) },
            Self::Or(parts) if parts.is_empty() => doc! { "_id": { "$in": [] } },
            Self::Or(parts) => doc! { "$or": all(parts) },
            Self::Not(part) => doc! { "$nor": [part.matching()] },
            Self::With(condition) => condition.matching(),
        }
    }
}

impl Default for LetterFilter {
    fn default() -> Self {
        Self::all()
    }
}

impl Condition {
    fn matching(&self) -> Document {
        match self {
            Self::Queue(queue) => doc! { "queue": queue_name(queue) },
            // Base32 ends with `z`; `{` comes next.
            Self::Fingerprint(start) => {
                let range = doc! { "fingerprint": { "$gte": start, "$lt": format!("{start}{{") } };
                match untold().as_str().starts_with(start) {
                    true => doc! { "$or": [range, { "fingerprint": null }] },
                    false => range,
                }
            }
            Self::Step(step) => doc! { "step": step.as_str() },
            Self::Class(class) if class == UNTOLD.as_str() => {
                doc! { "class": { "$in": [class, Bson::Null] } }
            }
            Self::Class(class) => doc! { "class": class },
            Self::Account(account) => doc! { "account": account.as_str() },
            Self::Build(build) => doc! { "build": build },
            Self::Kind(kind) => doc! { "kind": kind },
            Self::Order(ids) => {
                doc! { "order_id": { "$in": ids.iter().map(OrderId::as_str).collect::<Vec<_>>() } }
            }
            Self::Id(ids) => doc! { "_id": { "$in": ids } },
            Self::Before(at) => doc! { "first_seen": { "$lt": date(*at) } },
            Self::Since(at) => doc! { "first_seen": { "$gte": date(*at) } },
            Self::State(LetterState::Open) => doc! { "ended": null },
            Self::State(LetterState::Ended) => doc! { "ended": { "$ne": null } },
            Self::State(LetterState::Any) => Document::new(),
        }
    }
}
