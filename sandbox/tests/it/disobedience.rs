//! Services that break the contract on request, so that a checker can be shown to notice.

use orderfleet_sandbox::{Options, Rule};
use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Shop, Step};

const SERVICES: [&str; 3] = ["inventory", "fulfilment", "accounting"];

#[tokio::test]
async fn a_service_that_ignores_keys_has_one_more_effect_per_do() {
    let shop = Shop::with_faults(&["*:ignore_keys"]).await;
    for service in SERVICES {
        let step = Step::of(service, "eu1-a-1");

        let first = shop.do_step(&step).await;
        assert_eq!(shop.do_step(&step).await, first);
        shop.undo_step(&step).await;

        let outcomes = shop.outcomes(service, "eu1-a-1").await;
        assert_eq!(outcomes, ["do effect", "do effect", "undo effect"]);
        assert_eq!(shop.get(&format!("/{service}/summary")).await["net_done"], 1);
    }
    assert_eq!(shop.get("/inventory/stock/85123A").await["reserved"], 6);
    assert_eq!(shop.get("/fulfilment/summary").await["shipments_open"], 1);
    assert_eq!(shop.get("/fulfilment/shipments/eu1-a-1").await.as_array().unwrap().len(), 2);
    assert_eq!(shop.get("/accounting/summary").await["receivable"], json!({ "GBP": "15.30" }));
    assert_eq!(shop.get("/faults").await[0]["fired"], 3);
}

#[tokio::test]
async fn a_service_that_ignores_tombstones_does_what_was_undone() {
    let shop = Shop::with_faults(&["*:ignore_tombstones"]).await;
    for service in SERVICES {
        let (overtaken, late) = (Step::of(service, "eu1-a-1"), Step::of(service, "eu1-a-2"));

        shop.undo_step(&overtaken).await;
        assert_eq!(shop.do_step(&overtaken).await.0, StatusCode::OK);
        shop.do_step(&late).await;
        shop.undo_step(&late).await;
        assert_eq!(shop.do_step(&late).await.0, StatusCode::OK);

        assert_eq!(shop.outcomes(service, "eu1-a-1").await, ["undo tombstone", "do effect"]);
        assert_eq!(shop.outcomes(service, "eu1-a-2").await, ["do effect", "undo effect", "do effect"]);
        assert_eq!(shop.get(&format!("/{service}/summary")).await["net_done"], 2);
    }
    assert_eq!(shop.get("/faults").await[0]["fired"], 6);
}

#[tokio::test]
async fn disobedience_that_made_no_difference_has_not_fired() {
    let shop = Shop::with_faults(&["*:ignore_keys", "*:ignore_tombstones"]).await;
    let step = Step::of("inventory", "eu1-a-1");

    shop.do_step(&step).await;
    shop.undo_step(&step).await;
    shop.undo_step(&step).await;

    assert_eq!(shop.get("/inventory/summary").await["net_done"], 0);
    let fired = shop.get("/faults").await;
    assert_eq!((&fired[0]["fired"], &fired[1]["fired"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn a_do_that_is_refused_the_second_time_stays_done() {
    let shop = Shop::with_faults(&["inventory:ignore_keys", "inventory:refuse,times=1,share=1"]).await;
    let step = Step::of("inventory", "eu1-a-1");

    assert_eq!(shop.do_step(&step).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(shop.do_step(&step).await.0, StatusCode::OK);
    let greedy = Step::of("inventory", "eu1-a-1").with_lines(&[("85123A", 1_000_000, "1")]);
    assert_eq!(shop.do_step(&greedy).await.0, StatusCode::UNPROCESSABLE_ENTITY);

    assert_eq!(shop.look(&step).await["state"], "done");
    assert_eq!(shop.undo_step(&step).await.1, json!({ "result": { "units_returned": 6 } }));
}

#[tokio::test]
async fn what_a_disobedient_service_did_is_rebuilt_from_its_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let options = || Options { data: Some(folder.path().to_owned()), ..Options::on_free_port() };
    let fault = vec![Rule::from_flag("*:ignore_keys").unwrap()];
    let shop = Shop::with(Options { fault, ..options() }).await;
    let step = Step::of("fulfilment", "eu1-a-1");
    shop.do_step(&step).await;
    shop.do_step(&step).await;
    let before = shop.get("/fulfilment/shipments").await;
    shop.stop().await;

    let shop = Shop::with(options()).await;

    assert_eq!(shop.get("/fulfilment/shipments").await, before);
    assert_eq!(shop.get("/fulfilment/summary").await["net_done"], 2);
}
