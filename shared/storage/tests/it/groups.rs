//! Group commit: many orders at once in few commands, and each told of its own.

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use mongodb::bson::{Bson, Document};
use orderfleet_domain::saga::StoreReply;
use orderfleet_storage::Store;

use crate::support::{Fixture, account, in_database, order, order_id};

const MANY: usize = 120;

/// A store whose commands are counted: its sizes are the numbers of documents or statements in each, by the name of the list.
async fn counted(db: &Fixture) -> (Store, Arc<Mutex<Vec<usize>>>) {
    let sizes = Arc::<Mutex<Vec<usize>>>::default();
    let noted = Arc::clone(&sizes);
    let watch = move |command: &Document| {
        let list =
            ["documents", "updates"].iter().find_map(|list| command.get(list)).and_then(Bson::as_array);
        noted.lock().unwrap().extend(list.map(Vec::len));
    };
    (Store::connect_watched(&db.settings, "groups", watch).await.unwrap(), sizes)
}

#[tokio::test]
async fn inserts_at_the_same_time_are_few_commands_and_each_is_told_whether_its_order_was_there() {
    in_database(async |db| {
        let (store, sizes) = counted(&db).await;
        let there = db.given("there-7", &db.first()).await;
        let ids: Vec<_> = (0..MANY).map(|number| order_id(&format!("there-{number}"))).collect();
        let records: Vec<_> = ids.iter().map(|_| db.first()).collect();
        let order = order();
        let inserts = ids.iter().zip(&records).map(|(id, record)| {
            let (store, order) = (&store, &order);
            async move { store.insert(id, &account(), order, jiff::Timestamp::UNIX_EPOCH, record).await }
        });
        let replies = join_all(inserts).await;
        for (id, reply) in ids.iter().zip(replies) {
            let expected = if *id == there { StoreReply::Exists } else { StoreReply::Applied };
            assert_eq!((id, reply), (id, expected));
        }
        for (id, record) in ids.iter().zip(&records).filter(|(id, _)| **id != there) {
            assert_eq!(db.stored(id).await, *record);
        }
        few(&sizes);
    })
    .await;
}

#[tokio::test]
async fn writes_at_the_same_time_are_few_commands_and_one_that_lost_its_order_harms_none_of_the_others() {
    in_database(async |db| {
        let (store, sizes) = counted(&db).await;
        let mut writes = Vec::new();
        for number in 0..MANY {
            let first = db.first();
            let id = db.given(&format!("order-{number}"), &first).await;
            let write = db.write(&first, |next| {
                next.cur = 1;
                next.hi = 1;
            });
            writes.push((id, write));
        }
        let fenced = &writes[7];
        let (reply, _) = db.store.claim(&fenced.0, &db.go_on("w1")).await;
        assert!(matches!(reply, StoreReply::Claimed(_)), "{reply:?}");
        let replies = join_all(writes.iter().map(|(id, write)| store.write(id, write))).await;
        for (number, ((id, write), reply)) in writes.iter().zip(replies).enumerate() {
            let stored = db.stored(id).await;
            if number == 7 {
                assert_eq!((stored.epoch, stored.cur), (2, 0));
                assert_eq!(reply, StoreReply::NoMatch);
            } else {
                assert_eq!((stored, reply), (write.next.clone(), StoreReply::Applied));
            }
        }
        few(&sizes);
    })
    .await;
}

/// Some were sent together.
fn few(sizes: &Mutex<Vec<usize>>) {
    let sizes = sizes.lock().unwrap().clone();
    eprintln!("groups of {sizes:?}");
    assert!(sizes.iter().any(|size| *size >= MANY / 4), "{sizes:?}");
}
