//! The contract per step instance: idempotency, tombstones, fences, serialisation.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{Shop, Step, answer};

#[tokio::test]
async fn a_repeated_do_has_one_effect_and_the_recorded_result() {
    let shop = Shop::start().await;
    let step = Step::of("inventory", "eu1-a-1");

    let first = shop.do_step(&step).await;
    let repeat = shop.do_step(&step).await;

    assert_eq!(first, (StatusCode::OK, json!({ "result": { "units_reserved": 6 } })));
    assert_eq!(repeat, first);
    assert_eq!(shop.get("/inventory/stock/85123A").await, json!({ "on_hand": 1_000_000, "reserved": 6 }));
    assert_eq!(shop.outcomes("inventory", "eu1-a-1").await, ["do effect", "do repeat"]);
}

#[tokio::test]
async fn a_repeated_undo_gives_back_once() {
    let shop = Shop::start().await;
    let step = Step::of("inventory", "eu1-a-1");
    shop.do_step(&step).await;

    let first = shop.undo_step(&step).await;
    let repeat = shop.undo_step(&step).await;

    assert_eq!(first, (StatusCode::OK, json!({ "result": { "units_returned": 6 } })));
    assert_eq!(repeat, first);
    assert_eq!(shop.get("/inventory/stock/85123A").await["reserved"], 0);
    assert_eq!(shop.look(&step).await["state"], "undone");
}

#[tokio::test]
async fn an_undo_before_the_do_leaves_a_tombstone_and_the_late_do_is_cancelled() {
    let shop = Shop::start().await;
    for service in ["inventory", "fulfilment", "accounting"] {
        let step = Step::of(service, "eu1-a-1");

        assert_eq!(shop.undo_step(&step).await, (StatusCode::OK, json!({ "result": { "tombstone": true } })));
        assert_eq!(shop.do_step(&step).await, (StatusCode::CONFLICT, json!({ "cancelled": true })));

        assert_eq!(shop.outcomes(service, "eu1-a-1").await, ["undo tombstone", "do cancelled"]);
        assert_eq!(shop.get(&format!("/{service}/summary")).await["net_done"], 0);
    }
}

#[tokio::test]
async fn a_do_after_its_undo_is_cancelled_even_with_the_old_key() {
    let shop = Shop::start().await;
    let step = Step::of("fulfilment", "eu1-a-1");
    shop.do_step(&step).await;
    shop.undo_step(&step).await;

    assert_eq!(shop.do_step(&step).await, (StatusCode::CONFLICT, json!({ "cancelled": true })));
    assert_eq!(shop.get("/fulfilment/shipments/eu1-a-1").await[0]["status"], "cancelled");
}

#[tokio::test]
async fn a_stale_fence_has_no_effect_and_is_told_the_highest() {
    let shop = Shop::start().await;
    let step = Step::of("inventory", "eu1-a-1");
    shop.do_step(&step.clone().with_fence(7)).await;

    let stale = shop.undo_step(&step.with_fence(6)).await;

    assert_eq!(stale, (StatusCode::CONFLICT, json!({ "stale_fence": 7 })));
    assert_eq!(shop.get("/inventory/stock/85123A").await["reserved"], 6);
}

#[tokio::test]
async fn another_key_for_a_step_that_is_done_is_a_mismatch() {
    let shop = Shop::start().await;
    let step = Step::of("accounting", "eu1-a-1");
    shop.do_step(&step).await;

    let request = shop.request(Method::PUT, &step.path()).json(&step.body());
    let other = request.header("Idempotency-Key", "another").header("Orderfleet-Fence", 1);

    assert_eq!(answer(other).await, (StatusCode::CONFLICT, json!({ "key_mismatch": true })));
    assert_eq!(shop.outcomes("accounting", "eu1-a-1").await, ["do effect", "do key_mismatch"]);
}

#[tokio::test]
async fn a_do_raced_by_its_undo_never_leaves_an_effect_behind() {
    let shop = Shop::start().await;
    for round in 0..200 {
        let order_id = format!("eu1-race-{round}");
        let step = Step::of("inventory", &order_id);
        // Both orders of arrival get their turn to be the likelier one.
        let (done, undone) = if round % 2 == 0 {
            tokio::join!(shop.do_step(&step), shop.undo_step(&step))
        } else {
            let (undone, done) = tokio::join!(shop.undo_step(&step), shop.do_step(&step));
            (done, undone)
        };

        let outcomes = shop.outcomes("inventory", &order_id).await;
        if done.0 == StatusCode::OK {
            assert_eq!(undone.1, json!({ "result": { "units_returned": 6 } }));
            assert_eq!(outcomes, ["do effect", "undo effect"]);
        } else {
            assert_eq!(
                (done.1, undone.1),
                (json!({ "cancelled": true }), json!({ "result": { "tombstone": true } }))
            );
            assert_eq!(outcomes, ["undo tombstone", "do cancelled"]);
        }
        assert_eq!(shop.look(&step).await["state"], "undone");
    }
    let summary = shop.get("/inventory/summary").await;
    assert_eq!((&summary["net_done"], &summary["units_reserved"]), (&json!(0), &json!(0)));
    assert_eq!(summary["do"], summary["undo"]);
    assert_eq!(summary["cancelled"], summary["tombstones"]);
}

