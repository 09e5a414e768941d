//! Scripted misbehaviour: each kind of rule, and rules that are wrong.

use std::time::{Duration, Instant};

use orderfleet_sandbox::{Options, Rule, Sandbox};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Shop, Step, answer};

#[tokio::test]
async fn refuse_sku_refuses_exactly_the_orders_that_hold_it() {
    let shop = Shop::with_faults(&["fulfilment:refuse_sku=22423"]).await;
    for number in 0..20 {
        let sku = if number % 3 == 0 { "22423" } else { "85123A" };
        let lines = [("85099B", 1, "1.95"), (sku, 2, "0.85")];
        for service in ["inventory", "fulfilment"] {
            let step = Step::of(service, &format!("eu1-a-{number}")).with_lines(&lines);
            let (status, body) = shop.do_step(&step).await;
            let is_refused = service == "fulfilment" && sku == "22423";
            assert_eq!(status == StatusCode::UNPROCESSABLE_ENTITY, is_refused, "order {number}: {body}");
            assert_eq!(body["refused"]["code"] == "sku_refused", is_refused, "order {number}: {body}");
        }
    }
    assert_eq!(shop.get("/fulfilment/summary").await["refused"], 7);
    assert_eq!(shop.get("/faults").await[0]["fired"], 7);
}

