//! Dead letters as operators find them, take them in hand and end them.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures_util::{TryStreamExt as _, future::join_all};
use jiff::Timestamp;
use mongodb::bson::{Binary, Bson, DateTime, Document, doc, spec::BinarySubtype};
use orderfleet_domain::{
    Fingerprint,
    failure::{Failure, FailureClass},
    saga::{CauseClass, DeadLetterQueue, Millis},
};
use orderfleet_storage::{
    Attempt, Condition, Content, CorrectedLetter, DeadLetter, Ended, How, Leased, Letter, LetterFilter,
    LetterPage, LetterState, Store, Subject, Unread,
};

use crate::support::{Fixture, NOW, account, in_database, order, order_id};

const HOUR: Millis = 3_600_000;

/// A letter of an order that was given up at fulfilment.
fn letter(key: &str, answer: &str) -> DeadLetter {
    let (step, class) = ("fulfilment".parse().unwrap(), FailureClass::Run(CauseClass::AttemptsExhausted));
    DeadLetter {
        id: "l".into(),
        queue: DeadLetterQueue::Step("fulfilment".parse().unwrap()),
        subject: Some(Subject { order_id: order_id(key), account: account(), generation: 1 }),
        kind: "compensate".into(),
        reason: "attempts_exhausted".into(),
        failure: Failure::new(Some(step), class, None, answer),
        build: Some("0.1.0+a".into()),
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
        attempts: vec![Attempt { at: at(NOW), what: "attempt_failed".into(), step: None, detail: None }],
        headers: vec![("traceparent".into(), "00-1".into())],
        body: b"body".to_vec(),
    }
}

fn poison(id: &str) -> DeadLetter {
    DeadLetter {
        id: id.into(),
        queue: DeadLetterQueue::Poison,
        subject: None,
        kind: "unknown".into(),
        failure: Failure::new(None, FailureClass::Unreadable, None, "no JSON"),
        build: None,
        ..letter("p", "")
    }
}

fn at(millis: Millis) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap()
}

fn id(key: &str) -> String {
    format!("{}.l", order_id(key))
}

fn ended(how: How) -> Ended {
    Ended { how, by: "jo".into(), why: "mended".into(), at: at(NOW), job: None }
}

fn with(condition: Condition) -> LetterFilter {
    LetterFilter::With(condition)
}

async fn park(db: &Fixture, letter: &DeadLetter, now: Millis) {
    assert!(db.store.park(letter, now).await.unwrap());
}

async fn ids(store: &Store, filter: &LetterFilter) -> Vec<String> {
    let page = store.list_letters(filter, None, 100).await.unwrap();
    assert_eq!((page.unreadable.len(), page.next), (0, None));
    page.letters.into_iter().map(|letter| letter.id).collect()
}

async fn one(store: &Store, id: &str) -> Letter {
    store.letter(id).await.unwrap().unwrap().0
}

