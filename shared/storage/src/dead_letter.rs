//! Dead letters where people find them: one document each, complete enough to publish its message again, and told apart by
//! what failed.

mod corrections;
mod filter;
mod leasing;
mod letter;
mod listing;
mod schema;
mod stats;
mod stored;

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{self, Bson, DateTime, Document, doc};
use orderfleet_domain::{
    AccountId, OrderId, StepName,
    failure::Failure,
    saga::{DeadLetterQueue, Millis},
};
use serde::Deserialize;

pub use corrections::CorrectedLetter;
pub use filter::{Condition, LetterFilter, LetterState};
pub use leasing::Leased;
pub use letter::{Attempt, Content, Ended, How, Lease, Letter, LetterCursor, queue_of_word, queue_word};
pub use listing::{LETTERS_MAX, LetterPage};
pub use stats::{GROUPS_MAX, LetterGroup, LetterStats};

pub(crate) use letter::UNREAD;
pub(crate) use schema::{indexes, validator};
pub(crate) use stored::known;

use crate::{Store, StoreError, document::timestamp};
use letter::queue_name;
use stored::{attempts, body, headers};

/// The kind of message that can create an order's document.
const PLACE: &str = "place";
/// The kind that works no order.
const CANCEL: &str = "cancel";

/// A message that was taken from a dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id: another arrival of the same dead letter has the same.
    pub id: String,
    /// The queue it came to.
    pub queue: DeadLetterQueue,
    /// The order it is about, where its body tells.
    pub subject: Option<Subject>,
    /// What the message asks for, its AMQP type.
    pub kind: String,
    /// Why it is here, for people; no personal data.
    pub reason: String,
    /// What failed.
    pub failure: Failure,
    /// The build that gave it up, where a worker did.
    pub build: Option<String>,
    /// The trace that the order's request began.
    pub trace_id: Option<String>,
    /// What was tried in its run, oldest first.
    pub attempts: Vec<Attempt>,
    /// Its headers, apart from those that only make it a dead letter.
    pub headers: Vec<(String, String)>,
    /// Its body, as it came. A document has room for 16 MiB; no producer takes more than 8.
    pub body: Vec<u8>,
}

/// The order that a dead letter is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The order.
    pub order_id: OrderId,
    /// Whose it is.
    pub account: AccountId,
    /// The run the message is about.
    pub generation: u32,
}

/// An accepted order that has no document, or none yet: its message was parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedOrder {
    /// Why it was parked.
    pub reason: String,
    /// When it was parked first.
    pub parked_at: Timestamp,
}

impl Store {
    /// Stores a dead letter, majority-committed, and says whether it is here for the first time. One that is here already
    /// stays as it is; only its arrivals are counted, a repeat after a lost answer among them. A crash leaves the dead
    /// letter stored or not, and in its queue.
    ///
    /// In `orders.dead.poison` a message that fails again comes under its old id. There an arrival opens a dead letter again
    /// that was replayed or discarded, and takes it out of the hands of whoever is about to close it: better seen twice than
    /// not at all.
    ///
    /// # Errors
    /// The database did not answer in time, and the dead letter may be stored all the same; or it refuses the document.
    pub async fn park(&self, letter: &DeadLetter, now: Millis) -> Result<bool, StoreError> {
        let id = id(letter);
        let upsert = self.dead_letters.update_one(doc! { "_id": &id }, arrival(letter, now)).upsert(true);
        let is_new = self.call("park", upsert).await?.upserted_id.is_some();
        if !is_new && letter.queue == DeadLetterQueue::Poison {
            self.open_again(&id).await?;
        }
        Ok(is_new)
    }

    /// Opens a dead letter that was replayed or discarded, or is about to be: whoever has it in hand cannot close it any more
    /// without another look. A second call takes it out of hands once more.
    pub(crate) async fn open_again(&self, id: &str) -> Result<(), StoreError> {
        let open = doc! { "$set": { "ended": Bson::Null, "lease": Bson::Null } };
        self.call("open a dead letter", self.dead_letters.update_one(doc! { "_id": id }, open))
            .await
            .map(drop)
    }

