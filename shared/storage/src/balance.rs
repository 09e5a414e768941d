//! Where accepted orders stand, many at a time: what an audit balances acceptances against.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{self, DateTime, Document, RawDocument, doc};
use orderfleet_domain::{
    AccountId, Fingerprint, OrderId, StepName,
    saga::{Phase, WorkerId},
};
use serde::Deserialize;

use crate::{How, Store, StoreError, document::timestamp, failure::describe_bson};

/// Orders asked for by one call.
const ORDERS_PER_CALL: usize = 1_000;
/// Ranges of dead letters asked for by one call: the server makes a plan for each.
const RANGES_PER_CALL: usize = 100;
/// The kind of message that holds a posted order.
const PLACE: &str = "place";

/// Where an accepted body stands: an order's id and the fingerprint that was answered with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Its last run has ended.
    Ended(RunEnd),
    /// It is being done or undone, or waits to be.
    UnderWay(UnderWay),
    /// It waits for a person.
    Held {
        /// Where it stands.
        step: StepName,
    },
    /// It has no document; a dead letter holds it.
    Parked {
        /// A person has given it up.
        is_discarded: bool,
    },
    /// Another body came first under the same key. This one is recorded and never executed.
    Conflict,
    /// The document is another body's, and nothing tells that this one was ever seen: it may be in a queue.
    OtherBody,
    /// Neither a document nor a dead letter, or one that was replayed: it may be in a queue.
    Unknown,
    /// There is a document, which this build cannot read.
    Unreadable,
}

/// How an order's last run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// Whose order it is.
    pub account: AccountId,
    /// The run.
    pub generation: u32,
    /// DONE or UNDONE.
    pub phase: Phase,
    /// No further run.
    pub is_final: bool,
    /// Revision of the document.
    pub rev: u64,
    /// Its terminal event is still owed.
    pub owes: bool,
}

/// An order that is being worked, or waits to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderWay {
    /// RUN or COMP.
    pub phase: Phase,
    /// Who claimed it last.
    pub owner: Option<WorkerId>,
    /// When its next try is due.
    pub due_at: Option<Timestamp>,
    /// When it was last written, by the database's clock.
    pub updated_at: Timestamp,
}

impl Store {
    /// Where these stand, in the same order, as last majority-committed. Any number of them: they are asked for by at most 1,000
    /// ids at a time, and each call meets the shards of its ids alone. What was read is kept until all are answered, some
    /// hundred bytes for each.
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn standings(
        &self,
        accepted: &[(&OrderId, &Fingerprint)],
    ) -> Result<Vec<Standing>, StoreError> {
        let mut standings = Vec::with_capacity(accepted.len());
        for batch in accepted.chunks(ORDERS_PER_CALL) {
            let found = self.documents_of(batch).await?;
            let doubtful = batch.iter().filter_map(|(id, fp)| doubtful(id, fp, found.get(*id)));
            let letters = self.letters_of(doubtful.collect()).await?;
            standings.extend(batch.iter().map(|(id, fp)| standing(id, fp, found.get(*id), &letters)));
        }
        Ok(standings)
    }

    /// The documents by their ids; `None` for one that cannot be read.
    async fn documents_of(
        &self,
        batch: &[(&OrderId, &Fingerprint)],
    ) -> Result<HashMap<OrderId, Option<Stood>>, StoreError> {
        let ids: Vec<_> = batch.iter().map(|(id, _)| id.as_str()).collect();
        let fields = doc! {
            "account": 1, "fp": 1, "gen": 1, "final": 1, "phase": 1, "rev": 1, "hold.step": 1, "owner": 1, "due_at": 1,
            "evp": 1, "conflicts.fp": 1, "updated_at": 1,
        };
        let find = self.orders.find(doc! { "_id": { "$in": ids } }).projection(fields).max_time(self.timeout);
        let found: Vec<_> = self.call("balance", async { find.await?.try_collect().await }).await?;
        Ok(found.iter().filter_map(|raw| read(raw)).collect())
    }

    /// The dead letters that hold a posted order and match one of the filters.
    async fn letters_of(&self, filters: Vec<Document>) -> Result<Letters, StoreError> {
        let mut letters = Letters::default();
        for filters in filters.chunks(RANGES_PER_CALL) {
            let filter = doc! { "kind": PLACE, "$or": filters.to_vec() };
            let fields = doc! { "ended.how": 1 };
            let find = self.dead_letters.find(filter).projection(fields).max_time(self.timeout);
            let found: Vec<_> = self.call("balance", async { find.await?.try_collect().await }).await?;
            found.iter().for_each(|raw| letters.add(raw));
        }
        Ok(letters)
    }
}

