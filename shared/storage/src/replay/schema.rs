//! The index of the replays, and the validators of them and of their items.

use mongodb::{
    IndexModel,
    bson::{Document, doc},
};

use super::ItemState;
use crate::schema::{long, number, text};

/// Raised with every change of a validator.
const VALIDATOR_VERSION: i32 = 1;

pub(crate) fn indexes() -> [IndexModel; 1] {
    [IndexModel::builder().keys(doc! { "began_at": -1 }).build()]
}

pub(crate) fn validator() -> (Document, i32) {
    let properties = doc! {
        "_id": text(),
        "who": text(),
        "why": text(),
        "selection": text(),
        "items": number(1),
        "state": { "enum": ["open", "ended", "stopped"] },
        "began_at": { "bsonType": "date" },
    };
    (schema("replay", properties), VALIDATOR_VERSION)
}

pub(crate) fn item_validator() -> (Document, i32) {
    let states =
        [ItemState::Waiting, ItemState::Begun, ItemState::Done, ItemState::Failed, ItemState::Refused];
    let properties = doc! {
        "_id": text(),
        "replay": text(),
        "seq": long(0),
        "letter": text(),
        "state": { "enum": states.map(ItemState::as_str).to_vec() },
        "gen": number(0),
        "note": { "bsonType": "string" },
        "changed_at": { "bsonType": "date" },
    };
    (schema("replay item", properties), VALIDATOR_VERSION)
}

fn schema(what: &str, properties: Document) -> Document {
    let required: Vec<_> = properties.keys().cloned().collect();
    let title = format!("orderfleet {what}, version {VALIDATOR_VERSION}");
    doc! { "$jsonSchema": { "title": title, "bsonType": "object", "required": required, "properties": properties } }
}