    /// How often messages of an order, only its cancels or all others, have come to `orders.dead.poison`: when it grows, one
    /// has failed there since. It may also grow by an arrival that is repeated after a lost answer.
    ///
    /// # Errors
    /// The database did not answer in time, or a document cannot be read by this build.
    pub async fn poison_arrivals(&self, order_id: &OrderId, of_cancels: bool) -> Result<u64, StoreError> {
        let comparison = if of_cancels { "$eq" } else { "$ne" };
        let filter = doc! {
            "_id": of_order(order_id),
            "queue": queue_name(&DeadLetterQueue::Poison),
            "kind": { comparison: CANCEL },
        };
        let find = self.dead_letters.find(filter).projection(doc! { "seen": 1 }).sort(doc! { "_id": 1 });
        let find = find.limit(i64::from(LETTERS_MAX)).max_time(self.timeout);
        let found: Vec<_> = self.call("find", async { find.await?.try_collect().await }).await?;
        let seen = found.iter().map(|raw| bson::deserialize_from_slice::<Seen>(raw.as_bytes()));
        seen.map(|seen| Ok(seen.map_err(stored::malformed)?.seen)).sum()
    }

    /// An account's order of which only a dead letter in `orders.dead.poison` is known: one that no worker can read, that
    /// the database refuses, or that is about to be inserted. Ask only for an order that has no document: with one, the
    /// document alone says where the order stands.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn find_parked(
        &self,
        order_id: &OrderId,
        account: &AccountId,
    ) -> Result<Option<ParkedOrder>, StoreError> {
        let filter = doc! {
            "_id": of_order(order_id),
            "account": account.as_str(),
            "queue": queue_name(&DeadLetterQueue::Poison),
            "kind": PLACE,
        };
        let find = self
            .dead_letters
            .find_one(filter)
            .sort(doc! { "_id": 1 })
            .projection(doc! { "reason": 1, "first_seen": 1 })
            .max_time(self.timeout);
        let Some(raw) = self.call("find", find).await? else { return Ok(None) };
        let stored: StoredParking = bson::deserialize_from_slice(raw.as_bytes())
            .map_err(|source| StoreError::Unreadable { order_id: order_id.clone(), source: source.into() })?;
        Ok(Some(ParkedOrder { reason: stored.reason, parked_at: timestamp(stored.first_seen) }))
    }
}

#[derive(Deserialize)]
struct Seen {
    seen: u64,
}

#[derive(Deserialize)]
struct StoredParking {
    reason: String,
    first_seen: DateTime,
}

/// The document's id begins with that of the order, where one is known: an order's dead letters are one range, and they
/// are stored in the zone of its region.
pub(crate) fn id(letter: &DeadLetter) -> String {
    let own = |subject: &Subject| letter.id.starts_with(&format!("{}.", subject.order_id));
    match &letter.subject {
        Some(subject) if !own(subject) => format!("{}.{}", subject.order_id, letter.id),
        _ => letter.id.clone(),
    }
}

/// The ids of an order's dead letters: a range, so that on a sharded cluster it meets the order's shard alone.
fn of_order(order_id: &OrderId) -> Document {
    doc! { "$gte": format!("{order_id}."), "$lt": format!("{order_id}/") }
}

/// What an arrival makes of the document, or inserts.
pub(crate) fn arrival(letter: &DeadLetter, now: Millis) -> Document {
    doc! {
        "$setOnInsert": fields(letter, now),
        "$max": { "last_seen": DateTime::from_millis(now) },
        "$inc": { "seen": 1_i64 },
    }
}

fn fields(letter: &DeadLetter, now: Millis) -> Document {
    let failure = &letter.failure;
    let mut fields = doc! {
        "queue": queue_name(&letter.queue),
        "kind": &letter.kind,
        "reason": &letter.reason,
        "class": failure.class.as_str(),
        "answer": failure.answer(),
        "fingerprint": failure.fingerprint().as_str(),
        "attempts": attempts(&letter.attempts),
        "headers": headers(&letter.headers),
        "body": body(&letter.body),
        "size": i64::try_from(letter.body.len()).unwrap_or(i64::MAX),
        "first_seen": DateTime::from_millis(now),
        "ended": Bson::Null,
        "lease": Bson::Null,
    };
    fields.extend(known([
        ("step", failure.step.as_ref().map(StepName::as_str)),
        ("code", failure.code.as_deref()),
        ("build", letter.build.as_deref()),
        ("trace_id", letter.trace_id.as_deref()),
    ]));
    if let Some(Subject { order_id, account, generation }) = &letter.subject {
        fields.extend(doc! {
            "order_id": order_id.as_str(),
            "account": account.as_str(),
            "gen": i64::from(*generation),
        });
    }
    fields
}
