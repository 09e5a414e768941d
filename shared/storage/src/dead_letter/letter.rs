//! A dead letter as it is read back: what is known of it, and apart from that its content, which holds personal data.

use jiff::Timestamp;
use mongodb::bson::DateTime;
use orderfleet_domain::{
    AccountId, FailureFingerprint, Order, OrderId, StepName,
    saga::{DeadLetterQueue, Entry},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::document::timestamp;

const QUEUE_PREFIX: &str = "orders.dead.";
/// A part of the ids of letters whose messages nobody has read.
pub(crate) const UNREAD: &str = "unread";

/// A dead letter without its content. As JSON it has no personal data in it, unless a downstream's answer repeats some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Its id. It begins with that of its order, if that is known.
    pub id: String,
    /// The queue it came to; as JSON the last part of its name.
    #[serde(serialize_with = "to_word", deserialize_with = "from_word")]
    pub queue: DeadLetterQueue,
    /// The order it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<OrderId>,
    /// Whose that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// The run it is about.
    #[serde(default, rename = "gen", skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// What the message asks for.
    pub kind: String,
    /// Why it is here, as the worker said that sent it.
    pub reason: String,
    /// The step that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepName>,
    /// What kind of failure, a word of [`orderfleet_domain::failure::FailureClass`] or of a newer build.
    pub class: String,
    /// The downstream's own word for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The downstream's answer, or the reason; at most 512 characters.
    pub answer: String,
    /// What failures alike have in common.
    #[serde(rename = "failure_fingerprint", alias = "fingerprint")]
    pub fingerprint: FailureFingerprint,
    /// The build that gave it up, where a worker did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// The trace that the order's request began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// What was tried in its run, oldest first.
    pub attempts: Vec<Attempt>,
    /// Size of its body in bytes.
    pub size: u64,
    /// When it was parked first.
    pub first_seen: Timestamp,
    /// When it arrived last.
    pub last_seen: Timestamp,
    /// How often it arrived.
    pub seen: u64,
    /// What a person has done about it; `None` while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// Who has it in hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
}

/// One thing that was tried, from the order's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When.
    pub at: Timestamp,
    /// What came of it, the history's word for it.
    pub what: String,
    /// At which step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepName>,
    /// The rest, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// How a dead letter was dealt with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// What was done.
    pub how: How,
    /// By whom.
    pub by: String,
    /// For which reason.
    pub why: String,
    /// When, by the clock of who did it.
    pub at: Timestamp,
    /// The replay, or the act in the operator log, that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
}

/// What was done about a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Its order was asked to go on.
    Replayed,
    /// It was given up.
    Discarded,
}

impl How {
    /// The word stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }
}

/// Who has a dead letter in hand, and until when others leave it to him.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who: a name that no other job has.
    pub holder: String,
    /// Until when.
    pub until: Timestamp,
}

/// What a dead letter holds: personal data.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// The message's headers, apart from those that only made it a dead letter.
    pub headers: Vec<(String, String)>,
    /// The message's body, as it came.
    pub body: Vec<u8>,
    /// The order as a person corrected it, for the next run.
    pub correction: Option<Order>,
}

impl std::fmt::Debug for Content {
    /// Not derived: it would print an address.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        out.debug_struct("Content")
            .field("headers", &names)
            .field("body_bytes", &self.body.len())
            .field("is_corrected", &self.correction.is_some())
            .finish()
    }
}

impl Content {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// A place in a list of dead letters, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterCursor {
    /// When the letter at this place was parked first.
    pub first_seen: Timestamp,
    /// Its id.
    pub id: String,
}

impl Letter {
    /// The last part of its queue's name: a step, or `poison`, `held`, `conflict`.
    #[must_use]
    pub fn queue_name(&self) -> String {
        queue_word(&self.queue).to_owned()
    }

    /// Whether it was stored without a look into its message, since workers ended over that: whoever reads the message may end,
    /// too.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.id.split('.').any(|part| part == UNREAD)
    }

    /// Its place in a list.
    #[must_use]
    pub fn cursor(&self) -> LetterCursor {
        LetterCursor { first_seen: self.first_seen, id: self.id.clone() }
    }
}

/// The last part of the name of a queue of dead letters.
#[must_use]
pub fn queue_word(queue: &DeadLetterQueue) -> &str {
    match queue {
        DeadLetterQueue::Step(step) => step.as_str(),
        DeadLetterQueue::Poison => "poison",
        DeadLetterQueue::Held => "held",
        DeadLetterQueue::Conflict => "conflict",
    }
}

/// The queue of dead letters of this name, or last part of a name.
#[must_use]
pub fn queue_of_word(word: &str) -> Option<DeadLetterQueue> {
    match word.strip_prefix(QUEUE_PREFIX).unwrap_or(word) {
        "poison" => Some(DeadLetterQueue::Poison),
        "held" => Some(DeadLetterQueue::Held),
        "conflict" => Some(DeadLetterQueue::Conflict),
        step => step.parse().ok().map(DeadLetterQueue::Step),
    }
}

/// The queue's name on a broker where fleets have no prefix.
pub(crate) fn queue_name(queue: &DeadLetterQueue) -> String {
    format!("{QUEUE_PREFIX}{}", queue_word(queue))
}

pub(super) fn to_word<S: Serializer>(queue: &DeadLetterQueue, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(queue_word(queue))
}

fn from_word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DeadLetterQueue, D::Error> {
    let word = String::deserialize(deserializer)?;
    queue_of_word(&word).ok_or_else(|| D::Error::custom("no queue of dead letters"))
}

impl From<&Entry> for Attempt {
    fn from(entry: &Entry) -> Self {
        let Entry { at, what, step, detail } = entry.clone();
        Self { at: timestamp(DateTime::from_millis(at)), what, step, detail }
    }
}
