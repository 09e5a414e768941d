//! The indexes of the dead letters, and their validator.

use mongodb::{
    IndexModel,
    bson::{Document, doc},
    options::IndexOptions,
};

use crate::schema::{long, number, text};

/// Raised with every change of the validator.
const VALIDATOR_VERSION: i32 = 2;

/// The open letters by what operators ask for, each by age: the field alone for all of them, and one for those of an order,
/// open or not. Letters that are ended are kept, and kept out of the first four.
pub(crate) fn indexes() -> [IndexModel; 5] {
    let open = |field: Option<&str>| {
        let mut keys = Document::new();
        if let Some(field) = field {
            keys.insert(field, 1);
        }
        keys.extend(doc! { "first_seen": 1, "_id": 1 });
        let partial = IndexOptions::builder().partial_filter_expression(doc! { "ended": null }).build();
        IndexModel::builder().keys(keys).options(partial).build()
    };
    [
        open(None),
        open(Some("fingerprint")),
        open(Some("queue")),
        open(Some("account")),
        IndexModel::builder().keys(doc! { "order_id": 1 }).build(),
    ]
}

/// Fields it does not know are welcome, so that a newer build may add some.
pub(crate) fn validator() -> (Document, i32) {
    let header = doc! {
        "bsonType": "object",
        "required": ["name", "value"],
        "properties": { "name": { "bsonType": "string" }, "value": { "bsonType": "string" } },
    };
    let attempt = doc! {
        "bsonType": "object",
        "required": ["at", "what"],
        "properties": { "at": { "bsonType": "date" }, "what": text(), "step": text() },
    };
    let required = doc! {
        "_id": text(),
        "queue": text(),
        "kind": text(),
        "reason": { "bsonType": "string" },
        "class": text(),
        "answer": { "bsonType": "string" },
        "fingerprint": { "bsonType": "string", "minLength": 16, "maxLength": 16 },
        "attempts": { "bsonType": "array", "items": attempt },
        "headers": { "bsonType": "array", "items": header },
        "body": { "bsonType": "binData" },
        "size": number(0),
        "first_seen": { "bsonType": "date" },
        "last_seen": { "bsonType": "date" },
        "seen": long(1),
        "ended": ended(),
        "lease": {
            "bsonType": ["object", "null"],
            "required": ["holder", "until"],
            "properties": { "holder": text(), "until": { "bsonType": "date" } },
        },
    };
    let names: Vec<_> = required.keys().cloned().collect();
    let mut properties = required;
    properties.extend(doc! {
        "order_id": text(),
        "account": text(),
        "gen": number(1),
        "step": text(),
        "code": { "bsonType": "string" },
        "build": text(),
        "trace_id": text(),
        "correction": { "bsonType": "object" },
    });
    let title = format!("orderfleet dead letter, version {VALIDATOR_VERSION}");
    let schema = doc! { "title": title, "bsonType": "object", "required": names, "properties": properties };
    (doc! { "$jsonSchema": schema }, VALIDATOR_VERSION)
}

fn ended() -> Document {
    doc! {
        "bsonType": ["object", "null"],
        "required": ["how", "by", "why", "at"],
        "properties": {
            "how": { "enum": ["replayed", "discarded"] },
            "by": text(),
            "why": text(),
            "at": { "bsonType": "date" },
        },
    }
}
