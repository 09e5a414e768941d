//! From a stored document to what the saga core decides by, also where the document is beyond this build.

use jiff::Timestamp;
use mongodb::bson::RawDocument;
use orderfleet_domain::{
    Fingerprint, Order, OrderId,
    saga::{DOCUMENT_VERSION, Nonce, Record, WorkerId},
};

use crate::{
    document::{StoredDocument, timestamp},
    failure::describe_bson,
};

/// What a claim brings along beside what the saga core decides by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtHand {
    /// What is to be worked on: the posted order, or what a person made of it.
    pub order: Order,
    /// When the producer accepted it, by the producer's clock.
    pub accepted_at: Timestamp,
}

/// The record and the order of a document. Where it cannot be read, a record takes their place that the core parks as
/// poison, or leaves to newer builds if the document's version is newer.
pub(crate) fn read(order_id: &OrderId, raw: &RawDocument) -> (Record, Option<AtHand>) {
    match StoredDocument::read(raw) {
        Ok(document) => {
            let (record, accepted_at) = (document.record(), timestamp(document.pinned.accepted_at));
            (record, Some(AtHand { order: document.order_to_work(), accepted_at }))
        }
        Err(error) => {
            let version = version(raw);
            let error = describe_bson(&error);
            tracing::error!(order.id = %order_id, version, error, "the order's document cannot be read");
            (unreadable(version), None)
        }
    }
}

/// Without steps it is not consistent; with the highest epoch it fences whoever thinks he holds the order.
fn unreadable(version: u32) -> Record {
    let fp: Fingerprint = "0".repeat(66).parse().expect("66 zeros are a well-formed fingerprint");
    let record = Record::first(fp, Vec::new(), WorkerId(String::new()), 0, Nonce::default());
    Record { sv: version, epoch: u64::MAX, ..record }
}

/// The version that a document tells; the newest that this build knows where it tells none.
pub(crate) fn version(raw: &RawDocument) -> u32 {
    let stored = raw.get("sv").ok().flatten();
    let number = stored.and_then(|sv| sv.as_i64().or(sv.as_i32().map(i64::from)));
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or(DOCUMENT_VERSION)
}

#[cfg(test)]
mod tests {
    use mongodb::bson::rawdoc;

    use super::*;

    #[test]
    fn an_unreadable_document_is_parked_and_a_newer_one_left_to_newer_builds() {
        let id = "eu1-vqhnbfvs-dw3nwqzm4jeqqutrep4bxjfyvskigkny".parse().unwrap();
        let (broken, order) = read(&id, &rawdoc! { "sv": i64::from(DOCUMENT_VERSION) });
        assert!(!broken.is_consistent() && broken.sv == DOCUMENT_VERSION && order.is_none());
        let (newer, _) = read(&id, &rawdoc! { "sv": 9_i64, "phase": "LIMBO" });
        assert_eq!(newer.sv, 9);
    }
}
