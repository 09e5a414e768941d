//! Claims: who gets an order, and what a new run starts from.

use mongodb::bson::doc;
use orderfleet_domain::{
    Order,
    saga::{Cause, CauseClass, Claim, ClaimKind, DOCUMENT_VERSION, Hold, Phase, Phases, Record, StoreReply},
};

use crate::support::{
    LEASE_MS, NOW, account, claimed, in_database, order, order_id, other_fp, steps, worker,
};

#[tokio::test]
async fn a_live_lease_excludes_others_but_not_its_owner() {
    in_database(async |db| {
        let first = db.first();
        let id = db.given("a", &first).await;
        assert_eq!(db.store.claim(&id, &db.go_on("w2")).await, (StoreReply::NoMatch, None));

        let again = db.go_on("w1");
        let (reply, at_hand) = db.store.claim(&id, &again).await;
        let (record, stored_order) = (claimed(reply), at_hand.map(|at_hand| at_hand.order));
        let expected = Record { epoch: 2, rev: 2, nonce: again.nonce, ..first };
        assert_eq!((&record, stored_order), (&expected, Some(order())));
        assert_eq!(db.stored(&id).await, record);
    })
    .await;
}

#[tokio::test]
async fn a_redelivered_claim_passes_a_live_lease() {
    in_database(async |db| {
        let id = db.given("a", &db.first()).await;
        let claim = orderfleet_domain::saga::Claim { redelivered: true, ..db.go_on("w2") };
        let record = claimed(db.store.claim(&id, &claim).await.0);
        assert_eq!((record.owner, record.epoch), (Some(worker("w2")), 2));
    })
    .await;
}

#[tokio::test]
async fn a_lease_that_is_over_or_was_given_back_or_cannot_be_right_is_free() {
    in_database(async |db| {
        let over = Record { lease_until: NOW - 1, ..db.first() };
        let given_back = Record { lease_until: 0, owner: None, ..db.first() };
        let wrong_clock = Record { lease_until: NOW + 3_600_000, ..db.first() };
        for (key, record) in [("over", over), ("given-back", given_back), ("wrong-clock", wrong_clock)] {
            let id = db.given(key, &record).await;
            assert_eq!(claimed(db.store.claim(&id, &db.go_on("w2")).await.0).lease_until, NOW + LEASE_MS);
        }
    })
    .await;
}

#[tokio::test]
async fn of_claims_at_the_same_time_each_fences_the_one_before() {
    in_database(async |db| {
        let id = db.given("a", &Record { lease_until: 0, ..db.first() }).await;
        let claims = (0..10).map(|number| {
            let (db, id) = (db.clone(), id.clone());
            tokio::spawn(async move { db.store.claim(&id, &db.go_on(&format!("w{number}x"))).await.0 })
        });
        let mut won = 0;
        for claim in claims.collect::<Vec<_>>() {
            match claim.await.unwrap() {
                StoreReply::Claimed(record) => {
                    won += 1;
                    assert_eq!(record.epoch, 2);
                }
                reply => assert_eq!(reply, StoreReply::NoMatch),
            }
        }
        assert_eq!(won, 1);
    })
    .await;
}

#[tokio::test]
async fn a_claim_misses_what_it_is_not_meant_for() {
    in_database(async |db| {
        let free = Record { lease_until: 0, ..db.first() };
        let hold = Hold { id: "h1".into(), step: steps()[0].clone(), reason: "shipped".into(), at: NOW };
        let cases = [
            ("comp", Record { phase: Phase::Comp, ..free.clone() }),
            ("done", Record { phase: Phase::Done, ..free.clone() }),
            ("held", Record { hold: Some(hold), ..free.clone() }),
            ("later-run", Record { generation: 2, ..free.clone() }),
            ("other-body", Record { fp: other_fp(0), ..free.clone() }),
            ("newer-build", Record { sv: DOCUMENT_VERSION + 1, ..free.clone() }),
        ];
        for (key, record) in cases {
            let id = db.given(key, &record).await;
            assert_eq!(db.store.claim(&id, &db.go_on("w2")).await.0, StoreReply::NoMatch, "{key}");
            assert_eq!(db.stored(&id).await, record, "{key}");
        }
        assert_eq!(db.store.claim(&order_id("absent"), &db.go_on("w2")).await.0, StoreReply::NoMatch);
    })
    .await;
}

