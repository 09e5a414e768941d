//! On a sharded cluster a call by `_id` meets one shard, and one without meets them all. Every test here listens to what the
//! store sends (`support.rs`); the server's profiler writes down every command as it arrives, with its filter and its plan.

use std::future::Future;

use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use orderfleet_domain::saga::{Note, StoreReply};
use orderfleet_storage::{OrderFilter, SCATTERED, check_targeting};

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
        if db.is_on_a_router().await {
            return;
        }
        let filters: Vec<_> = calls.iter().filter_map(filter).collect();
        assert_eq!(filters.len(), 7, "{calls:#?}");
        for filter in filters {
            assert_eq!(filter.get_str("_id").ok(), Some(id.as_str()), "{filter}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_list_of_an_account_at_home_in_a_region_names_the_accounts_range() {
    in_database(async |db| {
        let id = db.given("a", &db.first()).await;
        let at_home = |region: &str, account: Option<&str>| OrderFilter {
            account: account.map(|account| account.parse().unwrap()),
            region: Some(region.parse().unwrap()),
            ..OrderFilter::default()
        };
        for (wanted, count) in [
            (at_home("eu1", Some("demo")), 1),
            (at_home("eu1", None), 1),
            (at_home("us1", Some("demo")), 0),
            (at_home("eu1", Some("other")), 0),
        ] {
            let mut found = 0;
            let calls = profiled(&db, async {
                found = db.store.list_orders(&wanted, None, true, 10).await.unwrap().orders.len();
            })
            .await;
            assert_eq!(found, count, "{wanted:?}");
            for call in calls {
                let command = call.get_document("command").unwrap();
                assert!(
                    !command.contains_key("comment"),
                    "it would pass as one that asks every shard: {command}"
                );
                assert_eq!(check_targeting(command), Ok(()));
            }
        }
        assert_eq!(db.store.first_and_newest_order_of(&account()).await.unwrap(), std::slice::from_ref(&id));
        let newest = db.given("newest", &db.first()).await;
        assert_eq!(db.store.first_and_newest_order_of(&account()).await.unwrap(), [id, newest]);
        let other = db.store.first_and_newest_order_of(&"other".parse().unwrap()).await.unwrap();
        assert!(other.is_empty(), "{other:?}");
    })
    .await;
}

#[tokio::test]
async fn a_query_that_names_no_id_is_caught_and_one_that_gives_its_name_is_let_through() {
    in_database(async |db| {
        db.given("a", &db.first()).await;
        let (orders, open) = (db.orders(), doc! { "phase": "RUN" });
        let seen = profiled(&db, async {
            orders.find_one(open.clone()).await.unwrap();
            orders.find_one(open.clone()).comment(SCATTERED[0]).await.unwrap();
            orders.update_many(open.clone(), doc! { "$set": { "novel": 1 } }).await.unwrap();
        })
        .await;
        if db.is_on_a_router().await {
            return;
        }
        let judged: Vec<_> =
            seen.iter().map(|call| check_targeting(call.get_document("command").unwrap())).collect();
        assert!(judged[0].as_ref().is_err_and(|told| told.contains("find by phase")), "{judged:?}");
        assert!(judged[1].is_ok() && judged[2].is_err() && judged.len() == 3, "{judged:?}");
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
        if db.is_on_a_router().await {
            return;
        }
        let plans: Vec<_> = calls.iter().map(|call| call.get_str("planSummary").unwrap()).collect();
        let by_phase = "IXSCAN { phase: 1, due_at: 1 }";
        assert_eq!(plans, ["IXSCAN { sweep_due: 1 }".into(), format!("{by_phase}, {by_phase}")]);
    })
    .await;
}

#[tokio::test]
async fn what_workers_read_over_and_over_and_what_is_counted_goes_by_indexes() {
    in_database(async |db| {
        if db.is_on_a_router().await {
            return;
        }
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

/// As [`profiled`], of the calls that were about a collection. A router has no profiler: then the calls are made, and nothing is
/// found.
async fn profiled_in(db: &Fixture, collection: &str, calls: impl Future<Output = ()>) -> Vec<Document> {
    if db.is_on_a_router().await {
        eprintln!("skipped: plans are not looked at, a router has no profiler");
        calls.await;
        return Vec::new();
    }
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
