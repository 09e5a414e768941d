//! Compare-and-set: what passes, what does not, and what it leaves alone.

use mongodb::bson::Bson;
use orderfleet_domain::saga::{Entry, Expect, Note, Phase, Record, StoreReply, Write};

use crate::support::{NOW, claimed, in_database, order_id, steps};

#[tokio::test]
async fn a_write_replaces_the_record_and_is_recognised_by_its_nonce() {
    in_database(async |db| {
        let first = db.first();
        let id = db.given("a", &first).await;
        let write = db.write(&first, |next| {
            next.cur = 1;
            next.hi = 1;
            next.lease_until = NOW + 1;
        });
        assert_eq!(db.store.write(&id, &write).await, StoreReply::Applied);
        assert_eq!(db.stored(&id).await, write.next);

        assert_eq!(db.store.write(&id, &write).await, StoreReply::NoMatch, "its repeat finds it applied");
        let stored = db.stored(&id).await;
        assert_eq!((stored.nonce, stored.rev), (write.next.nonce, 2));
    })
    .await;
}

#[tokio::test]
async fn a_write_on_what_is_no_longer_so_changes_nothing() {
    in_database(async |db| {
        let first = db.first();
        let id = db.given("a", &first).await;
        let good = db.write(&first, |next| next.cur = 1);
        let cases = [
            ("epoch", Expect { epoch: 0, ..good.expect }),
            ("rev", Expect { rev: 0, ..good.expect }),
            ("generation", Expect { generation: 2, ..good.expect }),
            ("absurd rev", Expect { rev: u64::MAX, ..good.expect }),
        ];
        for (what, expect) in cases {
            let write = Write { expect, ..good.clone() };
            assert_eq!(db.store.write(&id, &write).await, StoreReply::NoMatch, "{what}");
        }
        assert_eq!(db.store.write(&order_id("absent"), &good).await, StoreReply::NoMatch);
        assert_eq!(db.stored(&id).await, first);

        let claim = db.go_on("w1");
        claimed(db.store.claim(&id, &claim).await.0);
        assert_eq!(db.store.write(&id, &good).await, StoreReply::NoMatch, "fenced by a newer claim");
    })
    .await;
}

#[tokio::test]
async fn a_write_leaves_cancel_alone_and_heeds_it_where_it_must() {
    in_database(async |db| {
        let first = db.first();
        let id = db.given("a", &first).await;
        assert_eq!(db.store.note(&id, &Note::Cancel).await, StoreReply::Applied);

        let mut write = db.write(&first, |next| next.cur = 1);
        write.expect.uncancelled = true;
        assert_eq!(db.store.write(&id, &write).await, StoreReply::NoMatch);
        write.expect.uncancelled = false;
        assert_eq!(db.store.write(&id, &write).await, StoreReply::Applied);
        assert_eq!(db.stored(&id).await, Record { cancel: true, ..write.next });
    })
    .await;
}

#[tokio::test]
async fn a_write_raises_the_owed_flag_but_never_lowers_it() {
    in_database(async |db| {
        let first = db.first();
        let id = db.given("a", &first).await;
        let owing = Write { owes: true, ..db.write(&first, |next| next.evp = true) };
        assert_eq!(db.store.write(&id, &owing).await, StoreReply::Applied);
        assert!(db.stored(&id).await.evp);

        let lowering = db.write(&owing.next, |next| next.evp = false);
        assert_eq!(db.store.write(&id, &lowering).await, StoreReply::Applied);
        assert!(db.stored(&id).await.evp);
    })
    .await;
}

#[tokio::test]
async fn history_keeps_the_newest_sixty_four_entries() {
    in_database(async |db| {
        let mut base = db.first();
        let id = db.given("a", &base).await;
        for number in 0..40_i64 {
            let entry = |at, detail| Entry {
                at,
                what: "attempt_failed".into(),
                step: Some(steps()[0].clone()),
                detail,
            };
            let mut write = db.write(&base, |next| next.att += 1);
            write.entries =
                vec![entry(NOW + 2 * number, None), entry(NOW + 2 * number + 1, Some(format!("{number}")))];
            assert_eq!(db.store.write(&id, &write).await, StoreReply::Applied);
            base = write.next;
        }
        let view = db.store.find_for_account(&id, &crate::support::account()).await.unwrap().unwrap();
        let times: Vec<_> = view.history.iter().map(|entry| entry.at - NOW).collect();
        assert_eq!(times, (16..80).collect::<Vec<_>>());
        assert_eq!(view.history[63].detail.as_deref(), Some("39"));
    })
    .await;
}

#[tokio::test]
async fn an_ended_run_keeps_no_lease() {
    in_database(async |db| {
        let first = db.first();
        let id = db.given("a", &first).await;
        let write = db.write(&first, |next| {
            next.phase = Phase::Done;
            next.owner = None;
            next.lease_until = 0;
        });
        assert_eq!(db.store.write(&id, &write).await, StoreReply::Applied);
        let document = db.document(&id).await;
        for field in ["owner", "lease_until"] {
            assert_eq!(document.get(field), Some(&Bson::Null), "{field}");
        }
    })
    .await;
}
