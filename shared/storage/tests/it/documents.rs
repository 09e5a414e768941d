//! What goes in comes out, exactly.

use jiff::Timestamp;
use mongodb::bson::{Bson, doc, spec::ElementType};
use orderfleet_domain::{
    Money, Order,
    saga::{Cause, CauseClass, Hold, Nonce, Phase, Record, StepResult, StepState, StoreReply},
};

use crate::support::{NOW, account, fp, in_database, order, order_id, steps, worker};

/// A record in which no field has the value it starts with.
fn full() -> Record {
    let result = |step: usize, state| StepResult {
        step: steps()[step].clone(),
        state,
        result: r#"{"id":1}"#.into(),
        at: NOW + 4,
    };
    Record {
        sv: 1,
        fp: fp(),
        steps: steps(),
        generation: 3,
        is_final: true,
        phase: Phase::Comp,
        cur: 1,
        hi: 2,
        att: 4,
        waits: 5,
        due_at: Some(NOW + 1),
        charged_at: Some(NOW + 2),
        excused_ms: 6,
        hold: Some(Hold {
            id: "h".into(),
            step: steps()[1].clone(),
            reason: "shipped: gone".into(),
            at: NOW + 3,
        }),
        cancel: true,
        epoch: 1 << 40,
        rev: 1 << 41,
        nonce: Nonce(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        owner: Some(worker("w9")),
        lease_until: NOW + 5,
        evp: true,
        cause: Some(Cause {
            class: CauseClass::Refused,
            step: steps()[2].clone(),
            code: Some("out_of_stock".into()),
            message: "none left".into(),
            rev: 3,
        }),
        results: vec![
            result(0, StepState::Done),
            result(1, StepState::Undone),
            result(2, StepState::SettledByPerson),
        ],
    }
}

#[tokio::test]
async fn a_record_survives_the_round_trip_field_by_field() {
    in_database(async |db| {
        let full = full();
        let id = db.given("full", &full).await;
        assert_eq!(db.stored(&id).await, full);
        let first = db.first();
        let id = db.given("first", &first).await;
        assert_eq!(db.stored(&id).await, first);
        let write = db.write(&first, |next| {
            *next = Record {
                generation: 1,
                epoch: 1,
                rev: 2,
                nonce: next.nonce,
                cancel: false,
                evp: false,
                ..full
            };
        });
        assert_eq!(db.store.write(&id, &write).await, StoreReply::Applied);
        assert_eq!(db.stored(&id).await, write.next);
        assert_eq!(db.store.read(&order_id("absent")).await, StoreReply::Found(None));
    })
    .await;
}

#[tokio::test]
async fn times_are_dates_money_is_decimal_and_the_nonce_is_binary() {
    in_database(async |db| {
        let id = db.given("a", &full()).await;
        let document = db.document(&id).await;
        let order = document.get_document("order").unwrap();
        let line = order.get_array("lines").unwrap()[0].as_document().unwrap();
        assert_eq!(line.get("unit_price").unwrap().element_type(), ElementType::Decimal128);
        assert_eq!(order.get("placed_at").unwrap().element_type(), ElementType::DateTime);
        for field in ["due_at", "charged_at", "lease_until", "accepted_at", "created_at", "updated_at"] {
            assert_eq!(document.get(field).unwrap().element_type(), ElementType::DateTime, "{field}");
        }
        assert_eq!(document.get("nonce").unwrap().element_type(), ElementType::Binary);
        for field in ["epoch", "rev"] {
            assert_eq!(document.get(field).unwrap().element_type(), ElementType::Int64, "{field}");
        }
    })
    .await;
}

#[tokio::test]
async fn exact_decimals_survive() {
    in_database(async |db| {
        let prices = ["0.001", "2.50", "0", "0.0000", "999999999999999.9999", "1", "100000000000000"];
        let mut exact = order();
        exact.lines = prices
            .iter()
            .map(|price| orderfleet_domain::Line {
                unit_price: price.parse::<Money>().unwrap(),
                ..order().lines[0].clone()
            })
            .collect();
        let id = order_id("a");
        let reply = db.store.insert(&id, &account(), &exact, Timestamp::UNIX_EPOCH, &db.first()).await;
        assert_eq!(reply, StoreReply::Applied);
        let view = db.store.find_for_account(&id, &account()).await.unwrap().unwrap();
        let texts: Vec<_> = view.order.lines.iter().map(|line| line.unit_price.to_string()).collect();
        assert_eq!(texts, prices);
        assert_eq!(view.order.total(), exact.total());

        let sum =
            doc! { "$group": { "_id": null, "sum": { "$sum": { "$sum": "$order.lines.unit_price" } } } };
        let mut summed = db.orders().aggregate([sum]).await.unwrap();
        assert!(summed.advance().await.unwrap());
        let sum = summed.deserialize_current().unwrap();
        assert_eq!(sum.get("sum").map(Bson::to_string).unwrap_or_default(), "1100000000000003.5009");
    })
    .await;
}

#[tokio::test]
async fn an_order_survives_whatever_its_metadata_looks_like() {
    in_database(async |db| {
        let mut odd = order();
        odd.customer_ref = None;
        odd.lines[0].description = None;
        odd.placed_at = Some("2010-12-01T08:26:00.123456789Z".parse().unwrap());
        let metadata = [
            ("$oid", "507f1f77bcf86cd799439011"),
            ("$numberDecimal", "1"),
            ("$set", "x"),
            ("a.b", "y"),
            ("$ref", "z"),
        ];
        let insert = async |key: &str, order: &Order| {
            let reply =
                db.store.insert(&order_id(key), &account(), order, Timestamp::UNIX_EPOCH, &db.first()).await;
            assert_eq!(reply, StoreReply::Applied, "{key}");
            let view = db.store.find_for_account(&order_id(key), &account()).await.unwrap().unwrap();
            assert_eq!(view.order, *order, "{key}");
            let claim = db.go_on("w1");
            let (_, claimed) = db.store.claim(&order_id(key), &claim).await;
            let fp = db.stored(&order_id(key)).await.fp;
            assert!(claimed.is_some() || fp != claim.fp.unwrap(), "{key}");
        };
        for (key, value) in metadata {
            odd.metadata = [(key.to_owned(), value.to_owned())].into();
            insert(key, &odd).await;
        }
        odd.metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        insert("all", &odd).await;
        odd.metadata.clear();
        insert("none", &odd).await;
    })
    .await;
}

#[tokio::test]
async fn only_the_owning_account_finds_an_order() {
    in_database(async |db| {
        let accepted_at = Timestamp::from_millisecond(NOW).unwrap();
        let first = db.first();
        let id = order_id("a");
        let reply = db.store.insert(&id, &account(), &order(), accepted_at, &first).await;
        assert_eq!(reply, StoreReply::Applied);
        let view = db.store.find_for_account(&id, &account()).await.unwrap().unwrap();
        assert_eq!((view.record, view.order, view.accepted_at), (first, order(), accepted_at));
        assert_eq!((view.history.len(), view.conflicts, view.account), (0, 0, account()));
        assert_eq!(db.store.find_for_account(&id, &"other".parse().unwrap()).await.unwrap(), None);
        assert_eq!(db.store.find_for_account(&order_id("b"), &account()).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn of_twenty_inserts_at_once_one_is_applied() {
    in_database(async |db| {
        let inserts = (0..20).map(|_| {
            let db = db.clone();
            tokio::spawn(async move { db.insert(&order_id("a"), &db.first()).await })
        });
        let mut applied = 0;
        for insert in inserts.collect::<Vec<_>>() {
            match insert.await.unwrap() {
                StoreReply::Applied => applied += 1,
                reply => assert_eq!(reply, StoreReply::Exists),
            }
        }
        assert_eq!(applied, 1);
    })
    .await;
}
