//! Dead letters: stored once, counted at every arrival, found by their order.

use futures_util::{TryStreamExt as _, future::join_all};
use mongodb::bson::{Bson, Document, doc};
use orderfleet_domain::{
    failure::{Failure, FailureClass},
    saga::DeadLetterQueue,
};
use orderfleet_storage::{DeadLetter, Readings, Subject, Unread};

use crate::support::{Fixture, NOW, account, in_database, order_id};

fn letter(id: &str, key: &str) -> DeadLetter {
    DeadLetter {
        id: id.into(),
        queue: DeadLetterQueue::Poison,
        subject: Some(Subject { order_id: order_id(key), account: account(), generation: 1 }),
        kind: "place".into(),
        reason: "crashed workers".into(),
        failure: Failure::new(None, FailureClass::Crashed, None, "crashed workers"),
        build: Some("0.1.0".into()),
        trace_id: None,
        attempts: Vec::new(),
        headers: vec![("traceparent".into(), "00-1".into()), ("cloudEvents:a.b$".into(), String::new())],
        body: b"\0no text\xff".to_vec(),
    }
}

async fn stored(db: &Fixture) -> Vec<Document> {
    let letters = db.database.collection::<Document>("dead_letters");
    letters.find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap().try_collect().await.unwrap()
}

#[tokio::test]
async fn a_dead_letter_is_stored_as_it_came_and_its_arrivals_are_counted() {
    in_database(async |db| {
        assert!(db.store.park(&letter("l", "a"), NOW).await.unwrap());
        let again = DeadLetter { reason: "another".into(), ..letter("l", "a") };
        assert!(!db.store.park(&again, NOW + 5).await.unwrap());
        assert!(!db.store.park(&again, NOW + 3).await.unwrap(), "by a clock that is behind");

        let documents = stored(&db).await;
        assert_eq!(documents.len(), 1, "{documents:#?}");
        let document = &documents[0];
        let texts = ["_id", "queue", "order_id", "account", "kind", "reason"];
        let id = order_id("a");
        assert_eq!(
            texts.map(|name| document.get_str(name).unwrap()),
            [&format!("{id}.l"), "orders.dead.poison", id.as_str(), "demo", "place", "crashed workers"]
        );
        assert_eq!(
            ["class", "answer", "build"].map(|name| document.get_str(name).unwrap()),
            ["crashed", "crashed workers", "0.1.0"]
        );
        assert!(["ended", "lease"].iter().all(|name| document.get(name) == Some(&Bson::Null)), "{document}");
        assert_eq!(["gen", "size", "seen"].map(|name| document.get_i64(name).unwrap()), [1, 9, 3]);
        assert_eq!(document.get_binary_generic("body").unwrap(), b"\0no text\xff");
        let header = document.get_array("headers").unwrap()[1].as_document().unwrap();
        assert_eq!(*header, doc! { "name": "cloudEvents:a.b$", "value": "" });
        let seen =
            ["first_seen", "last_seen"].map(|at| document.get_datetime(at).unwrap().timestamp_millis());
        assert_eq!(seen, [NOW, NOW + 5]);
    })
    .await;
}

#[tokio::test]
async fn arrivals_at_once_are_one_document_and_all_counted() {
    in_database(async |db| {
        let letter = letter("l", "a");
        let parked = join_all((0..20).map(|_| db.store.park(&letter, NOW))).await;
        let first = parked.into_iter().filter(|parked| *parked.as_ref().unwrap()).count();
        assert_eq!(first, 1);
        assert_eq!(stored(&db).await[0].get_i64("seen").unwrap(), 20);
    })
    .await;
}

#[tokio::test]
async fn a_dead_letter_of_no_known_order_has_its_own_id() {
    in_database(async |db| {
        let garbage = DeadLetter { subject: None, kind: "unknown".into(), ..letter("hash", "a") };
        assert!(db.store.park(&garbage, NOW).await.unwrap());
        let documents = stored(&db).await;
        assert_eq!(documents[0].get_str("_id").unwrap(), "hash");
        assert!(!documents[0].contains_key("order_id"));

        let named = DeadLetter { id: format!("{}.01fp", order_id("b")), ..letter("", "b") };
        assert!(db.store.park(&named, NOW).await.unwrap());
        let ids: Vec<_> =
            stored(&db).await.iter().map(|document| document.get_str("_id").unwrap().to_owned()).collect();
        assert_eq!(ids, [named.id, "hash".into()]);
    })
    .await;
}

