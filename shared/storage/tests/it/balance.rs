//! Where accepted orders stand, as an audit asks for it.

use futures_util::future::join_all;
use mongodb::bson::doc;
use orderfleet_domain::{
    Fingerprint, OrderId,
    failure::{Failure, FailureClass},
    saga::{DeadLetterQueue, Hold, Note, Phase, Record, StoreReply},
};
use orderfleet_storage::{DeadLetter, Ended, How, RunEnd, Standing, Subject, UnderWay};

use crate::support::{Fixture, NOW, account, fp, in_database, order_id, other_fp, steps, worker};

async fn standing(db: &Fixture, id: &OrderId, fp: &Fingerprint) -> Standing {
    db.store.standings(&[(id, fp)]).await.unwrap().remove(0)
}

async fn given(db: &Fixture, key: &str, change: impl FnOnce(&mut Record)) -> Standing {
    let mut record = db.first();
    change(&mut record);
    let id = db.given(key, &record).await;
    standing(db, &id, &fp()).await
}

fn parked(is_discarded: bool) -> Standing {
    Standing::Parked { is_discarded }
}

fn letter(id: &str, key: &str, kind: &str) -> DeadLetter {
    DeadLetter {
        id: id.into(),
        queue: DeadLetterQueue::Poison,
        subject: Some(Subject { order_id: order_id(key), account: account(), generation: 1 }),
        kind: kind.into(),
        reason: "crashed workers".into(),
        failure: Failure::new(None, FailureClass::Crashed, None, "crashed workers"),
        build: None,
        trace_id: None,
        attempts: Vec::new(),
        headers: Vec::new(),
        body: Vec::new(),
    }
}

#[tokio::test]
async fn an_orders_document_says_where_it_stands() {
    in_database(async |db| {
        let Standing::UnderWay(UnderWay { phase, owner, due_at, .. }) =
            given(&db, "run", |record| record.due_at = Some(NOW)).await
        else {
            panic!("it is under way");
        };
        assert_eq!((phase, owner), (Phase::Run, Some(worker("w1"))));
        assert_eq!(due_at.map(jiff::Timestamp::as_millisecond), Some(NOW));

        let step = steps().remove(1);
        let hold = Hold { id: "h".into(), step: step.clone(), reason: "no".into(), at: NOW };
        let held = given(&db, "held", |record| record.hold = Some(hold)).await;
        assert_eq!(held, Standing::Held { step });

        for (key, phase, is_final) in
            [("d", Phase::Done, false), ("u", Phase::Undone, false), ("f", Phase::Undone, true)]
        {
            let ended = given(&db, key, |record| {
                (record.phase, record.is_final, record.generation, record.rev) = (phase, is_final, 2, 9);
            })
            .await;
            let end = RunEnd { account: account(), generation: 2, phase, is_final, rev: 9, owes: false };
            assert_eq!(ended, Standing::Ended(end));
        }
    })
    .await;
}

#[tokio::test]
async fn another_body_is_a_conflict_once_it_is_noted_or_has_a_dead_letter() {
    in_database(async |db| {
        let id = db.given("a", &db.first()).await;
        let [noted, lettered, neither] = [0, 1, 2].map(other_fp);
        assert_eq!(db.store.note(&id, &Note::Conflict(noted.clone())).await, StoreReply::Applied);
        let dead = DeadLetter {
            queue: DeadLetterQueue::Conflict,
            ..letter(&format!("{id}.{lettered}"), "a", "place")
        };
        db.store.park(&dead, NOW).await.unwrap();
        assert_eq!(standing(&db, &id, &noted).await, Standing::Conflict);
        assert_eq!(standing(&db, &id, &lettered).await, Standing::Conflict);
        assert_eq!(standing(&db, &id, &neither).await, Standing::OtherBody);
        let of_another_form = format!("02{}", "0".repeat(64)).parse().unwrap();
        assert!(matches!(standing(&db, &id, &of_another_form).await, Standing::UnderWay(_)));
    })
    .await;
}

#[tokio::test]
async fn an_order_without_a_document_is_parked_only_where_a_dead_letter_holds_it() {
    in_database(async |db| {
        db.store.park(&letter("l", "parked", "place"), NOW).await.unwrap();
        db.store.park(&letter("l", "cancelled", "cancel"), NOW).await.unwrap();
        for (key, expected) in
            [("parked", parked(false)), ("cancelled", Standing::Unknown), ("lost", Standing::Unknown)]
        {
            assert_eq!(standing(&db, &order_id(key), &fp()).await, expected, "{key}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_dead_letter_that_was_replayed_holds_its_order_no_more_and_a_discarded_one_says_so() {
    in_database(async |db| {
        let end = async |key: &str, id: &str, how: How| {
            db.store.park(&letter(id, key, "place"), NOW).await.unwrap();
            let id = format!("{}.{id}", order_id(key));
            db.store.lease_letter(&id, "job", NOW, NOW + 1).await.unwrap();
            let at = jiff::Timestamp::UNIX_EPOCH;
            let ended = Ended { how, by: "jo".into(), why: "x".into(), at, job: None };
            assert!(db.store.end_letter(&id, "job", &ended).await.unwrap());
        };
        for (key, hows) in [
            ("replayed", &[How::Replayed][..]),
            ("discarded", &[How::Discarded, How::Replayed]),
            ("open", &[How::Replayed, How::Discarded]),
        ] {
            for (number, how) in hows.iter().enumerate() {
                end(key, &format!("l{number}"), *how).await;
            }
        }
        db.store.park(&letter("m", "open", "place"), NOW).await.unwrap();
        for (key, expected) in
            [("replayed", Standing::Unknown), ("discarded", parked(true)), ("open", parked(false))]
        {
            assert_eq!(standing(&db, &order_id(key), &fp()).await, expected, "{key}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_document_that_cannot_be_read_is_told_and_takes_no_other_along() {
    in_database(async |db| {
        let ids = [db.given("a", &db.first()).await, db.given("b", &db.first()).await];
        let broken = doc! { "$set": { "phase": "LIMBO" } };
        let filter = doc! { "_id": ids[0].as_str() };
        db.orders().update_one(filter, broken).bypass_document_validation(true).await.unwrap();
        let standings = db.store.standings(&[(&ids[0], &fp()), (&ids[1], &fp())]).await.unwrap();
        assert_eq!(standings[0], Standing::Unreadable);
        assert!(matches!(standings[1], Standing::UnderWay(_)));
    })
    .await;
}

#[tokio::test]
async fn standings_come_in_the_order_they_were_asked_for_however_many_they_are() {
    in_database(async |db| {
        let ids: Vec<_> = (0..2_500).map(|number| order_id(&number.to_string())).collect();
        let known: Vec<_> = (0..2_500).step_by(50).collect();
        let (record, fp) = (db.first(), fp());
        join_all(known.iter().map(|number| db.insert(&ids[*number], &record))).await;
        let asked: Vec<_> = ids.iter().map(|id| (id, &fp)).collect();
        let standings = db.store.standings(&asked).await.unwrap();
        assert_eq!(standings.len(), ids.len());
        for (number, standing) in standings.iter().enumerate() {
            assert_eq!(*standing == Standing::Unknown, !known.contains(&number), "{number}");
        }
        assert_eq!(db.store.standings(&[]).await.unwrap(), []);
    })
    .await;
}
