//! A look at the database finds what is not as declared, and leaves nothing behind.

use std::sync::Arc;

use mongodb::bson::{Document, doc};
use orderfleet_storage::{ClusterKind, SchemaDifference};

use crate::support::{Fixture, in_database};

async fn differences(db: &Arc<Fixture>) -> Vec<(String, String)> {
    let differences = db.store.check_schema().await.unwrap();
    differences.into_iter().map(|SchemaDifference { collection, what, .. }| (collection, what)).collect()
}

#[tokio::test]
async fn a_prepared_database_is_as_declared() {
    in_database(async |db| {
        assert_eq!(differences(&db).await, []);
    })
    .await;
}

#[tokio::test]
async fn every_missing_index_and_collection_and_every_changed_validator_is_told_at_once_and_mended_by_a_start()
 {
    in_database(async |db| {
        db.orders().drop_index("sweep_due_1").await.unwrap();
        db.orders().drop_index("phase_1_due_at_1").await.unwrap();
        db.database.run_command(doc! { "collMod": "orders", "validator": {} }).await.unwrap();
        db.database.collection::<Document>("dead_letters").drop().await.unwrap();
        let what = |collection: &str, what: &str| (collection.to_owned(), what.to_owned());
        assert_eq!(
            differences(&db).await,
            [
                what("orders", "it has no validator"),
                what("orders", "index phase_1_due_at_1 is missing"),
                what("orders", "index sweep_due_1 is missing"),
                what("dead_letters", "it is missing"),
            ]
        );
        db.store.prepare().await.unwrap();
        assert_eq!(differences(&db).await, []);
    })
    .await;
}

#[tokio::test]
async fn a_validator_that_only_warns_an_index_with_other_options_and_one_of_a_newer_build_are_judged() {
    in_database(async |db| {
        let only_warn = doc! { "collMod": "orders", "validationAction": "warn" };
        db.database.run_command(only_warn).await.unwrap();
        db.orders().drop_index("sweep_due_1").await.unwrap();
        let whole = mongodb::IndexModel::builder().keys(doc! { "sweep_due": 1 }).build();
        db.orders().create_index(whole).await.unwrap();
        let newer =
            doc! { "$jsonSchema": { "title": "orderfleet dead letter, version 999", "bsonType": "object" } };
        db.database.run_command(doc! { "collMod": "dead_letters", "validator": newer }).await.unwrap();
        let found = differences(&db).await;
        let what: Vec<_> = found.iter().map(|(_, what)| what.as_str()).collect();
        assert_eq!(what, ["its validator does not refuse", "index sweep_due_1 has other options"]);
    })
    .await;
}

#[tokio::test]
async fn the_server_tells_its_version_its_set_and_its_clock() {
    in_database(async |db| {
        let state = db.store.server_state().await.unwrap();
        assert!(state.version.split('.').next().is_some_and(|major| major.parse::<u32>().unwrap() >= 6));
        assert_eq!(state.cluster == ClusterKind::Sharded, db.is_on_a_router().await);
        let apart = jiff::Timestamp::now().duration_since(state.local_time).abs();
        assert!(apart < jiff::SignedDuration::from_secs(30), "{apart}");
        // A router has no members.
        if let ClusterKind::ReplicaSet(_) = state.cluster {
            let members = db.store.members().await.unwrap();
            assert!(members.iter().any(|member| member.healthy && member.votes && member.state == "PRIMARY"));
        }
        let resources = db.store.resources().await.unwrap();
        assert!(resources.resident_mib.is_some() && resources.cache_share.is_some(), "{resources:?}");
    })
    .await;
}

#[tokio::test]
async fn a_trial_write_reaches_a_majority_and_leaves_no_document() {
    in_database(async |db| {
        db.store.try_majority_write().await.unwrap();
        db.store.try_majority_write().await.unwrap();
        let trials = db.database.collection::<Document>("doctor");
        assert_eq!(trials.count_documents(doc! {}).await.unwrap(), 0);
    })
    .await;
}