#[tokio::test]
async fn a_dead_letter_that_no_document_holds_is_refused() {
    in_database(async |db| {
        let vast = DeadLetter { body: vec![b'x'; 17 << 20], ..letter("l", "a") };
        db.store.park(&vast, NOW).await.unwrap_err();
        let nameless = DeadLetter { id: String::new(), subject: None, ..letter("", "a") };
        db.store.park(&nameless, NOW).await.unwrap_err();
        assert_eq!(stored(&db).await, []);
        let largest = DeadLetter { body: vec![b'x'; 15 << 20], ..letter("l", "a") };
        assert!(db.store.park(&largest, NOW).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_posted_order_that_was_parked_is_found_by_its_account_alone() {
    in_database(async |db| {
        db.store.park(&letter("l", "a"), NOW).await.unwrap();
        db.store.park(&DeadLetter { kind: "cancel".into(), ..letter("l", "b") }, NOW).await.unwrap();
        let failed =
            DeadLetter { queue: DeadLetterQueue::Step("inventory".parse().unwrap()), ..letter("l", "c") };
        db.store.park(&failed, NOW).await.unwrap();

        let parked = db.store.find_parked(&order_id("a"), &account()).await.unwrap().unwrap();
        assert_eq!((parked.reason.as_str(), parked.parked_at.as_millisecond()), ("crashed workers", NOW));
        let other = "other".parse().unwrap();
        assert_eq!(db.store.find_parked(&order_id("a"), &other).await.unwrap(), None);
        for key in ["b", "c", "absent"] {
            assert_eq!(db.store.find_parked(&order_id(key), &account()).await.unwrap(), None, "{key}");
        }
    })
    .await;
}

fn unread(id: &str, key: Option<&str>) -> Unread {
    Unread {
        letter: DeadLetter { subject: None, ..letter(id, "a") },
        order_id: key.map(order_id),
        account: key.map(|_| account()),
    }
}

async fn ids(db: &Fixture) -> Vec<String> {
    stored(db).await.iter().map(|document| document.get_str("_id").unwrap().to_owned()).collect()
}

async fn begun(db: &Fixture) -> u64 {
    db.database.collection::<Document>("dead_letter_readings").count_documents(doc! {}).await.unwrap()
}

#[tokio::test]
async fn readings_of_a_dead_letter_are_counted_until_it_has_been_read() {
    in_database(async |db| {
        let unread = unread("l", Some("a"));
        for count in 1..=3 {
            let readings = db.store.begin_reading(&unread, db.nonce(), NOW).await.unwrap();
            assert_eq!(readings, Readings { count, waits: 0 });
        }
        for _ in 0..2 {
            db.store.note_wait(&unread, 1).await.unwrap();
        }
        let readings = db.store.begin_reading(&unread, db.nonce(), NOW).await.unwrap();
        assert_eq!(readings, Readings { count: 4, waits: 1 });
        for _ in 0..2 {
            db.store.end_readings(&unread).await.unwrap();
        }
        db.store.note_wait(&unread, 2).await.unwrap();
        let readings = db.store.begin_reading(&unread, db.nonce(), NOW).await.unwrap();
        assert_eq!(readings, Readings { count: 1, waits: 0 });
    })
    .await;
}

#[tokio::test]
async fn messages_that_share_a_dead_letters_id_are_suspected_apart() {
    in_database(async |db| {
        let unread = unread("l", Some("a"));
        let mut other = unread.clone();
        other.letter.body.push(b' ');
        for unread in [&unread, &other] {
            assert_eq!(db.store.begin_reading(unread, db.nonce(), NOW).await.unwrap().count, 1);
        }
        db.store.end_readings(&other).await.unwrap();
        assert_eq!(db.store.begin_reading(&unread, db.nonce(), NOW).await.unwrap().count, 2);
    })
    .await;
}

#[tokio::test]
async fn a_reading_that_is_counted_late_shows_nobody_a_letter_that_has_been_read() {
    in_database(async |db| {
        let (unread, late) = (unread("l", Some("a")), db.nonce());
        db.store.begin_reading(&unread, db.nonce(), NOW).await.unwrap();
        assert!(db.store.park(&letter("l", "a"), NOW).await.unwrap());
        db.store.end_readings(&unread).await.unwrap();
        db.store.begin_reading(&unread, late, NOW).await.unwrap();
        assert_eq!(ids(&db).await, [format!("{}.l", order_id("a"))]);
    })
    .await;
}

#[tokio::test]
async fn a_reading_counts_once_however_often_it_is_told_and_not_at_all_once_taken_back() {
    in_database(async |db| {
        let (unread, [first, second]) = (unread("l", None), [db.nonce(), db.nonce()]);
        for _ in 0..3 {
            assert_eq!(db.store.begin_reading(&unread, first, NOW).await.unwrap().count, 1);
        }
        assert_eq!(db.store.begin_reading(&unread, second, NOW).await.unwrap().count, 2);
        for _ in 0..2 {
            db.store.take_reading_back(&unread, second).await.unwrap();
        }
        assert_eq!(db.store.begin_reading(&unread, first, NOW).await.unwrap().count, 1);
        db.store.take_reading_back(&unread, first).await.unwrap();
        assert_eq!(begun(&db).await, 0, "nobody reads it");
    })
    .await;
}

#[tokio::test]
async fn a_dead_letter_that_is_not_to_be_read_is_stored_once_by_what_its_headers_tell() {
    in_database(async |db| {
        for _ in 0..2 {
            db.store.park_unread(&unread("l", None), NOW).await.unwrap();
            db.store.park_unread(&unread("l", Some("a")), NOW).await.unwrap();
        }
        assert_eq!(ids(&db).await, [format!("{}.unread.l", order_id("a")), "unread.l".into()]);
        let documents = stored(&db).await;
        assert_eq!(documents[0].get_str("order_id").unwrap(), order_id("a").as_str());
        assert!(!documents[1].contains_key("order_id"), "whose it is has not been read");
        for document in &documents {
            assert_eq!(document.get_binary_generic("body").unwrap(), &letter("l", "a").body);
            assert_eq!(document.get_i64("seen").unwrap(), 2);
        }
        let parked = db.store.find_parked(&order_id("a"), &account()).await.unwrap().unwrap();
        assert_eq!(parked.reason, "crashed workers");
    })
    .await;
}
