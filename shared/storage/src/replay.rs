//! Replays: which dead letters a person chose, and what became of each. What is chosen is frozen here, so that a replay that
//! is interrupted goes on with the same ones.

mod schema;

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{self, Bson, DateTime, Document, RawDocumentBuf, doc};
use orderfleet_domain::{OrderId, saga::Millis};
use serde::{Deserialize, Serialize};

pub(crate) use schema::{indexes, item_validator, validator};

use crate::{Store, StoreError, document::timestamp, store::REPLAYS};

/// Items inserted, or read, by one call.
const ITEMS_PER_CALL: usize = 500;

/// A replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Its id.
    pub id: String,
    /// Who began it.
    pub who: String,
    /// Why.
    pub why: String,
    /// What was chosen, as it was asked for.
    pub selection: String,
    /// How many dead letters that were.
    pub items: u32,
    /// Whether it is over.
    pub state: ReplayState,
    /// How many items were done when it stopped last because too large a share had failed.
    pub done_at_stop: u32,
    /// How many had failed then.
    pub failed_at_stop: u32,
    /// When it began, by the clock of who began it.
    pub began_at: Timestamp,
}

/// Whether a replay is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// It goes on, or was interrupted and can be resumed.
    Open,
    /// Every item was seen to.
    Ended,
    /// It stopped by itself: too large a share failed. It can be resumed.
    Stopped,
}

/// One dead letter of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayItem {
    /// Its place in the replay, from 0.
    pub seq: u32,
    /// The dead letter.
    pub letter: String,
    /// The order it is about, where that is known.
    pub order_id: Option<OrderId>,
    /// What was planned for it, and confirmed: a text that is another one for every message that would be published.
    pub planned: String,
    /// How far it has come.
    pub state: ItemState,
    /// The run that it is to bring to an end; 0 until it is begun.
    pub generation: u32,
    /// The hold that it releases, if it does.
    pub hold: Option<String>,
    /// That hold stopped an order that was being undone: UNDONE is where it is to come to.
    pub is_undoing: bool,
    /// That run was asked for with a corrected order.
    pub is_corrected: bool,
    /// Its message is a cancel.
    pub is_cancel: bool,
    /// How often messages of its order, only cancels or all others, as it is one, had come to `orders.dead.poison` when it was
    /// begun.
    pub arrivals: u64,
    /// Its dead letter could not be closed.
    pub is_letter_left: bool,
    /// Why it is where it is, for people; no personal data.
    pub note: String,
}

/// How far a dead letter of a replay has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemState {
    /// Its turn has not come.
    Waiting,
    /// Its message may have been published; how its order ends is not known yet.
    Begun,
    /// Its order came to the end that it was to come to.
    Done,
    /// Its order failed again.
    Failed,
    /// There was nothing to publish for it.
    Refused,
}

impl ItemState {
    /// Whether nothing more comes of it.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Refused)
    }

    /// The word stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Begun => "begun",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredReplay {
    #[serde(rename = "_id")]
    id: String,
    who: String,
    why: String,
    selection: String,
    items: u32,
    state: ReplayState,
    #[serde(default)]
    done_at_stop: u32,
    #[serde(default)]
    failed_at_stop: u32,
    began_at: DateTime,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredItem {
    #[serde(rename = "_id")]
    id: String,
    replay: String,
    seq: u32,
    letter: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order_id: Option<OrderId>,
    #[serde(default)]
    planned: String,
    state: ItemState,
    #[serde(rename = "gen")]
    generation: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hold: Option<String>,
    #[serde(default)]
    is_undoing: bool,
    #[serde(default)]
    is_corrected: bool,
    #[serde(default)]
    is_cancel: bool,
    #[serde(default)]
    arrivals: u64,
    #[serde(default)]
    is_letter_left: bool,
    note: String,
    changed_at: DateTime,
}

