//! What the sweeper finds, in which order, and when again.

use mongodb::bson::doc;
use orderfleet_domain::{
    OrderId,
    saga::{Hold, Millis, Note, Phase, Record, StoreReply, Write},
};
use orderfleet_storage::Overdue;

use crate::support::{NOW, account, fp, in_database, order_id, steps};

const HOUR_MS: Millis = 3_600_000;
const MINUTE_MS: Millis = 60_000;
/// The wait after a first sweep.
const FIRST_MS: Millis = 30_000;

fn keys(found: &[Overdue]) -> Vec<&str> {
    let name = |id: &OrderId| {
        ["owing", "done-owing", "held-owing", "late", "later", "held", "soon"]
            .into_iter()
            .find(|key| order_id(key) == *id)
            .unwrap()
    };
    found.iter().map(|overdue| name(&overdue.order_id)).collect()
}

#[tokio::test]
async fn owed_publishes_and_long_overdue_waits_are_found_and_held_orders_are_not() {
    in_database(async |db| {
        let hold = Hold { id: "h".into(), step: steps()[0].clone(), reason: "shipped".into(), at: NOW };
        let waiting = |late: Millis| Record { due_at: Some(NOW - HOUR_MS - late), ..db.first() };
        db.given("later", &waiting(1)).await;
        db.given("late", &Record { phase: Phase::Comp, ..waiting(2) }).await;
        db.given("soon", &waiting(-1)).await;
        db.given("held", &Record { hold: Some(hold.clone()), ..waiting(3) }).await;
        db.given("done-owing", &Record { phase: Phase::Done, evp: true, ..db.first() }).await;
        db.given("held-owing", &Record { hold: Some(hold), evp: true, ..db.first() }).await;

        let found = db.store.overdue(NOW, 10).await.unwrap();
        let mut owing = keys(&found[..2]);
        owing.sort_unstable();
        assert_eq!(owing, ["done-owing", "held-owing"]);
        assert_eq!(keys(&found[2..]), ["late", "later"]);
        assert_eq!((&found[2].account, &found[2].fp, found[2].generation), (&account(), &fp(), 1));
        assert!(found[0].owes && !found[3].owes);
        assert_eq!(db.store.overdue(NOW, 3).await.unwrap().len(), 3);
        let mut alone = db.store.owing(NOW, 10).await.unwrap();
        alone.sort_by_key(|found| found.order_id.clone());
        let mut first = found[..2].to_vec();
        first.sort_by_key(|found| found.order_id.clone());
        assert_eq!(alone, first);
    })
    .await;
}

#[tokio::test]
async fn an_order_that_owes_a_copy_is_left_alone_until_its_wait_is_over() {
    in_database(async |db| {
        db.given("owing", &Record { evp: true, due_at: Some(NOW + MINUTE_MS), ..db.first() }).await;
        assert_eq!(db.store.overdue(NOW, 10).await.unwrap(), []);
        let found = db.store.overdue(NOW + MINUTE_MS, 10).await.unwrap();
        assert_eq!(keys(&found), ["owing"]);
    })
    .await;
}

#[tokio::test]
async fn what_was_swept_is_found_again_later_and_later() {
    in_database(async |db| {
        let waiting = Record { due_at: Some(NOW - 2 * HOUR_MS), ..db.first() };
        let id = db.given("late", &waiting).await;
        db.given("owing", &Record { evp: true, ..db.first() }).await;
        let mut now = NOW;
        for wait in [1, 2, 4, 8] {
            let found = db.store.overdue(now, 10).await.unwrap();
            assert_eq!(keys(&found), ["owing", "late"]);
            for swept in &found {
                db.store.postpone(swept, now).await.unwrap();
            }
            assert_eq!(db.store.overdue(now + wait * FIRST_MS - 1, 10).await.unwrap(), []);
            now += wait * FIRST_MS;
        }
        assert_eq!(db.stored(&id).await, waiting, "nothing that decides has changed");
    })
    .await;
}

