//! The saga core's effects on an order's document. Every filter names the `_id`, so that each call, or each member of a group of
//! writes, meets one shard.

use jiff::Timestamp;
use mongodb::{
    bson::{
        self, Bson, DateTime, Document, RawArrayBuf, RawBson, RawDocument, RawDocumentBuf, cstr, doc, rawdoc,
    },
    options::{ReadConcern, ReturnDocument, UpdateModifications},
};
use orderfleet_domain::{
    AccountId, Fingerprint, Order, OrderId,
    saga::{Claim, DOCUMENT_VERSION, Entry, Millis, Note, Phase, Record, StoreReply, Write},
};
use serde::Deserialize;

use crate::{
    Store, claim,
    document::{CONFLICTS_MAX, Deciding, HISTORY_MAX, NewDocument, Pinned, Shared, StoredEntry, date},
    failure::{describe_bson, is_duplicate, refusal, reply},
    group::Answer,
    reading::{self, AtHand},
};

impl Store {
    /// Inserts the document of an order seen for the first time: `Applied`, `Exists` (also when it is this insert's own
    /// earlier try), `Unknown` or `Refused`.
    pub async fn insert(
        &self,
        order_id: &OrderId,
        account: &AccountId,
        order: &Order,
        accepted_at: Timestamp,
        record: &Record,
    ) -> StoreReply {
        self.insert_traced(order_id, account, order, accepted_at, record, None).await
    }

    /// As [`Store::insert`], with the trace context that the order came with, for whoever looks after it later.
    pub async fn insert_traced(
        &self,
        order_id: &OrderId,
        account: &AccountId,
        order: &Order,
        accepted_at: Timestamp,
        record: &Record,
        traceparent: Option<&str>,
    ) -> StoreReply {
        let mut document = new_document(order_id, account, order, accepted_at, record);
        document.pinned.traceparent = traceparent.map(str::to_owned);
        let raw = match bson::serialize_to_raw_document_buf(&document) {
            Ok(raw) => raw,
            Err(error) => return StoreReply::Refused(refusal(&describe_bson(&error))),
        };
        match self.in_a_group(&self.inserts, order_id, record.nonce, raw.clone()).await {
            Answer::Applied => StoreReply::Applied,
            Answer::Exists => StoreReply::Exists,
            Answer::NoMatch | Answer::Alone => self.insert_alone(order_id, raw).await,
        }
    }

    async fn insert_alone(&self, order_id: &OrderId, document: RawDocumentBuf) -> StoreReply {
        match self.call("insert", self.orders.insert_one(document)).await {
            Ok(_) => StoreReply::Applied,
            Err(error) if is_duplicate(&error) => StoreReply::Exists,
            Err(error) => reply(order_id, &error),
        }
    }

    /// Claims the document: `Claimed` with the document after it, `NoMatch`, `Unknown` or `Refused`.
    ///
    /// With a claim comes the order itself, which a worker that did not insert it has to learn. A document that cannot
    /// be read is claimed with a record that is not consistent, which the core parks, and without an order.
    pub async fn claim(&self, order_id: &OrderId, claim: &Claim) -> (StoreReply, Option<AtHand>) {
        self.claim_with(order_id, claim, claim::update(claim)).await
    }

    /// As [`Store::claim`], for the claim that begins a run on an order that a person corrected. The run and the correction come
    /// into the document by one write; what was posted stays in it. A claim that misses changes nothing.
    pub async fn claim_corrected(
        &self,
        order_id: &OrderId,
        claim: &Claim,
        corrected: &Order,
    ) -> (StoreReply, Option<AtHand>) {
        match claim::update_corrected(claim, corrected) {
            Ok(update) => self.claim_with(order_id, claim, update).await,
            Err(error) => (StoreReply::Refused(refusal(&describe_bson(&error))), None),
        }
    }

    async fn claim_with(
        &self,
        order_id: &OrderId,
        claim: &Claim,
        update: Document,
    ) -> (StoreReply, Option<AtHand>) {
        let filter = claim::filter(order_id.as_str(), claim);
        let call = self.orders.find_one_and_update(filter, update).return_document(ReturnDocument::After);
        match self.call("claim", call).await {
            Ok(Some(raw)) => {
                let (record, at_hand) = reading::read(order_id, &raw);
                (StoreReply::Claimed(Box::new(record)), at_hand)
            }
            Ok(None) => (StoreReply::NoMatch, None),
            Err(error) => (reply(order_id, &error), None),
        }
    }

