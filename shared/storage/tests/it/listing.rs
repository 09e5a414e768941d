//! Operators' views of orders: what is listed, in which order, and by which index.

use jiff::{SignedDuration, Timestamp};
use mongodb::bson::{DateTime, doc};
use orderfleet_domain::{
    failure::{Failure, FailureClass},
    saga::{Cause, CauseClass, DeadLetterQueue, Hold, Millis, Note, Phase, Record, StoreReply},
};
use orderfleet_storage::{DeadLetter, Ended, How, ListedOrder, OrderFilter, OrderStatus, Span, Subject};

use crate::{
    support::{Fixture, NOW, account, in_database, order_id, other_fp, steps},
    targeting::profiled,
};

const MINUTE_MS: Millis = 60_000;

fn time(at: Millis) -> Timestamp {
    Timestamp::from_millisecond(at).unwrap()
}

/// Inserts an order as if so many minutes ago.
async fn given(db: &Fixture, key: &str, minutes: Millis, record: &Record) {
    let id = db.given(key, record).await;
    let at = DateTime::from_millis(NOW - minutes * MINUTE_MS);
    let update = doc! { "$set": { "created_at": at, "updated_at": at } };
    db.orders().update_one(doc! { "_id": id.as_str() }, update).await.unwrap();
}

fn cause(step: usize) -> Option<Cause> {
    let (class, step) = (CauseClass::AttemptsExhausted, steps()[step].clone());
    Some(Cause { class, step, code: None, message: "timeout".into(), rev: 2 })
}

fn hold(step: usize) -> Option<Hold> {
    Some(Hold { id: "h1".into(), step: steps()[step].clone(), reason: "shipped".into(), at: NOW })
}

/// One order in each state, the newest last.
async fn one_of_each(db: &Fixture) {
    let first = db.first();
    given(db, "run", 5, &Record { cur: 1, hi: 1, ..first.clone() }).await;
    let comp = Record { phase: Phase::Comp, cause: cause(2), ..first.clone() };
    given(db, "comp", 4, &comp).await;
    given(db, "held", 3, &Record { cur: 1, hi: 2, hold: hold(1), ..comp.clone() }).await;
    given(db, "done", 2, &Record { phase: Phase::Done, cur: 2, ..first.clone() }).await;
    given(db, "undone", 1, &Record { phase: Phase::Undone, is_final: true, ..comp }).await;
}

async fn keys(db: &Fixture, wanted: OrderFilter) -> Vec<&'static str> {
    let page = db.store.list_orders(&wanted, None, true, 100).await.unwrap();
    assert_eq!((page.unreadable, page.next), (Vec::new(), None));
    page.orders.iter().map(key).collect()
}

fn key(listed: &ListedOrder) -> &'static str {
    let keys = ["run", "comp", "held", "done", "undone"];
    keys.into_iter().find(|key| order_id(key) == listed.order_id).unwrap()
}

#[tokio::test]
async fn orders_are_listed_by_where_they_stand() {
    in_database(async |db| {
        one_of_each(&db).await;
        let all = OrderFilter::default;
        assert_eq!(keys(&db, all()).await, ["undone", "done", "held", "comp", "run"]);
        for (status, key) in OrderStatus::ALL.into_iter().zip(["run", "comp", "held", "done", "undone"]) {
            assert_eq!(keys(&db, OrderFilter { status: Some(status), ..all() }).await, [key]);
        }
        let at_step = |step: usize| OrderFilter { step: Some(steps()[step].clone()), ..all() };
        assert_eq!(keys(&db, at_step(0)).await, ["comp"]);
        assert_eq!(keys(&db, at_step(1)).await, ["held", "run"]);
        assert_eq!(keys(&db, at_step(2)).await, ["undone"], "where it failed");
        let class = Some(CauseClass::AttemptsExhausted);
        assert_eq!(keys(&db, OrderFilter { cause: class, ..all() }).await, ["undone", "held", "comp"]);
        let other = "other".parse().ok();
        assert_eq!(keys(&db, OrderFilter { account: other, ..all() }).await, [""; 0]);
        assert_eq!(keys(&db, OrderFilter { account: Some(account()), ..all() }).await.len(), 5);
        assert_eq!(keys(&db, OrderFilter { is_final: true, ..all() }).await, ["undone"]);
    })
    .await;
}

