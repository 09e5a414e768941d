//! What the services do: stock, shipments and what is kept out of the ledgers.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{Shop, Step, answer};

#[tokio::test]
async fn lines_of_one_sku_add_up_and_short_stock_is_refused() {
    let shop = Shop::start().await;
    let stock = shop.request(Method::PUT, "/inventory/stock/22423").json(&json!({ "on_hand": 5 }));
    assert_eq!(answer(stock).await.1, json!({ "on_hand": 5, "reserved": 0 }));
    let greedy = Step::of("inventory", "eu1-a-1").with_lines(&[
        ("22423", 3, "1"),
        ("85123A", 1, "1"),
        ("22423", 3, "1"),
    ]);
    let modest = Step::of("inventory", "eu1-a-2").with_lines(&[("22423", 3, "1"), ("22423", 2, "1")]);

    let (status, body) = shop.do_step(&greedy).await;

    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(body["refused"], json!({ "code": "out_of_stock", "message": "22423: 6 wanted, 5 available" }));
    assert_eq!(shop.look(&greedy).await["state"], "refused");
    assert_eq!(shop.do_step(&modest).await.0, StatusCode::OK);
    assert_eq!(shop.get("/inventory/stock").await, json!({ "22423": { "on_hand": 5, "reserved": 5 } }));
}

#[tokio::test]
async fn a_refused_do_is_judged_anew_when_repeated() {
    let shop = Shop::start().await;
    let step = Step::of("inventory", "eu1-a-1");
    let set_stock = |units: u64| {
        answer(shop.request(Method::PUT, "/inventory/stock/85123A").json(&json!({ "on_hand": units })))
    };

    set_stock(0).await;
    assert_eq!(shop.do_step(&step).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    set_stock(6).await;
    assert_eq!(shop.do_step(&step).await.0, StatusCode::OK);
    assert_eq!(shop.outcomes("inventory", "eu1-a-1").await, ["do refused", "do effect"]);
}

#[tokio::test]
async fn shipments_are_listed_per_order() {
    let shop = Shop::start().await;
    for order_id in ["eu1-a-1", "eu1-a-10"] {
        shop.do_step(&Step::of("fulfilment", order_id)).await;
    }

    let shipments = shop.get("/fulfilment/shipments/eu1-a-1").await;

    let expected = json!([{
        "instance": "eu1-a-1.1.fulfilment", "order_id": "eu1-a-1", "gen": 1, "step": "fulfilment",
        "country": "GB", "items": 6, "status": "open",
    }]);
    assert_eq!(shipments, expected);
    assert_eq!(shop.get("/fulfilment/shipments").await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn no_personal_data_reaches_a_ledger() {
    let shop = Shop::start().await;
    for service in ["inventory", "fulfilment", "accounting"] {
        shop.do_step(&Step::of(service, "eu1-a-1")).await;
        let ledger = shop.text(&format!("/{service}/ledger")).await;
        assert!(ledger.contains("effect") && !ledger.contains("Jane"), "{ledger}");
    }
}

#[tokio::test]
async fn a_path_that_does_not_exist_is_not_found() {
    let shop = Shop::start().await;
    assert_eq!(shop.get("/healthz").await, json!({ "status": "ok" }));
    let request = shop.request(Method::GET, "/inventry/stock");
    assert_eq!(answer(request).await.0, StatusCode::NOT_FOUND);
}