/// What dead letters tell of orders.
#[derive(Debug, Default)]
struct Letters {
    /// Their ids.
    ids: HashSet<String>,
    /// The orders that they hold, by id, and whether each was given up: those that were replayed hold none any more.
    held: HashMap<String, bool>,
}

impl Letters {
    fn add(&mut self, raw: &RawDocument) {
        let Ok(id) = raw.get_str("_id") else { return };
        self.ids.insert(id.to_owned());
        let ended = raw.get_document("ended").ok();
        let how = ended.and_then(|ended| ended.get_str("how").ok());
        if how != Some(How::Replayed.as_str()) {
            let order = id.split('.').next().unwrap_or(id).to_owned();
            // One that is still open holds its order, whatever was done about others.
            let is_discarded = self.held.entry(order).or_insert(true);
            *is_discarded &= how.is_some();
        }
    }
}

/// What of a document an audit looks at.
#[derive(Debug, Deserialize)]
struct Stood {
    account: AccountId,
    fp: Fingerprint,
    #[serde(rename = "gen")]
    generation: u32,
    #[serde(rename = "final")]
    is_final: bool,
    phase: Phase,
    rev: u64,
    hold: Option<HeldAt>,
    owner: Option<WorkerId>,
    due_at: Option<DateTime>,
    evp: bool,
    conflicts: Vec<OtherFingerprint>,
    updated_at: DateTime,
}

#[derive(Debug, Deserialize)]
struct HeldAt {
    step: StepName,
}

#[derive(Debug, Deserialize)]
struct OtherFingerprint {
    fp: Fingerprint,
}

impl Stood {
    /// Whether it is this body's document, as far as fingerprints of different versions can tell.
    fn is_of(&self, fp: &Fingerprint) -> bool {
        !fp.is_comparable_to(&self.fp) || *fp == self.fp
    }

    fn has_noted(&self, fp: &Fingerprint) -> bool {
        self.conflicts.iter().any(|conflict| conflict.fp == *fp)
    }

    fn standing(&self) -> Standing {
        let Self { generation, is_final, phase, rev, evp: owes, .. } = *self;
        match &self.hold {
            Some(HeldAt { step }) => Standing::Held { step: step.clone() },
            None if phase.is_terminal() => {
                let account = self.account.clone();
                Standing::Ended(RunEnd { account, generation, phase, is_final, rev, owes })
            }
            None => Standing::UnderWay(UnderWay {
                phase,
                owner: self.owner.clone(),
                due_at: self.due_at.map(timestamp),
                updated_at: timestamp(self.updated_at),
            }),
        }
    }
}

fn read(raw: &RawDocument) -> Option<(OrderId, Option<Stood>)> {
    let id: OrderId = raw.get_str("_id").ok()?.parse().ok()?;
    let stood = bson::deserialize_from_slice(raw.as_bytes());
    let stood = stood.inspect_err(|error| {
        tracing::error!(order.id = %id, error = describe_bson(error), "the order's document cannot be read");
    });
    Some((id, stood.ok()))
}

/// The filter for the dead letters that could tell more about a body, where its document does not: all of an order that has
/// none, and the one of a conflict, whose note may have been pushed out by newer ones.
fn doubtful(id: &OrderId, fp: &Fingerprint, found: Option<&Option<Stood>>) -> Option<Document> {
    match found {
        None => Some(doc! { "_id": { "$gte": format!("{id}."), "$lt": format!("{id}/") } }),
        Some(Some(stood)) if !stood.is_of(fp) && !stood.has_noted(fp) => {
            Some(doc! { "_id": conflict_letter(id, fp) })
        }
        Some(_) => None,
    }
}

fn standing(id: &OrderId, fp: &Fingerprint, found: Option<&Option<Stood>>, letters: &Letters) -> Standing {
    match found {
        None => letters
            .held
            .get(id.as_str())
            .map_or(Standing::Unknown, |&is_discarded| Standing::Parked { is_discarded }),
        Some(None) => Standing::Unreadable,
        Some(Some(stood)) if stood.is_of(fp) => stood.standing(),
        Some(Some(stood)) if stood.has_noted(fp) => Standing::Conflict,
        Some(Some(_)) if letters.ids.contains(&conflict_letter(id, fp)) => Standing::Conflict,
        Some(Some(_)) => Standing::OtherBody,
    }
}

/// The dead letter's id, as the saga core makes it for a conflict.
fn conflict_letter(id: &OrderId, fp: &Fingerprint) -> String {
    format!("{id}.{fp}")
}
