//! What the database itself refuses, and the indexes and the validator behind it.

use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use orderfleet_domain::saga::{Record, StoreReply};
use orderfleet_storage::Store;

use crate::support::{in_database, order_id, steps};

#[tokio::test]
async fn a_document_that_fails_validation_is_refused() {
    in_database(async |db| {
        let reply = db.insert(&order_id("a"), &Record { steps: Vec::new(), ..db.first() }).await;
        let StoreReply::Refused(reason) = reply else { panic!("{reply:?}") };
        assert!(reason.contains("(121)") && !reason.contains("A. Person"), "{reason}");

        let first = db.first();
        let id = db.given("b", &first).await;
        let write = db.write(&first, |next| next.sv = 0);
        assert!(matches!(db.store.write(&id, &write).await, StoreReply::Refused(_)));
        assert_eq!(db.stored(&id).await, first);
    })
    .await;
}

#[tokio::test]
async fn a_document_that_is_too_large_is_refused() {
    in_database(async |db| {
        let record = Record { steps: vec![steps()[0].clone(); 1_500_000], ..db.first() };
        let reply = db.insert(&order_id("a"), &record).await;
        assert!(matches!(reply, StoreReply::Refused(_)), "{reply:?}");

        let first = db.first();
        let id = db.given("b", &first).await;
        let write = db.write(&first, |next| {
            next.results = vec![orderfleet_domain::saga::StepResult {
                step: steps()[0].clone(),
                state: orderfleet_domain::saga::StepState::Done,
                result: "x".repeat(17 << 20),
                at: 0,
            }];
        });
        let reply = db.store.write(&id, &write).await;
        assert!(matches!(reply, StoreReply::Refused(_)), "{reply:?}");
    })
    .await;
}

#[tokio::test]
async fn numbers_beyond_bson_are_refused_before_they_are_sent() {
    in_database(async |db| {
        let reply = db.insert(&order_id("a"), &Record { rev: u64::MAX, ..db.first() }).await;
        assert!(matches!(reply, StoreReply::Refused(_)), "{reply:?}");
    })
    .await;
}

#[tokio::test]
async fn preparing_again_and_at_once_changes_nothing() {
    in_database(async |db| {
        let before = indexes(&db.orders()).await;
        let again = (0..8).map(|_| {
            let db = db.clone();
            tokio::spawn(async move {
                let store = Store::connect(&db.settings, "storage-test").await.unwrap();
                store.prepare().await.unwrap();
            })
        });
        for prepared in again.collect::<Vec<_>>() {
            prepared.await.unwrap();
        }
        assert_eq!(indexes(&db.orders()).await, before);
        assert_eq!(
            before,
            ["_id_", "account_1_created_at_-1", "created_at_1", "phase_1_due_at_1", "sweep_due_1"]
        );
    })
    .await;
}

#[tokio::test]
async fn a_missing_validator_is_put_in_place_and_a_newer_one_is_left_alone() {
    in_database(async |db| {
        let title = async || {
            let own = doc! { "name": "orders" };
            let mut found = db.database.list_collections().filter(own).await.unwrap();
            let options = found.try_next().await.unwrap().unwrap().options;
            let schema =
                options.validator.and_then(|validator| validator.get_document("$jsonSchema").cloned().ok());
            schema.and_then(|schema| schema.get_str("title").map(str::to_owned).ok())
        };
        let own = title().await;
        let newer = "orderfleet order, version 999";
        let validators = [
            (doc! {}, own.as_deref()),
            (doc! { "$jsonSchema": { "title": newer, "bsonType": "object" } }, Some(newer)),
        ];
        for (validator, expected) in validators {
            db.database.run_command(doc! { "collMod": "orders", "validator": validator }).await.unwrap();
            db.store.prepare().await.unwrap();
            assert_eq!(title().await.as_deref(), expected);
        }
        assert!(own.is_some());
    })
    .await;
}

#[tokio::test]
async fn fields_of_a_newer_build_are_welcome() {
    in_database(async |db| {
        let id = db.given("a", &db.first()).await;
        let novel = doc! { "$set": { "novel": { "depth": 1 }, "order.novel": true } };
        db.orders().update_one(doc! { "_id": id.as_str() }, novel).await.unwrap();
        let record = db.stored(&id).await;
        let write = db.write(&record, |next| next.cur = 1);
        assert_eq!(db.store.write(&id, &write).await, StoreReply::Applied);
        assert!(db.document(&id).await.contains_key("novel"));
    })
    .await;
}

async fn indexes(orders: &mongodb::Collection<Document>) -> Vec<String> {
    let mut names = orders.list_index_names().await.unwrap();
    names.sort();
    names
}