    /// Compare-and-set: `Applied`, `NoMatch` (also when it was applied before: read, and look for the nonce), `Unknown`
    /// or `Refused`. Leaves `cancel` alone, and `evp` unless it is to be raised; fingerprint and steps are pinned.
    pub async fn write(&self, order_id: &OrderId, write: &Write) -> StoreReply {
        let statement = match statement(order_id, write) {
            Ok(statement) => statement,
            Err(error) => return StoreReply::Refused(refusal(&describe_bson(&error))),
        };
        match self.in_a_group(&self.writes, order_id, write.next.nonce, statement.clone()).await {
            Answer::Applied => StoreReply::Applied,
            Answer::NoMatch => StoreReply::NoMatch,
            Answer::Exists | Answer::Alone => self.write_alone(order_id, &statement).await,
        }
    }

    async fn write_alone(&self, order_id: &OrderId, statement: &RawDocument) -> StoreReply {
        match bson::deserialize_from_slice(statement.as_bytes()) {
            Ok(Statement { q, u }) => self.update("write", order_id, q, u.into()).await,
            Err(error) => StoreReply::Refused(refusal(&describe_bson(&error))),
        }
    }

    /// Writes a note, which never touches rev, epoch or nonce: `Applied` (also when it was noted before), `NoMatch`,
    /// `Unknown` or `Refused`. A document of a newer version is left alone, as `NoMatch`.
    pub async fn note(&self, order_id: &OrderId, note: &Note) -> StoreReply {
        let (filter, update) = match note {
            Note::Conflict(fp) => (known(order_id), vec![conflict(fp)].into()),
            Note::Cancel => (cancel_filter(order_id), set(doc! { "cancel": true })),
            Note::CancelTooLate(at) => match too_late(*at) {
                Ok(update) => (known(order_id), update),
                Err(error) => return StoreReply::Refused(refusal(&describe_bson(&error))),
            },
            Note::Owed { generation, rev, owed } => {
                let update = if *owed { vec![raised()].into() } else { set(doc! { "evp": false }) };
                (owed_filter(order_id, *generation, *rev), update)
            }
        };
        self.update("note", order_id, filter, update).await
    }

    /// Reads the document linearizably: `Found` reflects every write that was majority-committed before the call.
    /// `Unknown` otherwise.
    pub async fn read(&self, order_id: &OrderId) -> StoreReply {
        self.read_one(order_id, doc! { "_id": order_id.as_str() }).await
    }

    /// As [`Store::read`], for a message that names an order by its id alone: an order of another account is not found.
    /// The account's tag in the id is no proof, since tags can collide.
    pub async fn read_of_account(&self, order_id: &OrderId, account: &AccountId) -> StoreReply {
        self.read_one(order_id, doc! { "_id": order_id.as_str(), "account": account.as_str() }).await
    }

    async fn read_one(&self, order_id: &OrderId, filter: Document) -> StoreReply {
        let call =
            self.orders.find_one(filter).read_concern(ReadConcern::linearizable()).max_time(self.timeout);
        match self.call("read", call).await {
            Ok(found) => StoreReply::Found(found.map(|raw| Box::new(reading::read(order_id, &raw).0))),
            Err(error) => reply(order_id, &error),
        }
    }

    async fn update(
        &self,
        operation: &'static str,
        order_id: &OrderId,
        filter: Document,
        update: UpdateModifications,
    ) -> StoreReply {
        match self.call(operation, self.orders.update_one(filter, update)).await {
            Ok(result) if result.matched_count == 0 => StoreReply::NoMatch,
            Ok(_) => StoreReply::Applied,
            Err(error) => reply(order_id, &error),
        }
    }
}

fn new_document(
    order_id: &OrderId,
    account: &AccountId,
    order: &Order,
    accepted_at: Timestamp,
    record: &Record,
) -> NewDocument {
    let now = DateTime::now();
    let pinned = Pinned {
        id: order_id.clone(),
        account: account.clone(),
        fp: record.fp.clone(),
        order: order.into(),
        steps: record.steps.clone(),
        accepted_at: date(accepted_at),
        created_at: now,
        traceparent: None,
    };
    let shared = Shared {
        cancel: record.cancel,
        evp: record.evp,
        sweeps: 0,
        sweep_due: None,
        history: Vec::new(),
        conflicts: Vec::new(),
        updated_at: now,
    };
    NewDocument { pinned, deciding: Deciding::from(record), shared }
}

