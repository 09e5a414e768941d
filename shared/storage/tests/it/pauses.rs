//! Pauses, heartbeats, and what is counted of a fleet.

use jiff::Timestamp;
use mongodb::bson::{Document, doc};
use orderfleet_domain::saga::{Entry, Hold, Millis, Phase, Record};
use orderfleet_storage::{CircuitState, Pause, QueueLoad, WorkerStatus};

use crate::support::{NOW, in_database, steps};

fn pause(target: &str, owner: &str, until: Millis) -> Pause {
    Pause {
        target: target.parse().unwrap(),
        owner: owner.into(),
        reason: "the bank is away".into(),
        at: Timestamp::from_millisecond(NOW).unwrap(),
        until: Timestamp::from_millisecond(until).unwrap(),
    }
}

#[tokio::test]
async fn a_pause_is_in_force_until_its_end_whether_or_not_it_was_removed_by_then() {
    in_database(async |db| {
        let pauses = [pause("account:demo", "jo", NOW + 1_000), pause("queue:new", "jo", NOW + 2_000)];
        for pause in &pauses {
            assert_eq!(db.store.pause(pause).await.unwrap(), None);
        }
        assert_eq!(db.store.pauses(NOW).await.unwrap(), pauses);
        assert_eq!(db.store.pauses(NOW + 1_000).await.unwrap(), pauses[1..]);
        assert_eq!(db.store.pauses(NOW + 2_000).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn a_second_pause_takes_the_place_of_the_first_and_a_resume_ends_it_once() {
    in_database(async |db| {
        let (first, second) = (pause("queue:new.3", "jo", NOW + 1), pause("queue:new.3", "ann", NOW + 9));
        db.store.pause(&first).await.unwrap();
        assert_eq!(db.store.pause(&second).await.unwrap(), Some(first));
        assert_eq!(db.store.pauses(NOW).await.unwrap(), std::slice::from_ref(&second));
        assert_eq!(db.store.resume(&second.target).await.unwrap(), Some(second.clone()));
        assert_eq!(db.store.resume(&second.target).await.unwrap(), None);
        assert_eq!(db.store.pauses(NOW).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn what_only_a_newer_build_can_pause_is_left_out_and_what_is_no_pause_is_refused() {
    in_database(async |db| {
        let known = pause("queue:retry", "jo", NOW + 1);
        db.store.pause(&known).await.unwrap();
        let stored = db.database.collection::<Document>("pauses");
        let mut novel = stored.find_one(doc! {}).await.unwrap().unwrap();
        novel.insert("_id", "country:IE");
        stored.insert_one(&novel).await.unwrap();
        assert_eq!(db.store.pauses(NOW).await.unwrap(), [known]);
        novel.insert("_id", "queue:new");
        novel.insert("until", "tomorrow");
        stored.insert_one(novel).await.unwrap_err();
    })
    .await;
}

fn status(instance: &str, in_hand: u64) -> WorkerStatus {
    WorkerStatus {
        instance: instance.into(),
        host: "host".into(),
        pid: 7,
        build: "0.1.0+test".into(),
        roles: vec!["forward".into(), "park".into()],
        started_at: Timestamp::from_millisecond(NOW).unwrap(),
        at: Timestamp::UNIX_EPOCH,
        draining: false,
        queues: vec![QueueLoad {
            queue: "new.0".into(),
            in_hand,
            handled: 9,
            per_second: 4.5,
            taken_age_ms: Some(12),
        }],
        circuits: vec![CircuitState {
            step: "inventory".into(),
            state: "closed".into(),
            ..CircuitState::default()
        }],
        pauses: vec!["queue:retry".into()],
    }
}

#[tokio::test]
async fn a_heartbeat_takes_the_place_of_the_one_before_and_tells_the_databases_time() {
    in_database(async |db| {
        for status in [status("a", 1), status("b", 2), status("a", 3)] {
            db.store.beat(&status).await.unwrap();
        }
        let now = db.store.server_state().await.unwrap().local_time;
        let mut heard = db.store.workers().await.unwrap();
        heard.sort_by(|one, other| one.instance.cmp(&other.instance));
        for (heard, said) in heard.iter().zip([status("a", 3), status("b", 2)]) {
            assert!(now.duration_since(heard.at).abs().as_secs() < 60, "{heard:?}");
            assert_eq!(*heard, WorkerStatus { at: heard.at, ..said });
        }
        db.store.forget_worker("a").await.unwrap();
        db.store.forget_worker("a").await.unwrap();
        let left: Vec<_> = db.store.workers().await.unwrap().into_iter().map(|one| one.instance).collect();
        assert_eq!(left, ["b"]);
    })
    .await;
}

#[tokio::test]
async fn orders_are_counted_by_what_is_left_to_do_and_the_earliest_next_try_is_found() {
    in_database(async |db| {
        assert_eq!(db.store.oldest_due().await.unwrap(), None);
        let hold = Hold { id: "h".into(), step: steps()[0].clone(), reason: "r".into(), at: NOW };
        let waiting = |due_at| Record { due_at: Some(due_at), ..db.first() };
        let records = [
            ("run", db.first()),
            ("later", waiting(NOW + 5)),
            ("sooner", Record { phase: Phase::Comp, ..waiting(NOW + 1) }),
            ("held", Record { hold: Some(hold), ..waiting(NOW - 9) }),
            ("done", Record { phase: Phase::Done, evp: true, ..db.first() }),
        ];
        for (key, record) in records {
            db.given(key, &record).await;
        }
        let store = &db.store;
        assert_eq!(store.count_under_way().await.unwrap(), 4);
        assert_eq!(store.count_held().await.unwrap(), 1);
        assert_eq!(store.count_owing().await.unwrap(), 1);
        let oldest = store.oldest_due().await.unwrap().map(Timestamp::as_millisecond);
        assert_eq!(oldest, Some(NOW + 1));
    })
    .await;
}

#[tokio::test]
async fn the_last_failed_attempt_of_an_order_is_told_behind_whatever_came_after_it() {
    in_database(async |db| {
        let first = db.first();
        let id = db.given("a", &first).await;
        assert_eq!(db.store.last_failed_attempt(&id).await.unwrap(), None);
        let entry = |at, what: &str, detail: &str| Entry {
            at,
            what: what.into(),
            step: Some(steps()[0].clone()),
            detail: Some(detail.into()),
        };
        let mut write = db.write(&first, |next| next.att = 2);
        write.entries = vec![
            entry(1, "attempt_failed", "timeout; waits 1s"),
            entry(2, "attempt_failed", "503; waits 5s"),
            entry(3, "not_sent", "the circuit is open; waits 1s"),
        ];
        let last = write.entries[1].clone();
        db.store.write(&id, &write).await;
        assert_eq!(db.store.last_failed_attempt(&id).await.unwrap(), Some(last));
        assert_eq!(db.store.last_failed_attempt(&crate::support::order_id("b")).await.unwrap(), None);
    })
    .await;
}