impl Store {
    /// Freezes a replay: its items first, the replay itself last. A crash in between leaves items that nobody looks at. A
    /// second call with the same id fails.
    ///
    /// # Errors
    /// The database did not answer in time; the replay may be there all the same.
    pub async fn begin_replay(
        &self,
        replay: &Replay,
        items: &[ReplayItem],
        now: Millis,
    ) -> Result<(), StoreError> {
        for chunk in items.chunks(ITEMS_PER_CALL) {
            let documents = chunk.iter().map(|item| raw(&stored_item(&replay.id, item, now)));
            let documents = documents.collect::<Result<Vec<_>, _>>()?;
            self.call("insert replay items", self.replay_items.insert_many(documents)).await?;
        }
        let stored = raw(&stored_replay(replay))?;
        self.call("insert replay", self.replays.insert_one(stored)).await.map(drop)
    }

    /// A replay.
    ///
    /// # Errors
    /// The database did not answer in time, or the document cannot be read by this build.
    pub async fn replay(&self, id: &str) -> Result<Option<Replay>, StoreError> {
        let find = self.replays.find_one(doc! { "_id": id }).max_time(self.timeout);
        self.call("find replay", find).await?.map(|raw| read_replay(&raw)).transpose()
    }

    /// The replays that began last, newest first.
    ///
    /// # Errors
    /// As [`Store::replay`].
    pub async fn replays(&self, limit: u32) -> Result<Vec<Replay>, StoreError> {
        let find = self.replays.find(doc! {}).sort(doc! { "began_at": -1 });
        let find = find.limit(i64::from(limit)).max_time(self.timeout);
        let found: Vec<_> = self.call("find replays", async { find.await?.try_collect().await }).await?;
        found.iter().map(read_replay).collect()
    }

    /// Records that every item of a replay was seen to. A second call changes nothing.
    ///
    /// # Errors
    /// The database did not answer in time; it may be recorded all the same.
    pub async fn end_replay(&self, id: &str) -> Result<(), StoreError> {
        self.set_replay(id, doc! { "state": word(ReplayState::Ended)? }).await
    }

    /// Records that a replay has stopped because too large a share had failed, and how many were done and had failed then: who
    /// resumes it has seen those. A second call changes nothing.
    ///
    /// # Errors
    /// As [`Store::end_replay`].
    pub async fn stop_replay(&self, id: &str, done: u32, failed: u32) -> Result<(), StoreError> {
        let (done, failed) = (i64::from(done), i64::from(failed));
        let state = word(ReplayState::Stopped)?;
        self.set_replay(id, doc! { "state": state, "done_at_stop": done, "failed_at_stop": failed }).await
    }

    async fn set_replay(&self, id: &str, fields: Document) -> Result<(), StoreError> {
        let update = self.replays.update_one(doc! { "_id": id }, doc! { "$set": fields });
        self.call("end replay", update).await.map(drop)
    }

    /// Items of a replay from a place on, in their order, some hundreds at most; none is the end.
    ///
    /// # Errors
    /// As [`Store::replay`].
    pub async fn replay_items(&self, id: &str, from: u32) -> Result<Vec<ReplayItem>, StoreError> {
        let filter = doc! { "_id": { "$gte": item_id(id, from), "$lt": format!("{id}/") } };
        let find = self.replay_items.find(filter).sort(doc! { "_id": 1 });
        let find = find.limit(ITEMS_PER_CALL as i64).max_time(self.timeout);
        let found: Vec<_> = self.call("find replay items", async { find.await?.try_collect().await }).await?;
        found.iter().map(read_item).collect()
    }

    /// One item of a replay.
    ///
    /// # Errors
    /// As [`Store::replay`].
    pub async fn replay_item(&self, id: &str, seq: u32) -> Result<Option<ReplayItem>, StoreError> {
        let find = self.replay_items.find_one(doc! { "_id": item_id(id, seq) }).max_time(self.timeout);
        self.call("find replay item", find).await?.map(|raw| read_item(&raw)).transpose()
    }