/// A statement of an `update` command.
#[derive(Deserialize)]
struct Statement {
    q: Document,
    u: Document,
}

/// What a compare-and-set is on the wire. Raw, as every order is written several times.
fn statement(order_id: &OrderId, write: &Write) -> Result<RawDocumentBuf, bson::error::Error> {
    let expect = write.expect;
    let mut filter = rawdoc! {
        "_id": order_id.as_str(),
        "gen": i64::from(expect.generation),
        "epoch": bson_u64(expect.epoch),
        "rev": bson_u64(expect.rev),
    };
    if expect.uncancelled {
        filter.append(cstr!("cancel"), false);
    }
    let mut fields = bson::serialize_to_raw_document_buf(&Deciding::from(&write.next))?;
    if write.owes_anew() {
        fields.append(cstr!("sweeps"), 0_i64);
        fields.append(cstr!("sweep_due"), RawBson::Null);
    }
    if write.owes {
        fields.append(cstr!("evp"), true);
    }
    let mut update = rawdoc! { "$set": fields, "$currentDate": { "updated_at": true } };
    if !write.entries.is_empty() {
        update.append(cstr!("$push"), rawdoc! { "history": history(&write.entries)? });
    }
    Ok(rawdoc! { "q": filter, "u": update })
}

fn history(entries: &[Entry]) -> Result<RawDocumentBuf, bson::error::Error> {
    let mut each = RawArrayBuf::new();
    for entry in entries {
        each.push(bson::serialize_to_raw_document_buf(&StoredEntry::from(entry))?);
    }
    Ok(rawdoc! { "$each": each, "$slice": -HISTORY_MAX })
}

fn too_late(at: Millis) -> Result<UpdateModifications, bson::error::Error> {
    let entry = Entry { at, what: "cancel_too_late".into(), step: None, detail: None };
    let history = Document::try_from(history(&[entry])?)?;
    Ok(doc! { "$push": { "history": history } }.into())
}

/// An update pipeline, so that one call tells a fingerprint that is noted already from an order that is not there.
fn conflict(fp: &Fingerprint) -> Document {
    let noted = doc! { "$in": [fp.as_str(), "$conflicts.fp"] };
    let entry = doc! { "fp": fp.as_str(), "at": "$$NOW" };
    let appended = doc! { "$slice": [{ "$concatArrays": ["$conflicts", [entry]] }, -CONFLICTS_MAX] };
    doc! { "$set": { "conflicts": { "$cond": [noted, "$conflicts", appended] }, "updated_at": "$$NOW" } }
}

/// An order whose document this build knows how to change: what a flag means may be another thing in a newer one.
fn known(order_id: &OrderId) -> Document {
    doc! { "_id": order_id.as_str(), "sv": { "$lte": i64::from(DOCUMENT_VERSION) } }
}

fn cancel_filter(order_id: &OrderId) -> Document {
    let mut filter = known(order_id);
    filter.insert("phase", doc! { "$in": [Phase::Run.as_str(), Phase::Comp.as_str()] });
    filter
}

fn owed_filter(order_id: &OrderId, generation: u32, rev: u64) -> Document {
    let mut filter = known(order_id);
    filter.extend(doc! { "gen": i64::from(generation), "rev": bson_u64(rev) });
    filter
}

/// An update pipeline, as an order that owes already goes on waiting for its sweep: what cannot be published would otherwise
/// be tried again at every one.
fn raised() -> Document {
    let unless_owed = |fresh: Bson, field: &str| doc! { "$cond": ["$evp", field, fresh] };
    doc! { "$set": {
        "evp": true,
        "sweeps": unless_owed(0_i64.into(), "$sweeps"),
        "sweep_due": unless_owed(Bson::Null, "$sweep_due"),
        "updated_at": "$$NOW",
    } }
}

fn set(fields: Document) -> UpdateModifications {
    doc! { "$set": fields, "$currentDate": { "updated_at": true } }.into()
}

/// BSON has no unsigned integers. A number beyond the signed ones is stored nowhere and so matches nothing.
fn bson_u64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(-1)
}
