//! Notes: written by anybody, and nothing a decision is based on moves.

use mongodb::bson::doc;
use orderfleet_domain::saga::{DOCUMENT_VERSION, Note, Phase, Record, StoreReply};

use crate::support::{NOW, account, in_database, order_id, other_fp};

fn owed(generation: u32, rev: u64, owed: bool) -> Note {
    Note::Owed { generation, rev, owed }
}

#[tokio::test]
async fn a_note_never_touches_rev_epoch_or_nonce() {
    in_database(async |db| {
        let first = db.first();
        let id = db.given("a", &first).await;
        for note in [Note::Cancel, Note::CancelTooLate(5), Note::Conflict(other_fp(0)), owed(1, 1, true)] {
            assert_eq!(db.store.note(&id, &note).await, StoreReply::Applied, "{note:?}");
        }
        assert_eq!(db.stored(&id).await, Record { cancel: true, evp: true, ..first });
    })
    .await;
}

#[tokio::test]
async fn a_cancel_is_noted_while_the_order_runs_and_again_and_again() {
    in_database(async |db| {
        for (phase, reply) in [
            (Phase::Run, StoreReply::Applied),
            (Phase::Comp, StoreReply::Applied),
            (Phase::Done, StoreReply::NoMatch),
            (Phase::Undone, StoreReply::NoMatch),
        ] {
            let id = db.given(phase.as_str(), &Record { phase, ..db.first() }).await;
            for _ in 0..2 {
                assert_eq!(db.store.note(&id, &Note::Cancel).await, reply, "{phase:?}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_document_of_a_newer_version_is_neither_noted_in_nor_swept() {
    in_database(async |db| {
        let first = Record { evp: true, ..db.first() };
        let id = db.given("a", &first).await;
        let newer = doc! { "$set": { "sv": i64::from(DOCUMENT_VERSION) + 1 } };
        db.orders().update_one(doc! { "_id": id.as_str() }, newer).await.unwrap();
        let before = db.document(&id).await;
        for note in [Note::Cancel, Note::CancelTooLate(5), Note::Conflict(other_fp(0)), owed(1, 1, false)] {
            assert_eq!(db.store.note(&id, &note).await, StoreReply::NoMatch, "{note:?}");
        }
        assert_eq!(db.store.overdue(NOW, 10).await.unwrap(), []);
        assert_eq!(db.document(&id).await, before);
    })
    .await;
}

#[tokio::test]
async fn an_order_of_another_account_is_not_found_for_a_message_that_only_names_its_id() {
    in_database(async |db| {
        let first = db.first();
        let id = db.given("a", &first).await;
        let found = StoreReply::Found(Some(Box::new(first)));
        assert_eq!(db.store.read_of_account(&id, &account()).await, found);
        let other = "other".parse().unwrap();
        assert_eq!(db.store.read_of_account(&id, &other).await, StoreReply::Found(None));
    })
    .await;
}

#[tokio::test]
async fn a_cancel_that_came_too_late_is_in_the_history() {
    in_database(async |db| {
        let id = db.given("a", &Record { phase: Phase::Done, ..db.first() }).await;
        assert_eq!(db.store.note(&id, &Note::CancelTooLate(5)).await, StoreReply::Applied);
        let document = db.document(&id).await;
        let last = document.get_array("history").unwrap().last().unwrap().as_document().unwrap();
        assert_eq!(last.get_str("what").unwrap(), "cancel_too_late");
    })
    .await;
}

#[tokio::test]
async fn a_conflict_is_noted_once_and_the_newest_sixteen_are_kept() {
    in_database(async |db| {
        let id = db.given("a", &db.first()).await;
        for number in 0..20 {
            for _ in 0..2 {
                let note = Note::Conflict(other_fp(number));
                assert_eq!(db.store.note(&id, &note).await, StoreReply::Applied);
            }
            let view = db.store.find_for_account(&id, &account()).await.unwrap().unwrap();
            assert_eq!(view.conflicts, (number as usize + 1).min(16));
        }
        let document = db.document(&id).await;
        let kept = document.get_array("conflicts").unwrap();
        let newest = kept[15].as_document().unwrap();
        assert_eq!(newest.get_str("fp").unwrap(), other_fp(19).as_str());
        assert!(newest.get_datetime("at").is_ok());
    })
    .await;
}

#[tokio::test]
async fn the_owed_flag_is_set_at_the_run_and_revision_that_was_read() {
    in_database(async |db| {
        let id = db.given("a", &Record { rev: 5, generation: 2, ..db.first() }).await;
        assert_eq!(db.store.note(&id, &owed(2, 4, true)).await, StoreReply::NoMatch);
        assert_eq!(db.store.note(&id, &owed(1, 5, true)).await, StoreReply::NoMatch);
        for flag in [true, true, false, false] {
            assert_eq!(db.store.note(&id, &owed(2, 5, flag)).await, StoreReply::Applied);
            assert_eq!(db.stored(&id).await.evp, flag);
        }
    })
    .await;
}

#[tokio::test]
async fn a_note_on_an_order_without_a_document_matches_nothing() {
    in_database(async |db| {
        for note in [Note::Cancel, Note::CancelTooLate(5), Note::Conflict(other_fp(0)), owed(1, 1, true)] {
            assert_eq!(db.store.note(&order_id("absent"), &note).await, StoreReply::NoMatch, "{note:?}");
        }
        assert_eq!(db.orders().count_documents(mongodb::bson::doc! {}).await.unwrap(), 0);
    })
    .await;
}