#[tokio::test]
async fn orders_are_listed_by_what_was_noted_of_them_and_by_their_age() {
    in_database(async |db| {
        one_of_each(&db).await;
        let all = OrderFilter::default;
        let updated = Span { since: Some(time(NOW - 2 * MINUTE_MS)), before: None };
        assert_eq!(keys(&db, OrderFilter { updated, ..all() }).await, ["undone", "done"]);
        let conflict = Note::Conflict(other_fp(0));
        for (key, note) in [("done", conflict), ("run", Note::Cancel)] {
            assert_eq!(db.store.note(&order_id(key), &note).await, StoreReply::Applied);
        }
        assert_eq!(keys(&db, OrderFilter { conflict: true, ..all() }).await, ["done"]);
        assert_eq!(keys(&db, OrderFilter { cancel: true, ..all() }).await, ["run"]);
        let (since, before) = (Some(time(NOW - 4 * MINUTE_MS)), Some(time(NOW - 2 * MINUTE_MS)));
        let created = Span { since, before };
        assert_eq!(keys(&db, OrderFilter { created, ..all() }).await, ["held", "comp"]);

        let page =
            db.store.list_orders(&OrderFilter { conflict: true, ..all() }, None, true, 9).await.unwrap();
        assert_eq!((page.orders[0].conflicts, page.orders[0].cancel_requested), (1, false));
    })
    .await;
}