#[tokio::test]
async fn a_letter_carries_what_a_decision_needs() {
    in_database(async |db| {
        let parked = letter("a", "503 Service Unavailable");
        park(&db, &parked, NOW).await;
        let (letter, content) = db.store.letter(&id("a")).await.unwrap().unwrap();
        assert_eq!(
            (letter.queue_name().as_str(), letter.class.as_str()),
            ("fulfilment", "attempts_exhausted")
        );
        assert_eq!(letter.step.as_ref().unwrap().as_str(), "fulfilment");
        assert_eq!(
            (letter.answer.as_str(), letter.build.as_deref()),
            ("503 Service Unavailable", Some("0.1.0+a"))
        );
        assert_eq!(letter.fingerprint, parked.failure.fingerprint());
        assert_eq!((letter.order_id, letter.account), (Some(order_id("a")), Some(account())));
        assert_eq!((letter.generation, letter.size, letter.seen), (Some(1), 4, 1));
        assert_eq!((letter.attempts, letter.trace_id), (parked.attempts, parked.trace_id));
        assert_eq!((letter.ended, letter.lease), (None, None));
        assert_eq!((&content.body, content.header("traceparent")), (&parked.body, Some("00-1")));
        assert!(!format!("{content:?}").contains("00-1"), "content is not printed");
        assert_eq!(db.store.letter("absent").await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn letters_are_listed_page_by_page_from_the_oldest() {
    in_database(async |db| {
        // Two of them at the same time.
        for (key, age) in [("a", 3), ("b", 2), ("c", 2), ("d", 1)] {
            park(&db, &letter(key, "x"), NOW - age * HOUR).await;
        }
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = db.store.list_letters(&LetterFilter::all(), after.as_ref(), 1).await.unwrap();
            found.extend(page.letters.iter().map(|letter| letter.id.clone()));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((found.first(), found.last(), found.len()), (Some(&id("a")), Some(&id("d")), 4));
        assert_eq!(found, ids(&db.store, &LetterFilter::all()).await);
        let newest = db.store.newest_letters(&LetterFilter::all(), 1).await.unwrap();
        assert_eq!((newest.letters[0].id.as_str(), newest.next), (id("d").as_str(), None));
        let none = db.store.list_letters(&LetterFilter::all(), None, 0).await.unwrap();
        assert_eq!(none, LetterPage::default());
        let first = db.store.letter_ids(&LetterFilter::all(), 3).await.unwrap();
        assert_eq!(first, found[..3]);
        assert_eq!(db.store.known_letters(&[id("a"), "absent".into()]).await.unwrap(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_filter_chooses_by_every_property() {
    in_database(async |db| {
        park(&db, &letter("a", "503"), NOW - 2 * HOUR).await;
        park(&db, &letter("b", "no answer"), NOW).await;
        park(&db, &poison("p"), NOW).await;
        let held = DeadLetter { id: "gone".into(), ..poison("") };
        park(&db, &held, NOW).await;
        db.store.lease_letter("gone", "job", NOW, NOW + 1).await.unwrap();
        assert!(db.store.end_letter("gone", "job", &ended(How::Discarded)).await.unwrap());

        let [a, b, p, gone] = [id("a"), id("b"), "p".to_owned(), "gone".to_owned()];
        let fingerprint = letter("a", "503").failure.fingerprint();
        let step = || with(Condition::Step("fulfilment".parse().unwrap()));
        let old = || with(Condition::Before(at(NOW - HOUR)));
        let state = |state| with(Condition::State(state));
        let cases = [
            (LetterFilter::all(), vec![&a, &b, &p]),
            (with(Condition::Queue(DeadLetterQueue::Poison)), vec![&p]),
            (with(Condition::Fingerprint(fingerprint.to_string())), vec![&a]),
            (with(Condition::Fingerprint(fingerprint.as_str()[..6].into())), vec![&a]),
            (step(), vec![&a, &b]),
            (with(Condition::Class("unreadable".into())), vec![&p]),
            (with(Condition::Account(account())), vec![&a, &b]),
            (with(Condition::Build("0.1.0+a".into())), vec![&a, &b]),
            (with(Condition::Kind("unknown".into())), vec![&p]),
            (with(Condition::Order(vec![order_id("b"), order_id("x")])), vec![&b]),
            (with(Condition::Id(vec![p.clone(), gone.clone()])), vec![&p]),
            (old(), vec![&a]),
            (with(Condition::Since(at(NOW - HOUR))), vec![&b, &p]),
            (step().and(old()), vec![&a]),
            (LetterFilter::Not(Box::new(step())), vec![&p]),
            (LetterFilter::Or(vec![old(), with(Condition::Kind("unknown".into()))]), vec![&a, &p]),
            (LetterFilter::Or(Vec::new()), vec![]),
            (state(LetterState::Ended), vec![&gone]),
            (state(LetterState::Any), vec![&a, &b, &p, &gone]),
            (state(LetterState::Any).open(), vec![&a, &b, &p]),
            (state(LetterState::Ended).open(), vec![]),
            (step().open(), vec![&a, &b]),
            (LetterFilter::Not(Box::new(state(LetterState::Any))), vec![]),
        ];
        for (filter, expected) in cases {
            let found: BTreeSet<_> = ids(&db.store, &filter).await.into_iter().collect();
            assert_eq!(found, expected.into_iter().cloned().collect::<BTreeSet<_>>(), "{filter:?}");
            assert_eq!(db.store.count_letters(&filter).await.unwrap(), found.len() as u64, "{filter:?}");
        }
        assert_eq!(db.store.all_letters_of(&order_id("a")).await.unwrap()[0].id, a);
    })
    .await;
}

#[tokio::test]
async fn letters_are_grouped_by_queue_and_failure() {
    in_database(async |db| {
        for (key, age, answer, build) in [
            ("a", 5, "503 Busy, id 17", "1"),
            ("b", 2, "503 Busy, id 4", "2"),
            ("c", 0, "503 busy, id 99", "3"),
        ] {
            let letter = DeadLetter { build: Some(build.into()), ..letter(key, answer) };
            park(&db, &letter, NOW - age * HOUR).await;
        }
        park(&db, &poison("p"), NOW).await;
        let stats = async |filter: &LetterFilter, limit| {
            let stats = db.store.letter_stats(filter, limit, NOW).await.unwrap();
            assert_eq!(stats.unreadable, 0);
            stats.groups
        };
        let groups = stats(&LetterFilter::all(), None).await;
        assert_eq!(groups.len(), 2, "{groups:#?}");
        let group = &groups[0];
        assert_eq!((group.count, group.last_hour, group.hour_before), (3, 1, 1));
        assert_eq!((group.oldest, group.newest), (at(NOW - 5 * HOUR), at(NOW)));
        assert_eq!((group.first_build.as_deref(), group.answer.as_str()), (Some("1"), "503 busy, id 99"));
        assert_eq!(group.step.as_ref().unwrap().as_str(), "fulfilment");
        assert_eq!((groups[1].first_build.as_deref(), groups[1].class.as_str()), (None, "unreadable"));
        let none = with(Condition::Account("other".parse().unwrap()));
        assert_eq!(stats(&none, None).await, []);
        let first_two = stats(&LetterFilter::all(), Some(2)).await;
        assert_eq!((first_two.len(), first_two[0].count, first_two[0].newest), (1, 2, at(NOW - 2 * HOUR)));
    })
    .await;
}

#[tokio::test]
async fn growth_and_the_first_build_take_in_what_was_replayed_since() {
    in_database(async |db| {
        for (key, minutes, build) in [("a", 300, "1"), ("b", 90, "2"), ("c", 80, "2"), ("d", 5, "2")] {
            let letter = DeadLetter { build: Some(build.into()), ..letter(key, "503 Busy") };
            park(&db, &letter, NOW - minutes * HOUR / 60).await;
        }
        for key in ["a", "c"] {
            db.store.lease_letter(&id(key), "job", NOW, NOW + HOUR).await.unwrap();
            assert!(db.store.end_letter(&id(key), "job", &ended(How::Replayed)).await.unwrap());
        }
        let group = async |filter: &LetterFilter| {
            db.store.letter_stats(filter, None, NOW).await.unwrap().groups.remove(0)
        };
        let open = group(&LetterFilter::all()).await;
        assert_eq!((open.count, open.last_hour, open.hour_before), (2, 1, 2));
        assert_eq!(open.first_build.as_deref(), Some("1"));
        let ended = group(&with(Condition::State(LetterState::Ended))).await;
        assert_eq!((ended.count, ended.last_hour, ended.hour_before), (2, 0, 1), "as the filter says");
    })
    .await;
}

#[tokio::test]
async fn letters_of_the_first_build_are_parked_listed_counted_leased_and_ended() {
    in_database(async |db| {
        let store = &db.store;
        // As that build wrote it.
        let first = doc! {
            "_id": id("a"), "queue": "orders.dead.fulfilment", "kind": "compensate", "reason": "attempts_exhausted",
            "headers": [{ "name": "traceparent", "value": "00-1" }],
            "body": Binary { subtype: BinarySubtype::Generic, bytes: b"body".to_vec() }, "size": 4_i64,
            "first_seen": DateTime::from_millis(NOW - HOUR), "last_seen": DateTime::from_millis(NOW - HOUR),
            "seen": 1_i64, "order_id": order_id("a").as_str(), "account": "demo", "gen": 1_i64,
        };
        db.database.collection::<Document>("dead_letters").insert_one(first).await.unwrap();

        let found = store.list_letters(&LetterFilter::all(), None, 10).await.unwrap();
        let [letter] = &found.letters[..] else { panic!("{found:?}") };
        assert_eq!((letter.class.as_str(), letter.answer.as_str()), ("unknown", "attempts_exhausted"));
        assert_eq!((letter.attempts.len(), &letter.ended, &letter.lease), (0, &None, &None));
        let groups = store.letter_stats(&LetterFilter::all(), None, NOW).await.unwrap().groups;
        let [group] = &groups[..] else { panic!("{groups:?}") };
        assert_eq!((group.count, group.last_hour, group.class.as_str()), (1, 1, "unknown"));
        for condition in
            [Condition::Fingerprint(group.fingerprint.as_str()[..4].into()), Condition::Class("unknown".into())]
        {
            assert_eq!(ids(store, &with(condition)).await, [id("a")], "it is found by what is shown");
        }
        let content = store.letter(&id("a")).await.unwrap().unwrap().1;
        assert_eq!((content.body.as_slice(), content.correction), (&b"body"[..], None));

        let again = self::letter("a", "x");
        assert!(!store.park(&again, NOW).await.unwrap());
        assert_eq!(one(store, &id("a")).await.seen, 2);
        assert_eq!(store.lease_letter(&id("a"), "job", NOW, NOW + HOUR).await.unwrap(), Leased::Yes);
        assert!(store.correct_letter(&id("a"), "job", &order()).await.unwrap());
        assert!(store.end_letter(&id("a"), "job", &ended(How::Replayed)).await.unwrap());
        assert_eq!(one(store, &id("a")).await.ended, Some(ended(How::Replayed)));
    })
    .await;
}

#[tokio::test]
async fn a_letter_that_cannot_be_read_is_named_and_takes_no_other_along() {
    in_database(async |db| {
        let store = &db.store;
        for (number, key) in ["a", "b", "c"].into_iter().enumerate() {
            park(&db, &letter(key, key), NOW + i64::try_from(number).unwrap()).await;
        }
        let letters = db.database.collection::<Document>("dead_letters");
        for (key, field, value) in [
            (
                "b",
                "ended",
                Bson::from(doc! { "how": "forwarded", "by": "jo", "why": "x", "at": DateTime::MIN }),
            ),
            ("c", "queue", Bson::from("orders.dead.Of a newer build")),
        ] {
            let change = doc! { "$set": { field: value } };
            let update = letters.update_one(doc! { "_id": id(key) }, change);
            update.bypass_document_validation(true).await.unwrap();
        }
        let any = with(Condition::State(LetterState::Any));
        let page = store.list_letters(&any, None, 3).await.unwrap();
        assert_eq!((page.letters.len(), page.unreadable), (1, vec![id("b"), id("c")]));
        assert_eq!(page.next.map(|next| next.id), Some(id("c")), "the list goes on behind it");
        let stats = store.letter_stats(&any, None, NOW).await.unwrap();
        assert_eq!((stats.groups.len(), stats.unreadable), (2, 1));
        let exported: Vec<_> =
            store.export_letters(&any, Some(2)).await.unwrap().try_collect().await.unwrap();
        let readable: Vec<_> = exported.iter().map(|(id, letter)| (id.clone(), letter.is_some())).collect();
        assert_eq!(readable, [(id("a"), true), (id("b"), false)]);
    })
    .await;
}

#[tokio::test]
async fn of_many_that_want_a_letter_one_gets_it() {
    in_database(async |db| {
        park(&db, &letter("a", "x"), NOW).await;
        let holders: Vec<_> = (0..20).map(|number| format!("job {number}")).collect();
        let id = id("a");
        let asked = holders.iter().map(|holder| db.store.lease_letter(&id, holder, NOW, NOW + HOUR));
        let leased: Vec<_> = join_all(asked).await.into_iter().map(Result::unwrap).collect();
        let yes = |leased: &&Leased| **leased == Leased::Yes;
        assert_eq!(leased.iter().filter(yes).count(), 1, "{leased:?}");
        let winner = &holders[leased.iter().position(|leased| *leased == Leased::Yes).unwrap()];
        let by = Leased::By { holder: winner.clone(), until: at(NOW + HOUR) };
        assert_eq!(db.store.lease_letter(&id, "other", NOW, NOW + HOUR).await.unwrap(), by);
    })
    .await;
}

#[tokio::test]
async fn a_lease_is_moved_on_by_its_holder_and_free_when_it_is_over_released_or_absurd() {
    in_database(async |db| {
        let (store, id) = (&db.store, id("a"));
        park(&db, &letter("a", "x"), NOW).await;
        let lease = async |holder: &str, now: Millis| {
            store.lease_letter(&id, holder, now, now + HOUR).await.unwrap() == Leased::Yes
        };
        assert!(lease("first", NOW).await && lease("first", NOW + HOUR / 2).await);
        assert!(!lease("second", NOW + HOUR + 1).await, "it was moved on");
        assert!(lease("second", NOW + 2 * HOUR).await, "it is over");
        store.release_letter(&id, "first").await.unwrap();
        assert!(!lease("first", NOW + 2 * HOUR).await, "only its holder releases it");
        store.release_letter(&id, "second").await.unwrap();
        assert!(lease("first", NOW + 900 * HOUR).await);
        assert!(lease("second", NOW).await, "a clock that is fast has written the lease");
        assert_eq!(one(store, &id).await.lease.unwrap().holder, "second");
        assert_eq!(store.lease_letter("absent", "j", NOW, NOW).await.unwrap(), Leased::Missing);
    })
    .await;
}

#[tokio::test]
async fn a_letter_is_ended_once_by_who_has_it_in_hand() {
    in_database(async |db| {
        let (store, id) = (&db.store, id("a"));
        park(&db, &letter("a", "x"), NOW).await;
        assert!(!store.end_letter(&id, "job", &ended(How::Replayed)).await.unwrap(), "nobody has it");
        store.lease_letter(&id, "job", NOW, NOW + HOUR).await.unwrap();
        assert!(!store.end_letter(&id, "other", &ended(How::Discarded)).await.unwrap());
        assert!(store.correct_letter(&id, "job", &order()).await.unwrap());
        assert!(!store.correct_letter(&id, "other", &order()).await.unwrap());
        for _ in 0..2 {
            assert!(store.end_letter(&id, "job", &ended(How::Replayed)).await.unwrap());
        }
        let again = Ended { why: "another reason".into(), ..ended(How::Replayed) };
        assert!(store.end_letter(&id, "job", &again).await.unwrap());
        assert!(!store.end_letter(&id, "job", &ended(How::Discarded)).await.unwrap());
        assert!(!store.end_letter(&id, "other", &ended(How::Replayed)).await.unwrap());
        assert_eq!(store.lease_letter(&id, "job", NOW, NOW + HOUR).await.unwrap(), Leased::Ended);
        let (letter, content) = store.letter(&id).await.unwrap().unwrap();
        assert_eq!(letter.ended, Some(ended(How::Replayed)), "what was recorded first stays");
        assert_eq!(content.correction, Some(order()));
        assert_eq!(store.count_letters(&LetterFilter::all()).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_corrected_letter_is_found_by_its_order_until_it_is_discarded() {
    in_database(async |db| {
        let store = &db.store;
        for key in ["a", "b", "c", "other"] {
            park(&db, &letter(key, "x"), NOW).await;
            store.lease_letter(&id(key), "job", NOW, NOW + HOUR).await.unwrap();
            assert!(key == "c" || store.correct_letter(&id(key), "job", &order()).await.unwrap());
        }
        let corrected = async || store.corrected_letters(&["a", "b", "c"].map(order_id)).await.unwrap();
        let found = |key: &str, is_open| CorrectedLetter {
            id: id(key),
            order_id: order_id(key),
            generation: Some(1),
            is_open,
            fp: Some(Fingerprint::of(&order())),
        };
        let by_id = |mut found: Vec<CorrectedLetter>| {
            found.sort_by(|a, b| a.id.cmp(&b.id));
            found
        };
        assert_eq!(by_id(corrected().await), by_id(vec![found("a", true), found("b", true)]));
        let newer = doc! { "$set": { "correction.lines": "of a newer build" } };
        let letters = db.database.collection::<Document>("dead_letters");
        letters.update_one(doc! { "_id": id("b") }, newer).await.unwrap();
        let unread = CorrectedLetter { fp: None, ..found("b", true) };
        assert_eq!(by_id(corrected().await), by_id(vec![found("a", true), unread]), "in nobody's way");
        assert!(store.end_letter(&id("a"), "job", &ended(How::Replayed)).await.unwrap());
        assert!(store.end_letter(&id("b"), "job", &ended(How::Discarded)).await.unwrap());
        assert_eq!(corrected().await, [found("a", false)]);
    })
    .await;
}

#[tokio::test]
async fn a_message_that_fails_again_under_its_old_id_is_open_again_and_a_second_arrival_of_a_failure_is_not()
{
    in_database(async |db| {
        let store = &db.store;
        let unread = Unread { letter: poison("u"), order_id: None, account: None };
        park(&db, &letter("a", "x"), NOW).await;
        park(&db, &poison("p"), NOW).await;
        store.park_unread(&unread, NOW).await.unwrap();
        for id in [id("a").as_str(), "p", "unread.u"] {
            store.lease_letter(id, "job", NOW, NOW + HOUR).await.unwrap();
            assert!(store.end_letter(id, "job", &ended(How::Replayed)).await.unwrap(), "{id}");
        }
        assert!(!store.park(&letter("a", "x"), NOW + 1).await.unwrap());
        assert!(!store.park(&poison("p"), NOW + 1).await.unwrap());
        store.park_unread(&unread, NOW).await.unwrap();
        let open: BTreeSet<_> = ids(store, &LetterFilter::all()).await.into_iter().collect();
        assert_eq!(open, BTreeSet::from(["p".to_owned(), "unread.u".to_owned()]));
        assert_eq!((one(store, "p").await.lease, one(store, "p").await.seen), (None, 2));
        assert!(!store.end_letter("p", "job", &ended(How::Replayed)).await.unwrap(), "it is another failure");
    })
    .await;
}

#[tokio::test]
async fn a_message_that_fails_again_while_somebody_is_about_to_close_its_letter_leaves_that_open() {
    in_database(async |db| {
        let store = &db.store;
        park(&db, &poison("p"), NOW).await;
        store.lease_letter("p", "job", NOW, NOW + HOUR).await.unwrap();
        assert!(!store.park(&poison("p"), NOW + 1).await.unwrap());
        assert!(!store.end_letter("p", "job", &ended(How::Replayed)).await.unwrap(), "it is another failure");
        assert_eq!((one(store, "p").await.ended, one(store, "p").await.seen), (None, 2));
        assert_eq!(store.lease_letter("p", "job", NOW, NOW + HOUR).await.unwrap(), Leased::Yes);
        assert!(store.end_letter("p", "job", &ended(How::Replayed)).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn what_crashed_workers_is_counted_by_order_cancels_apart_and_without_other_failures() {
    in_database(async |db| {
        let store = &db.store;
        let of = |key: &str, id: &str, kind: &str| DeadLetter {
            id: id.into(),
            kind: kind.into(),
            queue: DeadLetterQueue::Poison,
            ..letter(key, "x")
        };
        let arrivals = async |of_cancels| store.poison_arrivals(&order_id("a"), of_cancels).await.unwrap();
        assert_eq!((arrivals(false).await, arrivals(true).await), (0, 0));
        for letter in [of("a", "p", "run"), of("a", "c", "cancel"), of("b", "p", "run"), letter("a", "x")] {
            park(&db, &letter, NOW).await;
        }
        assert_eq!((arrivals(false).await, arrivals(true).await), (1, 1));
        store.park(&of("a", "p", "run"), NOW).await.unwrap();
        store.park(&of("a", "q", "place"), NOW).await.unwrap();
        assert_eq!((arrivals(false).await, arrivals(true).await), (3, 1));
    })
    .await;
}

#[tokio::test]
async fn what_was_exported_is_the_same_after_it_is_imported_and_overwrites_nothing() {
    in_database(async |db| {
        let store = &db.store;
        for (number, key) in ["a", "b"].into_iter().enumerate() {
            park(&db, &letter(key, "x"), NOW + i64::try_from(number).unwrap()).await;
        }
        park(&db, &poison("p"), NOW + 5).await;
        store.lease_letter("p", "job", NOW, NOW + HOUR).await.unwrap();
        assert!(store.correct_letter("p", "job", &order()).await.unwrap());
        assert!(store.end_letter("p", "job", &ended(How::Discarded)).await.unwrap());
        let any = with(Condition::State(LetterState::Any));
        let export = async || -> Vec<(Letter, Content)> {
            let letters = store.export_letters(&any, None).await.unwrap();
            letters.map_ok(|(_, letter)| letter.unwrap()).try_collect().await.unwrap()
        };
        let exported: Vec<_> = export().await;
        assert_eq!(exported.len(), 3);
        for (letter, content) in &exported {
            assert!(!store.import_letter(letter, content).await.unwrap(), "it is there");
        }
        db.database.collection::<Document>("dead_letters").delete_many(doc! {}).await.unwrap();
        for (letter, content) in &exported {
            assert!(store.import_letter(letter, content).await.unwrap());
        }
        let unleased = |(letter, content)| (Letter { lease: None, ..letter }, content);
        assert_eq!(export().await, exported.into_iter().map(unleased).collect::<Vec<_>>());
        let changed = Letter { answer: "another".into(), ..one(store, "p").await };
        let (_, content) = store.letter("p").await.unwrap().unwrap();
        assert!(!store.import_letter(&changed, &content).await.unwrap());
        assert_eq!(one(store, "p").await.answer, "no JSON");
    })
    .await;
}

#[tokio::test]
async fn what_operators_ask_for_goes_by_an_index() {
    in_database(async |db| {
        if db.is_on_a_router().await {
            eprintln!("skipped: a router has no profiler");
            return;
        }
        let store = &db.store;
        let fingerprint = letter("a", "x").failure.fingerprint().to_string();
        let filters = [
            LetterFilter::all(),
            with(Condition::Fingerprint(fingerprint)),
            with(Condition::Queue(DeadLetterQueue::Held)),
            with(Condition::Account(account())),
            with(Condition::Order(vec![order_id("a")])),
            with(Condition::Id(vec!["a".into()])),
        ];
        for number in 0..50 {
            park(&db, &letter(&format!("k{number}"), "x"), NOW + number).await;
        }
        for filter in &filters {
            db.database.run_command(doc! { "profile": 2 }).await.unwrap();
            let first = store.list_letters(filter, None, 3).await.unwrap();
            store.list_letters(filter, first.next.as_ref(), 3).await.unwrap();
            store.count_letters(filter).await.unwrap();
            store.letter_ids(filter, 3).await.unwrap();
            let groups = store.letter_stats(filter, None, NOW).await.unwrap().groups.len();
            db.database.run_command(doc! { "profile": 0 }).await.unwrap();
            let profile = db.database.collection::<Document>("system.profile");
            let own = doc! { "ns": format!("{}.dead_letters", db.settings.name) };
            let calls: Vec<_> = profile.find(own).await.unwrap().try_collect().await.unwrap();
            // The groups, and where there is one its hours and its first build.
            assert_eq!(calls.len(), 5 + 2 * groups, "{calls:#?}");
            for call in calls {
                let plan = call.get_str("planSummary").unwrap();
                assert!(plan.starts_with("IXSCAN"), "{filter:?}: {plan}");
            }
            profile.drop().await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "a measurement that fills the database; run it alone, with --nocapture"]
async fn a_hundred_thousand_letters_are_grouped_counted_and_listed_in_seconds() {
    const LETTERS: usize = 100_000;
    in_database(async |db| {
        park(&db, &DeadLetter { body: vec![b'x'; 1_500], ..letter("a", "503 Busy") }, NOW).await;
        let letters = db.database.collection::<Document>("dead_letters");
        let sample = letters.find_one(doc! {}).await.unwrap().unwrap();
        let copy = |number: usize| {
            let mut copy = sample.clone();
            copy.insert("_id", format!("copy.{number:06}"));
            copy
        };
        for first in (1..LETTERS).step_by(5_000) {
            let copies = (first..LETTERS.min(first + 5_000)).map(copy);
            letters.insert_many(copies).await.unwrap();
        }
        let began = Instant::now();
        let groups = db.store.letter_stats(&LetterFilter::all(), None, NOW).await.unwrap().groups;
        let grouped = began.elapsed();
        assert_eq!(groups[0].count, LETTERS as u64);
        let began = Instant::now();
        assert_eq!(db.store.count_letters(&LetterFilter::all()).await.unwrap(), LETTERS as u64);
        let counted = began.elapsed();
        let began = Instant::now();
        let listed = db.store.list_letters(&LetterFilter::all(), None, 50).await.unwrap();
        assert_eq!(listed.letters.len(), 50);
        eprintln!("grouped in {grouped:?}, counted in {counted:?}, 50 listed in {:?}", began.elapsed());
        assert!(grouped < Duration::from_secs(10) && counted < Duration::from_secs(10));
    })
    .await;
}