#[tokio::test]
async fn twenty_concurrent_dos_of_one_step_have_one_effect() {
    let shop = Shop::start().await;
    let step = Step::of("fulfilment", "eu1-a-1");

    let requests = (0..20).map(|_| tokio::spawn(answer(shop.do_request(&step))));
    for request in requests.collect::<Vec<_>>() {
        assert_eq!(request.await.unwrap().0, StatusCode::OK);
    }

    let summary = shop.get("/fulfilment/summary").await;
    assert_eq!((&summary["do"], &summary["repeats"]), (&json!(1), &json!(19)));
    assert_eq!(summary["shipments_open"], 1);
}

#[tokio::test]
async fn looking_at_an_unknown_step_says_none_and_leaves_no_record() {
    let shop = Shop::start().await;
    let step = Step::of("inventory", "eu1-a-1");

    let look = shop.look(&step).await;
    assert_eq!((&look["instance"], &look["state"]), (&json!("eu1-a-1.1.inventory"), &json!("none")));
    assert_eq!((look.get("fence"), look.get("result")), (None, None));
    assert_eq!(shop.text("/inventory/ledger").await, "");
    shop.do_step(&step).await;
    let done = json!({
        "instance": "eu1-a-1.1.inventory", "state": "done", "fence": 1, "result": { "units_reserved": 6 },
    });
    assert_eq!(shop.look(&step).await, done);
}

#[tokio::test]
async fn a_malformed_call_is_told_which_part_is_wrong() {
    let shop = Shop::start().await;
    let step = Step::of("inventory", "eu1-a-1");
    let call = |path: &str| shop.request(Method::PUT, path).json(&step.body());
    let with_body = |change: fn(&mut serde_json::Value)| {
        let mut body = step.body();
        change(&mut body);
        shop.do_request(&step).json(&body)
    };
    let cases = [
        ("Idempotency-Key", call(&step.path()).header("Orderfleet-Fence", 1)),
        ("Orderfleet-Fence", call(&step.path()).header("Idempotency-Key", "k")),
        ("instance", call("/inventory/steps/EU1.1.inventory")),
        ("instance", call("/inventory/steps/no-parts")),
        ("order_id", with_body(|body| body["order_id"] = "eu1-b-2".into())),
        ("gen", with_body(|body| body["gen"] = 2.into())),
        ("account", with_body(|body| body["account"] = 7.into())),
        ("order.lines[0].quantity", with_body(|body| body["order"]["lines"][0]["quantity"] = 0.into())),
        (
            "order.lines[0].unit_price",
            with_body(|body| body["order"]["lines"][0]["unit_price"] = 2.55.into()),
        ),
        (
            "order.lines[0].unit_price",
            with_body(|body| body["order"]["lines"][0]["unit_price"] = "0.00001".into()),
        ),
        ("order.lines", with_body(|body| body["order"]["lines"] = json!([]))),
    ];
    for (part, request) in cases {
        let (status, body) = answer(request).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{part}: {body}");
        assert!(body["error"].as_str().unwrap().starts_with(part), "{part}: {body}");
    }
    let too_large = shop.do_request(&step).body(vec![b' '; 3 * 1024 * 1024]);
    assert_eq!(answer(too_large).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(shop.text("/inventory/ledger").await, "");
}

#[tokio::test]
async fn every_do_of_a_batch_is_judged_as_if_it_had_come_alone() {
    let shop = Shop::start().await;
    let [new, done, undone, stale] =
        ["eu1-a-1", "eu1-a-2", "eu1-a-3", "eu1-a-4"].map(|order_id| Step::of("inventory", order_id));
    shop.do_step(&done).await;
    shop.undo_step(&undone).await;
    shop.do_step(&stale.clone().with_fence(9)).await;
    let malformed = json!({ "instance": "eu1-a-5.1.inventory", "key": "k", "fence": 1, "body": {} });
    let without_key = json!({ "instance": "eu1-a-6.1.inventory", "fence": 1, "body": {} });

    let calls = [
        new.batched(),
        done.batched(),
        malformed,
        undone.batched(),
        without_key,
        stale.batched(),
        new.batched(),
    ];
    let answers = shop.do_batch("inventory", &calls).await;

    let reserved = json!({ "result": { "units_reserved": 6 } });
    let statuses: Vec<_> = answers.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200, 200, 400, 409, 400, 409, 200]);
    for index in [0, 1, 6] {
        assert_eq!(answers[index].1, reserved);
    }
    assert_eq!(answers[3].1, json!({ "cancelled": true }));
    assert_eq!(answers[5].1, json!({ "stale_fence": 9 }));
    assert_eq!(shop.do_step(&new).await, (StatusCode::OK, reserved));
    assert_eq!(shop.outcomes("inventory", "eu1-a-1").await, ["do effect", "do repeat", "do repeat"]);
    assert_eq!(shop.do_batch("inventory", &[]).await, []);
}
