//! The indexes of the dead letters, and their validator.

use mongodb::{
    IndexModel,
    bson::{Document, doc},
    options::IndexOptions,
};

use crate::schema::{long, number, text};

/// Raised with every change of the validator.
const VALIDATOR_VERSION: i32 = 3;

/// The open letters by what operators ask for, each by age; and, open or not, those of an order and those that failed alike.
/// Letters that are ended are kept, and kept out of the first four.
pub(crate) fn indexes() -> [IndexModel; 6] {
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
        IndexModel::builder().keys(doc! { "fingerprint": 1, "queue": 1, "first_seen": 1 }).build(),
    ]
}

/// Fields it does not know are welcome, so that a newer build may add some. Required is what the first build wrote and no more:
/// its letters stay as they are, and are still changed; and it may go on parking while newer workers start.
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
        "headers": { "bsonType": "array", "items": header },
        "body": { "bsonType": "binData" },
        "size": number(0),
        "first_seen": { "bsonType": "date" },
        "last_seen": { "bsonType": "date" },
        "seen": long(1),
    };
    let names: Vec<_> = required.keys().cloned().collect();
    let mut properties = required;
    properties.extend(doc! {
        "class": text(),
        "answer": { "bsonType": "string" },
        "fingerprint": { "bsonType": "string", "minLength": 16, "maxLength": 16 },
        "attempts": { "bsonType": "array", "items": attempt },
        "ended": ended(),
        "lease": lease(),
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

fn lease() -> Document {
    doc! {
        "bsonType": ["object", "null"],
        "required": ["holder", "until"],
        "properties": { "holder": text(), "until": { "bsonType": "date" } },
    }
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