#[tokio::test]
async fn an_order_that_moves_on_is_swept_soon_and_wins_over_a_late_postponement() {
    in_database(async |db| {
        let waiting = Record { due_at: Some(NOW - 2 * HOUR_MS), ..db.first() };
        let id = db.given("late", &waiting).await;
        let found = db.store.overdue(NOW, 10).await.unwrap();
        db.store.postpone(&found[0], NOW).await.unwrap();
        let write = Write {
            owes: true,
            ..db.write(&waiting, |next| {
                next.cur = 1;
                next.due_at = None;
            })
        };
        assert_eq!(db.store.write(&id, &write).await, StoreReply::Applied);
        db.store.postpone(&found[0], NOW).await.unwrap();
        assert_eq!(keys(&db.store.overdue(NOW, 10).await.unwrap()), ["late"]);
    })
    .await;
}

/// Each sweep of an order under way is one message more about it.
#[tokio::test]
async fn an_order_that_only_goes_on_waiting_is_still_swept_later_and_later() {
    in_database(async |db| {
        let owing = Record { evp: true, due_at: Some(NOW), ..db.first() };
        let id = db.given("owing", &owing).await;
        let (mut now, mut stored) = (NOW, owing);
        for wait in [1, 2, 4, 8] {
            let found = db.store.overdue(now, 10).await.unwrap();
            assert_eq!(keys(&found), ["owing"]);
            db.store.postpone(&found[0], now).await.unwrap();
            let write = db.write(&stored, |next| next.due_at = Some(now));
            assert_eq!(db.store.write(&id, &write).await, StoreReply::Applied);
            assert_eq!(db.store.overdue(now + wait * FIRST_MS - 1, 10).await.unwrap(), []);
            now += wait * FIRST_MS;
            stored = write.next;
        }
    })
    .await;
}

#[tokio::test]
async fn an_order_that_owes_again_is_swept_at_once_and_one_that_still_owes_is_not() {
    in_database(async |db| {
        let id = db.given("owing", &Record { phase: Phase::Done, evp: true, ..db.first() }).await;
        let owed = |owed| Note::Owed { generation: 1, rev: 1, owed };
        let found = db.store.overdue(NOW, 10).await.unwrap();
        db.store.postpone(&found[0], NOW).await.unwrap();
        assert_eq!(db.store.note(&id, &owed(true)).await, StoreReply::Applied);
        assert_eq!(db.store.overdue(NOW, 10).await.unwrap(), [], "it owes what it owed before");
        for flag in [false, true] {
            assert_eq!(db.store.note(&id, &owed(flag)).await, StoreReply::Applied);
        }
        assert_eq!(keys(&db.store.overdue(NOW, 10).await.unwrap()), ["owing"]);
    })
    .await;
}

#[tokio::test]
async fn a_publish_that_is_no_longer_owed_is_not_swept() {
    in_database(async |db| {
        let id = db.given("owing", &Record { evp: true, ..db.first() }).await;
        let note = Note::Owed { generation: 1, rev: 1, owed: false };
        assert_eq!(db.store.note(&id, &note).await, StoreReply::Applied);
        assert_eq!(db.store.overdue(NOW, 10).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn a_document_that_cannot_be_read_is_put_aside_and_stops_nothing() {
    in_database(async |db| {
        let owing = Record { phase: Phase::Done, evp: true, ..db.first() };
        let broken = db.given("owing", &owing).await;
        db.given("done-owing", &owing).await;
        let spoil = doc! { "$unset": { "account": 1, "rev": 1 } };
        let by_id = doc! { "_id": broken.as_str() };
        db.orders().update_one(by_id, spoil).bypass_document_validation(true).await.unwrap();

        assert_eq!(keys(&db.store.overdue(NOW, 10).await.unwrap()), ["done-owing"]);
        let put_aside = db.document(&broken).await.get_datetime("sweep_due").unwrap().timestamp_millis();
        assert!(put_aside > NOW + HOUR_MS, "{put_aside}");
        assert_eq!(keys(&db.store.overdue(NOW, 1).await.unwrap()), ["done-owing"], "it takes no place");
    })
    .await;
}