#[tokio::test]
async fn refuse_country_reads_the_shipping_address() {
    let shop = Shop::with_faults(&["*:refuse_country=DE"]).await;
    let mut abroad = Step::of("fulfilment", "eu1-a-1");
    abroad.order["ship_to"]["country"] = "DE".into();

    assert_eq!(shop.do_step(&abroad).await.1["refused"]["code"], "country_refused");
    assert_eq!(shop.do_step(&Step::of("fulfilment", "eu1-a-2")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_lost_reply_has_its_effect_and_the_repeat_gets_the_recorded_result() {
    let shop = Shop::with_faults(&["accounting:lost_reply,times=1"]).await;
    let step = Step::of("accounting", "eu1-a-1");

    let lost = shop.do_request(&step).send().await;
    assert!(lost.is_err(), "{lost:?}");
    assert_eq!(shop.look(&step).await["state"], "done");

    let repeat = shop.do_step(&step).await;
    assert_eq!(repeat, (StatusCode::OK, json!({ "result": { "booked": "15.30", "currency": "GBP" } })));
    assert_eq!(shop.outcomes("accounting", "eu1-a-1").await, ["do effect", "do repeat"]);
}

#[tokio::test]
async fn errors_outages_and_hangs_have_no_effect() {
    let shop =
        Shop::with_faults(&["inventory:error_rate=1", "fulfilment:unavailable", "accounting:hang"]).await;

    let failed = shop.do_step(&Step::of("inventory", "eu1-a-1")).await;
    let unavailable = shop.do_step(&Step::of("fulfilment", "eu1-a-1")).await;
    let hanging = shop.do_request(&Step::of("accounting", "eu1-a-1")).timeout(Duration::from_millis(200));

    assert_eq!(failed.0, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(unavailable.0, StatusCode::SERVICE_UNAVAILABLE);
    assert!(hanging.send().await.expect_err("it never answers").is_timeout());
    for service in ["inventory", "fulfilment", "accounting"] {
        assert_eq!(shop.text(&format!("/{service}/ledger")).await, "");
    }
    let fired: Vec<Value> =
        shop.get("/faults").await.as_array().unwrap().iter().map(|rule| rule["fired"].clone()).collect();
    assert_eq!(fired, [1, 1, 1]);
}

#[tokio::test]
async fn healing_lets_go_of_hanging_calls_without_an_answer() {
    for heal in [Method::DELETE, Method::PUT] {
        let shop = Shop::with_faults(&["*:hang,times=1"]).await;
        let step = Step::of("inventory", "eu1-a-1");
        let hanging = tokio::spawn(shop.do_request(&step).send());
        until_fired(&shop, 1).await;

        answer(shop.request(heal, "/faults").json(&json!([]))).await;

        let error = hanging.await.unwrap().expect_err("it was never answered");
        assert!(!error.is_timeout(), "{error:?}");
        assert_eq!(shop.text("/inventory/ledger").await, "");
    }
}

async fn until_fired(shop: &Shop, times: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while shop.get("/faults").await[0]["fired"] != times {
        assert!(Instant::now() < deadline, "the rule never fired");
    }
}

#[tokio::test]
async fn latency_delays_the_answer() {
    let shop = Shop::with_faults(&["inventory:latency_ms=150,verb=undo"]).await;
    let step = Step::of("inventory", "eu1-a-1");

    let began = Instant::now();
    shop.undo_step(&step).await;
    assert!(began.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn an_undo_can_be_refused_and_later_accepted() {
    let shop = Shop::with_faults(&["inventory:refuse,verb=undo,times=1"]).await;
    let step = Step::of("inventory", "eu1-a-1");
    shop.do_step(&step).await;

    assert_eq!(shop.undo_step(&step).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(shop.look(&step).await["state"], "done");
    assert_eq!(shop.undo_step(&step).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_repeat_gets_the_recorded_result_although_a_rule_now_refuses() {
    let shop = Shop::start().await;
    let step = Step::of("inventory", "eu1-a-1");
    let first = shop.do_step(&step).await;
    let rule = json!({ "service": "inventory", "refuse_sku": "85123A" });
    answer(shop.request(Method::POST, "/faults").json(&rule)).await;

    assert_eq!(shop.do_step(&step).await, first);
    assert_eq!(shop.get("/faults").await[0]["fired"], 0);
}

#[tokio::test]
async fn a_share_picks_the_same_calls_in_every_run_with_the_same_seed() {
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let fault = vec![Rule::from_flag("inventory:refuse,share=0.3").unwrap()];
        let shop = Shop::with(Options { fault, seed, ..Options::on_free_port() }).await;
        let mut refused = Vec::new();
        for number in 0..200 {
            let step = Step::of("inventory", &format!("eu1-a-{number}"));
            refused.push(shop.do_step(&step).await.0 == StatusCode::UNPROCESSABLE_ENTITY);
        }
        runs.push(refused);
    }
    let picked = runs[0].iter().filter(|is_refused| **is_refused).count();
    assert!((35..=85).contains(&picked), "{picked} of 200 for a share of 0.3");
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[tokio::test]
async fn rules_can_be_added_replaced_listed_and_cleared_at_run_time() {
    let shop = Shop::start().await;
    let add = json!({ "service": "*", "unavailable": true, "verb": "both", "times": 2 });
    let replace =
        json!([{ "service": "inventory", "latency_ms": 5 }, { "service": "accounting", "error_rate": 0.1 }]);

    let added = answer(shop.request(Method::POST, "/faults").json(&add)).await.1;
    assert_eq!(
        added,
        json!([{ "service": "*", "unavailable": true, "verb": "both", "times": 2, "fired": 0 }])
    );
    let replaced = answer(shop.request(Method::PUT, "/faults").json(&replace)).await.1;
    assert_eq!(replaced.as_array().unwrap().len(), 2);
    let sent_back = answer(shop.request(Method::PUT, "/faults").json(&replaced)).await.1;
    assert_eq!(sent_back, replaced);
    assert_eq!(answer(shop.request(Method::DELETE, "/faults")).await.1, json!([]));
    assert_eq!(shop.get("/faults").await, json!([]));
}

#[tokio::test]
async fn a_wrong_rule_sent_to_the_api_is_named_and_changes_nothing() {
    let shop = Shop::with_faults(&["inventory:hang"]).await;
    let cases = [
        (
            json!([{ "service": "inventry", "hang": true }]),
            "[0].service: unknown variant `inventry`, expected one of",
        ),
        (
            json!([{ "service": "*", "refuse_skus": "1" }]),
            "[0].refuse_skus: unknown field `refuse_skus`, expected one of",
        ),
        (
            json!([{ "service": "*", "hang": true, "share": 1.5 }]),
            "[0]: share: must be a number from 0 to 1, got 1.5",
        ),
        (
            json!([{ "service": "*", "hang": true }, { "service": "*", "latency_ms": -1 }]),
            "[1].latency_ms: invalid value",
        ),
        (json!([{ "service": "*" }]), "[0]: the rule names no fault; give one of refuse_sku"),
        (
            json!([{ "service": "*", "hang": true, "unavailable": true }]),
            "[0]: the rule names several faults",
        ),
    ];
    for (rules, problem) in cases {
        let (status, body) = answer(shop.request(Method::PUT, "/faults").json(&rules)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(body["error"].as_str().unwrap().starts_with(problem), "{body}");
    }
    assert_eq!(shop.get("/faults").await.as_array().unwrap().len(), 1);
}

#[test]
fn a_wrong_flag_is_named() {
    let cases = [
        ("hang", "write SERVICE:FAULT"),
        ("inventory:", "unknown field ``"),
        ("inventory:hang,verb=redo", "verb: unknown variant `redo`, expected one of `do`, `undo`, `both`"),
        ("inventory:refuse_country=Germany", "refuse_country: must be an ISO 3166-1 alpha-2 code"),
        ("inventory:refuse_sku=1,verb=undo", "verb: must be do"),
        ("inventory:ignore_keys,verb=both", "verb: must be do"),
        ("inventory:hang,times=0", "times: must be at least 1"),
        ("inventory:hang,hang", "hang: given twice"),
        ("inventory:latency_ms=soon", "latency_ms: invalid type: string \"soon\", expected u64"),
        ("inventory:error_rate=2", "error_rate: must be a number from 0 to 1, got 2"),
    ];
    for (flag, problem) in cases {
        let error = Rule::from_flag(flag).unwrap_err().to_string();
        assert!(error.contains(problem), "{flag}: {error}");
    }
}

#[tokio::test]
async fn a_wrong_faults_file_stops_the_start_and_names_the_rule() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("faults.json");
    std::fs::write(&path, r#"[{"service":"inventory","hang":true},{"service":"inventory","verb":"redo"}]"#)
        .unwrap();

    let options = Options { faults: Some(path), ..Options::on_free_port() };
    let error = anyhow::Error::from(Sandbox::start(options).await.err().expect("the start fails"));

    assert!(format!("{error:#}").contains("[1].verb: unknown variant `redo`"), "{error:#}");
}

#[tokio::test]
async fn in_a_batch_a_fault_strikes_the_calls_it_picks_and_a_lost_reply_loses_all() {
    let shop = Shop::with_faults(&["inventory:unavailable,times=1", "fulfilment:lost_reply,times=1"]).await;
    let batch =
        |service| ["eu1-a-1", "eu1-a-2"].map(|order_id| Step::of(service, order_id).batched()).to_vec();

    let answers = shop.do_batch("inventory", &batch("inventory")).await;
    let mut statuses: Vec<_> = answers.iter().map(|(status, _)| *status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503]);

    let request = shop.request(Method::POST, "/fulfilment/steps/batch");
    let lost = request.json(&json!({ "calls": batch("fulfilment") })).send().await;
    assert!(lost.is_err(), "{lost:?}");
    for order_id in ["eu1-a-1", "eu1-a-2"] {
        assert_eq!(shop.outcomes("fulfilment", order_id).await, ["do effect"]);
    }
}