    /// Records how far an item has come. A second call changes nothing.
    ///
    /// # Errors
    /// The database did not answer in time; it may be recorded all the same.
    pub async fn record_item(&self, id: &str, item: &ReplayItem, now: Millis) -> Result<(), StoreError> {
        let fields = doc! {
            "state": item.state.as_str(),
            "gen": i64::from(item.generation),
            "hold": &item.hold,
            "is_undoing": item.is_undoing,
            "is_corrected": item.is_corrected,
            "is_cancel": item.is_cancel,
            "arrivals": i64::try_from(item.arrivals).unwrap_or(i64::MAX),
            "is_letter_left": item.is_letter_left,
            "note": &item.note,
            "changed_at": DateTime::from_millis(now),
        };
        let filter = doc! { "_id": item_id(id, item.seq) };
        let update = self.replay_items.update_one(filter, doc! { "$set": fields });
        self.call("record replay item", update).await.map(drop)
    }
}

/// An item's id sorts as its place does, up to ten million.
fn item_id(replay: &str, seq: u32) -> String {
    format!("{replay}.{seq:07}")
}

fn stored_replay(replay: &Replay) -> StoredReplay {
    let replay = replay.clone();
    StoredReplay {
        id: replay.id,
        who: replay.who,
        why: replay.why,
        selection: replay.selection,
        items: replay.items,
        state: replay.state,
        done_at_stop: replay.done_at_stop,
        failed_at_stop: replay.failed_at_stop,
        began_at: DateTime::from_millis(replay.began_at.as_millisecond()),
    }
}

fn stored_item(replay: &str, item: &ReplayItem, now: Millis) -> StoredItem {
    let item = item.clone();
    StoredItem {
        id: item_id(replay, item.seq),
        replay: replay.to_owned(),
        seq: item.seq,
        letter: item.letter,
        order_id: item.order_id,
        planned: item.planned,
        state: item.state,
        generation: item.generation,
        hold: item.hold,
        is_undoing: item.is_undoing,
        is_corrected: item.is_corrected,
        is_cancel: item.is_cancel,
        arrivals: item.arrivals,
        is_letter_left: item.is_letter_left,
        note: item.note,
        changed_at: DateTime::from_millis(now),
    }
}

fn word(state: ReplayState) -> Result<Bson, StoreError> {
    bson::serialize_to_bson(&state).map_err(malformed)
}

fn raw(document: &impl Serialize) -> Result<RawDocumentBuf, StoreError> {
    bson::serialize_to_raw_document_buf(document).map_err(malformed)
}

fn read_replay(raw: &RawDocumentBuf) -> Result<Replay, StoreError> {
    let stored: StoredReplay = bson::deserialize_from_slice(raw.as_bytes()).map_err(malformed)?;
    Ok(Replay {
        id: stored.id,
        who: stored.who,
        why: stored.why,
        selection: stored.selection,
        items: stored.items,
        state: stored.state,
        done_at_stop: stored.done_at_stop,
        failed_at_stop: stored.failed_at_stop,
        began_at: timestamp(stored.began_at),
    })
}

fn read_item(raw: &RawDocumentBuf) -> Result<ReplayItem, StoreError> {
    let stored: StoredItem = bson::deserialize_from_slice(raw.as_bytes()).map_err(malformed)?;
    Ok(ReplayItem {
        seq: stored.seq,
        letter: stored.letter,
        order_id: stored.order_id,
        planned: stored.planned,
        state: stored.state,
        generation: stored.generation,
        hold: stored.hold,
        is_undoing: stored.is_undoing,
        is_corrected: stored.is_corrected,
        is_cancel: stored.is_cancel,
        arrivals: stored.arrivals,
        is_letter_left: stored.is_letter_left,
        note: stored.note,
    })
}

fn malformed(error: bson::error::Error) -> StoreError {
    StoreError::Malformed { collection: REPLAYS, source: error.into() }
}