#[tokio::test]
async fn pages_hold_each_order_once_also_where_many_came_at_the_same_time() {
    in_database(async |db| {
        for number in 0..7 {
            given(&db, &format!("k{number}"), if number < 5 { 1 } else { 2 }, &db.first()).await;
        }
        for newest_first in [true, false] {
            let (mut after, mut listed, mut pages) = (None, Vec::new(), 0);
            loop {
                let wanted = OrderFilter::default();
                let page = db.store.list_orders(&wanted, after.as_ref(), newest_first, 2).await.unwrap();
                listed.extend(page.orders);
                pages += 1;
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!((pages, listed.len()), (4, 7));
            assert!(listed.is_sorted_by_key(|order| match newest_first {
                true => -order.created_at.as_millisecond(),
                false => order.created_at.as_millisecond(),
            }));
            listed.sort_by(|a, b| a.order_id.cmp(&b.order_id));
            listed.dedup_by(|a, b| a.order_id == b.order_id);
            assert_eq!(listed.len(), 7);
        }
    })
    .await;
}

#[tokio::test]
async fn a_list_tells_where_an_order_stands_as_its_document_does() {
    in_database(async |db| {
        let due_at = Some(NOW + 5_000);
        let record = Record {
            phase: Phase::Comp,
            cur: 1,
            hi: 2,
            att: 3,
            waits: 1,
            due_at,
            charged_at: Some(NOW - 1),
            excused_ms: 7,
            hold: hold(1),
            evp: true,
            cause: cause(2),
            ..db.first()
        };
        let id = db.given("a", &record).await;
        let view = db.store.order_for_operator(&id).await.unwrap().unwrap();
        assert_eq!(view.record, record);
        let listed = db.store.orders_by_id(&[id.clone(), order_id("absent")]).await.unwrap();
        assert_eq!((&listed.orders[..], listed.unreadable.len()), (&[ListedOrder::from(&view)][..], 0));
        let records = db.store.records(&[id.clone(), order_id("absent")]).await.unwrap();
        assert_eq!(records, [(id.clone(), Some(record))].into());
        let [order] = &listed.orders[..] else { panic!("{listed:?}") };
        assert_eq!((order.status, order.attempts, order.owes), (OrderStatus::Held, 3, true));
        assert_eq!(order.due_at.map(Timestamp::as_millisecond), due_at);
        assert_eq!(db.store.order_for_operator(&order_id("absent")).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn stuck_orders_are_those_that_came_long_ago_and_have_not_ended_oldest_first() {
    in_database(async |db| {
        one_of_each(&db).await;
        let before = |minutes| time(NOW - minutes * MINUTE_MS);
        let stuck = async |minutes, limit| {
            let found = db.store.stuck_orders(before(minutes), limit).await.unwrap();
            found.orders.iter().map(key).collect::<Vec<_>>()
        };
        assert_eq!(stuck(0, 10).await, ["run", "comp", "held"]);
        assert_eq!(stuck(4, 10).await, ["run"]);
        assert_eq!(stuck(0, 2).await, ["run", "comp"]);
    })
    .await;
}

#[tokio::test]
async fn a_document_that_cannot_be_read_is_named_and_hides_no_other() {
    in_database(async |db| {
        one_of_each(&db).await;
        let spoilt = order_id("held");
        let (by_id, spoil) = (doc! { "_id": spoilt.as_str() }, doc! { "$unset": { "steps": 1 } });
        db.orders().update_one(by_id, spoil).bypass_document_validation(true).await.unwrap();
        let page = db.store.list_orders(&OrderFilter::default(), None, true, 100).await.unwrap();
        assert_eq!((page.orders.len(), page.unreadable), (4, vec![spoilt.to_string()]));
        let stuck = db.store.stuck_orders(time(NOW), 100).await.unwrap();
        assert_eq!((stuck.orders.len(), stuck.unreadable), (2, vec![spoilt.to_string()]));
        let named = db.store.orders_by_id(&[spoilt.clone(), order_id("run")]).await.unwrap();
        assert_eq!((named.orders.len(), named.unreadable), (1, vec![spoilt.to_string()]));
        db.store.order_for_operator(&spoilt).await.unwrap_err();
        let records = db.store.records(&[spoilt.clone(), order_id("run")]).await.unwrap();
        assert!(records[&spoilt].is_none() && records[&order_id("run")].is_some(), "{records:?}");
    })
    .await;
}

#[tokio::test]
async fn an_order_tells_of_its_dead_letters_and_of_no_others() {
    in_database(async |db| {
        let letter = |id: &str, key: &str| DeadLetter {
            id: id.into(),
            queue: DeadLetterQueue::Held,
            subject: Some(Subject { order_id: order_id(key), account: account(), generation: 1 }),
            kind: "resume".into(),
            reason: "held at inventory".into(),
            failure: Failure::new(None, FailureClass::Crashed, None, "held at inventory"),
            build: None,
            trace_id: None,
            attempts: Vec::new(),
            headers: Vec::new(),
            body: b"{}".to_vec(),
        };
        for (id, key) in [("l1", "a"), ("l2", "a"), ("l1", "b")] {
            assert!(db.store.park(&letter(id, key), NOW).await.unwrap());
        }
        let found = db.store.letters_of_order(&order_id("a"), 10).await.unwrap();
        let ids: Vec<_> = found.iter().map(|letter| letter.id.clone()).collect();
        assert_eq!(ids, ["l1", "l2"].map(|id| format!("{}.{id}", order_id("a"))));
        assert_eq!((found[0].queue.as_str(), found[0].first_seen), ("held", time(NOW)));
        assert!(found.iter().all(|letter| letter.is_open), "{found:?}");
        let ended = Ended { how: How::Discarded, by: "jo".into(), why: "x".into(), at: time(NOW), job: None };
        let first = &found[0].id;
        db.store.lease_letter(first, "job", NOW, NOW + MINUTE_MS).await.unwrap();
        assert!(db.store.end_letter(first, "job", &ended).await.unwrap());
        let found = db.store.letters_of_order(&order_id("a"), 10).await.unwrap();
        assert_eq!(found.iter().map(|letter| letter.is_open).collect::<Vec<_>>(), [false, true]);
        assert_eq!(db.store.letters_of_order(&order_id("a"), 1).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn every_list_goes_by_an_index() {
    in_database(async |db| {
        one_of_each(&db).await;
        let all = OrderFilter::default;
        if db.is_on_a_router().await {
            return;
        }
        let lists = [
            (all(), "IXSCAN { created_at: 1 }"),
            (OrderFilter { account: Some(account()), ..all() }, "IXSCAN { account: 1, created_at: -1 }"),
            (OrderFilter { status: Some(OrderStatus::Held), ..all() }, "IXSCAN { phase: 1, due_at: 1 }"),
            (OrderFilter { status: Some(OrderStatus::Run), ..all() }, "IXSCAN { phase: 1, due_at: 1 }"),
        ];
        for (wanted, by) in lists {
            let calls = profiled(&db, async {
                db.store.list_orders(&wanted, None, true, 10).await.unwrap();
            })
            .await;
            let plan = calls.last().unwrap().get_str("planSummary").unwrap();
            assert!(plan.starts_with(by), "{wanted:?}: {plan}");
        }
        let calls = profiled(&db, async {
            let before = time(NOW).checked_sub(SignedDuration::from_mins(1)).unwrap();
            assert_eq!(db.store.stuck_orders(before, 10).await.unwrap().orders.len(), 3);
        })
        .await;
        let plan = calls.last().unwrap().get_str("planSummary").unwrap();
        assert!(plan.starts_with("IXSCAN { phase: 1, due_at: 1 }"), "{plan}");
    })
    .await;
}
