//! Holds that a parker sets: claims, inserts and notes that no slow worker takes for anything else.

use orderfleet_domain::saga::{Claim, ClaimKind, Hold, Note, Phase, Phases, Record, StoreReply};

use crate::support::{NOW, claimed, in_database, order_id};

fn hold() -> Option<Hold> {
    Some(Hold { id: "h".into(), step: "inventory".parse().unwrap(), reason: "crashed".into(), at: NOW })
}

#[tokio::test]
async fn a_hold_is_a_claim_that_a_slow_owner_finds_at_a_newer_epoch() {
    in_database(async |db| {
        let base = db.first();
        let id = db.given("a", &base).await;
        // Applied, but its answer was lost.
        let lost = db.write(&base, |next| (next.cur, next.hi) = (1, 1));
        assert_eq!(db.store.write(&id, &lost).await, StoreReply::Applied);
        let held = db.write(&lost.next, |next| {
            next.epoch += 1;
            (next.hold, next.owner, next.lease_until) = (hold(), None, 0);
        });
        assert_eq!(db.store.write(&id, &held).await, StoreReply::Applied);
        assert_eq!(db.store.write(&id, &held).await, StoreReply::NoMatch, "a repeat");

        assert_eq!(db.store.write(&id, &lost).await, StoreReply::NoMatch);
        let found = db.stored(&id).await;
        assert_eq!(found, held.next);
        assert!(found.epoch > lost.next.epoch && found.nonce != lost.next.nonce);
    })
    .await;
}

#[tokio::test]
async fn an_order_that_is_inserted_held_can_be_decided_about_and_not_begun() {
    in_database(async |db| {
        let first = Record { owner: None, lease_until: 0, hold: hold(), ..db.first() };
        let id = db.given("a", &first).await;
        assert_eq!(db.insert(&id, &db.first()).await, StoreReply::Exists, "by a worker that is late");
        assert_eq!(db.stored(&id).await, first);
        for redelivered in [false, true] {
            for phases in [Phases::Run, Phases::Either] {
                let claim = db.claim("w", ClaimKind::Continue(phases));
                let claim = Claim { redelivered, ..claim };
                assert_eq!(db.store.claim(&id, &claim).await.0, StoreReply::NoMatch);
            }
        }
        let (reply, order) = db.store.claim(&id, &db.claim("w", ClaimKind::Resolve("h".into()))).await;
        assert_eq!((claimed(reply).hold, order.is_some()), (hold(), true));
    })
    .await;
}

#[tokio::test]
async fn an_ended_order_that_owes_its_event_again_is_swept() {
    in_database(async |db| {
        for (key, phase) in [("done", Phase::Done), ("undone", Phase::Undone)] {
            let id = db.given(key, &Record { phase, rev: 5, ..db.first() }).await;
            let owed = |rev| Note::Owed { generation: 1, rev, owed: true };
            assert_eq!(db.store.note(&id, &owed(4)).await, StoreReply::NoMatch, "another write came between");
            assert_eq!(db.store.note(&id, &owed(5)).await, StoreReply::Applied);
        }
        let mut swept: Vec<_> =
            db.store.overdue(NOW, 10).await.unwrap().into_iter().map(|found| found.order_id).collect();
        swept.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        let mut both = [order_id("done"), order_id("undone")];
        both.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        assert_eq!(swept, both);
    })
    .await;
}
