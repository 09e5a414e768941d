//! A survey reads every open order as this build reads it, and says which this build could not go on with.

use std::pin::pin;

use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use orderfleet_domain::saga::{DOCUMENT_VERSION, Phase, Record};
use orderfleet_storage::{Open, SurveyedOrder};

use crate::support::{Fixture, in_database};

async fn surveyed(db: &Fixture, open: Open, limit: u32) -> Vec<SurveyedOrder> {
    let orders = db.store.survey_orders(open, limit).await.unwrap();
    pin!(orders).try_collect().await.unwrap()
}

async fn ids(db: &Fixture, open: Open) -> Vec<String> {
    let mut ids: Vec<_> = surveyed(db, open, 100).await.into_iter().map(|order| order.id).collect();
    ids.sort();
    ids
}

/// Changes a document past the validator.
async fn spoil(db: &Fixture, id: &str, change: Document) {
    let orders = db.orders();
    let update = orders.update_one(doc! { "_id": id }, doc! { "$set": change });
    assert_eq!(update.bypass_document_validation(true).await.unwrap().modified_count, 1);
}

#[tokio::test]
async fn every_open_order_is_surveyed_once_and_what_is_over_is_not() {
    in_database(async |db| {
        let first = db.first();
        let mut given = Vec::new();
        for (key, record) in [
            ("run", first.clone()),
            ("comp", Record { phase: Phase::Comp, ..first.clone() }),
            ("owes", Record { phase: Phase::Done, evp: true, ..first.clone() }),
            ("again", Record { phase: Phase::Undone, ..first.clone() }),
            ("done", Record { phase: Phase::Done, ..first.clone() }),
            ("final", Record { phase: Phase::Undone, is_final: true, ..first.clone() }),
        ] {
            given.push(db.given(key, &record).await.to_string());
        }
        let mut under_way = given[..2].to_vec();
        under_way.sort();
        assert_eq!(ids(&db, Open::UnderWay).await, under_way);
        assert_eq!(ids(&db, Open::Owing).await, given[2..3]);
        assert_eq!(ids(&db, Open::Again).await, given[3..4]);
        assert_eq!(surveyed(&db, Open::UnderWay, 1).await.len(), 1);
        let again = surveyed(&db, Open::Again, 9).await.remove(0);
        assert_eq!(again.order.unwrap().record.phase, Phase::Undone);
    })
    .await;
}

#[tokio::test]
async fn what_this_build_cannot_read_is_told_without_its_contents() {
    in_database(async |db| {
        let newer = db.given("newer", &db.first()).await;
        // Of a build that has further phases.
        let change = doc! { "sv": i64::from(DOCUMENT_VERSION) + 1, "phase": "LIMBO", "order.ship_to.name": "A. Person" };
        spoil(&db, newer.as_str(), change).await;
        let broken = db.given("broken", &db.first()).await;
        spoil(&db, broken.as_str(), doc! { "cur": "one", "order.ship_to.name": "A. Person" }).await;
        let found = surveyed(&db, Open::UnderWay, 100).await;
        let of = |id: &str| found.iter().find(|order| order.id == id).unwrap();
        assert_eq!(of(newer.as_str()).version, DOCUMENT_VERSION + 1);
        assert_eq!(of(broken.as_str()).version, 1);
        for order in &found {
            let why = order.order.as_ref().unwrap_err();
            assert!(!why.is_empty() && !why.contains("Person"), "{why}");
        }
    })
    .await;
}

#[tokio::test]
async fn orders_that_a_validator_would_refuse_are_named_while_it_is_not_in_place() {
    in_database(async |db| {
        db.given("fine", &db.first()).await;
        let broken = db.given("broken", &db.first()).await;
        spoil(&db, broken.as_str(), doc! { "att": "many" }).await;
        let refused = async || db.store.orders_refused(Open::UnderWay, 5).await.unwrap();
        assert_eq!(refused().await, [""; 0], "the validator in place is this build's own");
        let older = doc! { "$jsonSchema": { "title": "orderfleet order, version 0", "bsonType": "object" } };
        db.database.run_command(doc! { "collMod": "orders", "validator": older }).await.unwrap();
        assert_eq!(refused().await, [broken.to_string()]);
    })
    .await;
}
