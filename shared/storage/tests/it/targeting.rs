//! On a sharded cluster a call by `_id` meets one shard, and one without meets them all.

use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use orderfleet_domain::saga::{Note, StoreReply};

use crate::support::{account, in_database, other_fp};

/// The server's profiler writes down every command as it arrives, with its filter.
#[tokio::test]
async fn every_call_on_the_hot_path_names_the_id() {
    in_database(async |db| {
        db.database.run_command(doc! { "profile": 2 }).await.unwrap();
        let first = db.first();
        let id = db.given("a", &first).await;
        let (reply, _) = db.store.claim(&id, &db.go_on("w1")).await;
        assert!(matches!(reply, StoreReply::Claimed(_)));
        let record = db.stored(&id).await;
        assert_eq!(db.store.write(&id, &db.write(&record, |next| next.cur = 1)).await, StoreReply::Applied);
        let owed = Note::Owed { generation: 1, rev: 3, owed: true };
        for note in [Note::Cancel, Note::Conflict(other_fp(0)), owed] {
            assert_eq!(db.store.note(&id, &note).await, StoreReply::Applied);
        }
        db.store.find_for_account(&id, &account()).await.unwrap();
        db.database.run_command(doc! { "profile": 0 }).await.unwrap();

        let own = doc! { "ns": format!("{}.orders", db.settings.name) };
        let profile = db.database.collection::<Document>("system.profile");
        let calls: Vec<_> = profile.find(own).await.unwrap().try_collect().await.unwrap();
        let filters: Vec<_> = calls.iter().filter_map(filter).collect();
        assert_eq!(filters.len(), 7, "{calls:#?}");
        for filter in filters {
            assert_eq!(filter.get_str("_id").ok(), Some(id.as_str()), "{filter}");
        }
    })
    .await;
}

fn filter(call: &Document) -> Option<&Document> {
    let command = call.get_document("command").unwrap();
    ["q", "query", "filter"].into_iter().find_map(|name| command.get_document(name).ok())
}
