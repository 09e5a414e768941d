//! Replays: what is frozen when they begin, and how far each dead letter has come.

use jiff::Timestamp;
use orderfleet_storage::{ItemState, Replay, ReplayItem, ReplayState, Store};

use crate::support::{NOW, in_database, order_id};

/// More than one page.
const ITEMS: u32 = 1_200;

fn replay(id: &str, began_at: i64) -> Replay {
    let [who, why, selection] = ["jo", "mended", "all"].map(str::to_owned);
    Replay {
        id: id.into(),
        who,
        why,
        selection,
        items: ITEMS,
        state: ReplayState::Open,
        done_at_stop: 0,
        failed_at_stop: 0,
        began_at: Timestamp::from_millisecond(began_at).unwrap(),
    }
}

fn item(seq: u32) -> ReplayItem {
    ReplayItem {
        seq,
        letter: format!("letter-{seq}"),
        order_id: (seq > 0).then(|| order_id("a")),
        planned: "run 2".into(),
        state: ItemState::Waiting,
        generation: 0,
        hold: None,
        is_undoing: false,
        is_corrected: false,
        is_cancel: false,
        arrivals: 0,
        is_letter_left: false,
        note: String::new(),
    }
}

async fn all(store: &Store, replay: &str) -> Vec<ReplayItem> {
    let mut items = Vec::new();
    loop {
        let page = store.replay_items(replay, u32::try_from(items.len()).unwrap()).await.unwrap();
        if page.is_empty() {
            return items;
        }
        items.extend(page);
    }
}

#[tokio::test]
async fn a_choice_is_frozen_in_its_order_and_apart_from_others() {
    in_database(async |db| {
        let frozen: Vec<_> = (0..ITEMS).map(item).collect();
        db.store.begin_replay(&replay("r1", NOW), &frozen, NOW).await.unwrap();
        db.store.begin_replay(&replay("r10", NOW + 1), &frozen[..2], NOW).await.unwrap();
        assert_eq!(all(&db.store, "r1").await, frozen);
        assert_eq!(all(&db.store, "r10").await, frozen[..2]);
        assert_eq!(all(&db.store, "r").await, []);
        assert_eq!(db.store.replay("r1").await.unwrap(), Some(replay("r1", NOW)));
        assert_eq!(db.store.replay("r2").await.unwrap(), None);
        let newest: Vec<_> = db.store.replays(9).await.unwrap().into_iter().map(|replay| replay.id).collect();
        assert_eq!(newest, ["r10", "r1"]);
        assert!(
            db.store.begin_replay(&replay("r1", NOW), &[], NOW).await.is_err(),
            "an id stands for one choice"
        );
    })
    .await;
}

#[tokio::test]
async fn what_became_of_an_item_is_recorded_with_it_alone() {
    in_database(async |db| {
        db.store.begin_replay(&replay("r1", NOW), &[item(0), item(1)], NOW).await.unwrap();
        let begun = ReplayItem {
            state: ItemState::Begun,
            generation: 2,
            hold: Some("h".into()),
            is_undoing: true,
            is_corrected: true,
            is_cancel: true,
            arrivals: 3,
            is_letter_left: true,
            note: "goes on".into(),
            ..item(1)
        };
        for _ in 0..2 {
            db.store.record_item("r1", &begun, NOW).await.unwrap();
            assert_eq!(all(&db.store, "r1").await, [item(0), begun.clone()]);
        }
        assert_eq!(db.store.replay_item("r1", 1).await.unwrap(), Some(begun));
        assert_eq!(db.store.replay_item("r1", 2).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_replay_that_has_stopped_knows_how_far_it_had_come_then() {
    in_database(async |db| {
        db.store.begin_replay(&replay("r1", NOW), &[item(0)], NOW).await.unwrap();
        let stopped =
            Replay { state: ReplayState::Stopped, done_at_stop: 7, failed_at_stop: 2, ..replay("r1", NOW) };
        for _ in 0..2 {
            db.store.stop_replay("r1", 7, 2).await.unwrap();
            assert_eq!(db.store.replay("r1").await.unwrap(), Some(stopped.clone()));
        }
        db.store.end_replay("r1").await.unwrap();
        assert_eq!(
            db.store.replay("r1").await.unwrap(),
            Some(Replay { state: ReplayState::Ended, ..stopped })
        );
    })
    .await;
}
