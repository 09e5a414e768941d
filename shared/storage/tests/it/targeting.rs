//! On a sharded cluster a call by `_id` meets one shard, and one without meets them all. The server's profiler writes
//! down every command as it arrives, with its filter and its plan.

use std::future::Future;

use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use orderfleet_domain::saga::{Note, StoreReply};

use crate::support::{Fixture, NOW, account, in_database, other_fp};

#[tokio::test]
async fn every_call_on_the_hot_path_names_the_id() {
    in_database(async |db| {
        let first = db.first();
        let id = crate::support::order_id("a");
        let calls = profiled(&db, async {
            db.given("a", &first).await;
            let (reply, _) = db.store.claim(&id, &db.go_on("w1")).await;
            assert!(matches!(reply, StoreReply::Claimed(_)));
            let record = db.stored(&id).await;
            let write = db.write(&record, |next| next.cur = 1);
            assert_eq!(db.store.write(&id, &write).await, StoreReply::Applied);
            let owed = Note::Owed { generation: 1, rev: 3, owed: true };
            for note in [Note::Cancel, Note::Conflict(other_fp(0)), owed] {
                assert_eq!(db.store.note(&id, &note).await, StoreReply::Applied);
            }
            db.store.find_for_account(&id, &account()).await.unwrap();
        })
        .await;
        let filters: Vec<_> = calls.iter().filter_map(filter).collect();
        assert_eq!(filters.len(), 7, "{calls:#?}");
        for filter in filters {
            assert_eq!(filter.get_str("_id").ok(), Some(id.as_str()), "{filter}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_sweepers_two_queries_go_by_their_indexes() {
    in_database(async |db| {
        let calls = profiled(&db, async {
            assert_eq!(db.store.overdue(NOW, 10).await.unwrap(), []);
        })
        .await;
        let plans: Vec<_> = calls.iter().map(|call| call.get_str("planSummary").unwrap()).collect();
        let by_phase = "IXSCAN { phase: 1, due_at: 1 }";
        assert_eq!(plans, ["IXSCAN { sweep_due: 1 }".into(), format!("{by_phase}, {by_phase}")]);
    })
    .await;
}

#[tokio::test]
async fn what_workers_read_over_and_over_and_what_is_counted_goes_by_indexes() {
    in_database(async |db| {
        let id = db.given("a", &db.first()).await;
        let calls = profiled_in(&db, "pauses", async {
            db.store.pauses(NOW).await.unwrap();
        })
        .await;
        assert_eq!(plans(&calls), ["IXSCAN { until: 1 }"]);
        let calls = profiled_in(&db, "worker_status", async {
            db.store.workers().await.unwrap();
        })
        .await;
        assert_eq!(plans(&calls), ["IXSCAN { at: 1 }"]);

        let calls = profiled(&db, async {
            db.store.count_under_way().await.unwrap();
            db.store.count_held().await.unwrap();
            db.store.count_owing().await.unwrap();
            db.store.oldest_due().await.unwrap();
            db.store.last_failed_attempt(&id).await.unwrap();
        })
        .await;
        let plans = plans(&calls);
        for plan in &plans[..2] {
            assert_eq!(*plan, "IXSCAN { phase: 1, due_at: 1 }");
        }
        assert_eq!(plans[2], "IXSCAN { sweep_due: 1 }");
        assert!(plans[3].starts_with("IXSCAN { phase: 1, due_at: 1 }"), "{plans:?}");
        assert!(plans[4] == "IDHACK" || plans[4] == "EXPRESS", "{plans:?}");
    })
    .await;
}

fn plans(calls: &[Document]) -> Vec<&str> {
    calls.iter().map(|call| call.get_str("planSummary").unwrap()).collect()
}

/// What the profiler wrote down of these calls, in their order.
pub(crate) async fn profiled(db: &Fixture, calls: impl Future<Output = ()>) -> Vec<Document> {
    profiled_in(db, "orders", calls).await
}

/// As [`profiled`], of the calls that were about a collection.
async fn profiled_in(db: &Fixture, collection: &str, calls: impl Future<Output = ()>) -> Vec<Document> {
    db.database.run_command(doc! { "profile": 2 }).await.unwrap();
    calls.await;
    db.database.run_command(doc! { "profile": 0 }).await.unwrap();
    let own = doc! { "ns": format!("{}.{collection}", db.settings.name) };
    let profile = db.database.collection::<Document>("system.profile");
    profile.find(own).sort(doc! { "$natural": 1 }).await.unwrap().try_collect().await.unwrap()
}

fn filter(call: &Document) -> Option<&Document> {
    let command = call.get_document("command").unwrap();
    ["q", "query", "filter"].into_iter().find_map(|name| command.get_document(name).ok())
}