#[tokio::test]
async fn quarantine_claims_either_phase_but_no_ended_run() {
    in_database(async |db| {
        let cases = [(Phase::Run, true), (Phase::Comp, true), (Phase::Done, false), (Phase::Undone, false)];
        for (phase, passes) in cases {
            let id = db.given(phase.as_str(), &Record { phase, lease_until: 0, ..db.first() }).await;
            let claim = db.claim("w2", ClaimKind::Continue(Phases::Either));
            let reply = db.store.claim(&id, &claim).await.0;
            assert_eq!(matches!(reply, StoreReply::Claimed(_)), passes, "{phase:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_decision_claims_the_hold_it_names_and_no_later_one() {
    in_database(async |db| {
        let hold = Hold { id: "h2".into(), step: steps()[1].clone(), reason: "shipped".into(), at: NOW };
        let record = Record { phase: Phase::Comp, hold: Some(hold.clone()), lease_until: 0, ..db.first() };
        let id = db.given("a", &record).await;
        let earlier = db.claim("w2", ClaimKind::Resolve("h1".into()));
        assert_eq!(db.store.claim(&id, &earlier).await.0, StoreReply::NoMatch);
        let this = db.claim("w2", ClaimKind::Resolve("h2".into()));
        assert_eq!(claimed(db.store.claim(&id, &this).await.0).hold, Some(hold));
    })
    .await;
}

#[tokio::test]
async fn a_new_run_resets_what_belongs_to_the_run_before() {
    in_database(async |db| {
        let cause = Cause {
            class: CauseClass::DeadlinePassed,
            step: steps()[1].clone(),
            code: None,
            message: "timeout".into(),
            rev: 3,
        };
        let undone = Record {
            phase: Phase::Undone,
            cur: 0,
            hi: 2,
            att: 3,
            waits: 4,
            due_at: Some(NOW),
            charged_at: Some(NOW),
            excused_ms: 5,
            cause: Some(cause),
            lease_until: 0,
            owner: None,
            epoch: 7,
            rev: 11,
            ..db.first()
        };
        let id = db.given("a", &undone).await;
        let claim = db.claim("w2", ClaimKind::NewRun);
        let record = claimed(db.store.claim(&id, &claim).await.0);
        let expected = Record {
            epoch: 8,
            rev: 12,
            nonce: claim.nonce,
            owner: Some(worker("w2")),
            lease_until: NOW + LEASE_MS,
            ..undone.next_run()
        };
        assert_eq!(record, expected);
        assert_eq!(db.store.claim(&id, &claim).await.0, StoreReply::NoMatch, "run 2 starts once");
    })
    .await;
}

#[tokio::test]
async fn no_run_follows_a_final_a_running_or_an_owing_one() {
    in_database(async |db| {
        let free = Record { lease_until: 0, ..db.first() };
        let is_final = Record { phase: Phase::Undone, is_final: true, ..free.clone() };
        let owing = Record { phase: Phase::Undone, evp: true, ..free.clone() };
        for (key, record) in [("final", is_final), ("running", free), ("owing", owing)] {
            let id = db.given(key, &record).await;
            let claim = db.claim("w2", ClaimKind::NewRun);
            assert_eq!(db.store.claim(&id, &claim).await.0, StoreReply::NoMatch, "{key}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_run_on_a_corrected_order_works_on_it_as_do_the_runs_after_it() {
    in_database(async |db| {
        let undone = Record { phase: Phase::Undone, lease_until: 0, owner: None, ..db.first() };
        let id = db.given("a", &undone).await;
        let corrected = Order { payment_ref: "pay_corrected".parse().unwrap(), ..order() };
        let claim = db.claim("w2", ClaimKind::NewRun);
        let (reply, at_hand) = db.store.claim_corrected(&id, &claim, &corrected).await;
        let (record, worked) = (claimed(reply), at_hand.map(|at_hand| at_hand.order));
        assert_eq!((record.generation, record.sv, worked), (2, DOCUMENT_VERSION, Some(corrected.clone())));
        let twice = db.store.claim_corrected(&id, &claim, &order()).await;
        assert_eq!(twice, (StoreReply::NoMatch, None), "run 2 starts once");

        let ended = doc! { "$set": { "phase": "UNDONE", "lease_until": null, "owner": null } };
        db.orders().update_one(doc! { "_id": id.as_str() }, ended).await.unwrap();
        let third = Claim { generation: 2, ..db.claim("w3", ClaimKind::NewRun) };
        let (reply, at_hand) = db.store.claim(&id, &third).await;
        let worked = at_hand.map(|at_hand| at_hand.order);
        assert_eq!((claimed(reply).sv, worked), (DOCUMENT_VERSION, Some(corrected.clone())));
        let view = db.store.find_for_account(&id, &account()).await.unwrap().unwrap();
        assert_eq!((view.order, view.correction), (order(), Some((2, corrected))), "what was posted stays");
    })
    .await;
}
