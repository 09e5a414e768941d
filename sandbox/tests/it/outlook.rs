//! What a look tells of a do that has not been made, or not with success.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Shop, Step, answer};

impl Shop {
    /// The outlook of the order's next run.
    async fn outlook(&self, step: &Step) -> Value {
        self.get(&format!("/{0}/steps/{1}.2.{0}", step.service, step.order_id)).await["outlook"].clone()
    }

    async fn set_faults(&self, rules: &Value) {
        assert_eq!(answer(self.request(Method::PUT, "/faults").json(rules)).await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn error_country_fails_the_orders_that_ship_there_and_no_others() {
    let shop = Shop::with_faults(&["fulfilment:error_country=GB"]).await;
    let mut abroad = Step::of("fulfilment", "eu1-a-2");
    abroad.order["ship_to"]["country"] = "DE".into();

    let failed = shop.do_step(&Step::of("fulfilment", "eu1-a-1")).await;
    assert_eq!(failed.0, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(shop.do_step(&abroad).await.0, StatusCode::OK);
    assert_eq!(shop.outcomes("fulfilment", "eu1-a-1").await, [""; 0]);
    assert_eq!(shop.get("/faults").await[0]["fired"], 1);
}

#[tokio::test]
async fn the_outlook_of_the_next_run_follows_the_rules_in_force() {
    let shop = Shop::with_faults(&["*:error_country=GB"]).await;
    let step = Step::of("fulfilment", "eu1-a-1");
    assert_eq!(shop.do_step(&step).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    let refused = |code: &str| json!({ "answer": "refused", "code": code, "gen": 1 });
    let (error, done) = (json!({ "answer": "error", "gen": 1 }), json!({ "answer": "done", "gen": 1 }));
    let cases = [
        (json!({ "service": "*", "error_country": "GB" }), &error),
        (json!({ "service": "fulfilment", "unavailable": true }), &error),
        (json!({ "service": "fulfilment", "hang": true }), &error),
        (json!({ "service": "fulfilment", "lost_reply": true }), &error),
        (json!({ "service": "fulfilment", "error_rate": 1 }), &error),
        (json!({ "service": "fulfilment", "refuse": true }), &refused("refused_by_rule")),
        (json!({ "service": "fulfilment", "refuse_sku": "85123A" }), &refused("sku_refused")),
        (json!({ "service": "fulfilment", "refuse_country": "GB" }), &refused("country_refused")),
        (json!({ "service": "fulfilment", "refuse_country": "DE" }), &done),
        (json!({ "service": "fulfilment", "error_rate": 0.9 }), &done),
        (json!({ "service": "inventory", "unavailable": true }), &done),
        (json!({ "service": "fulfilment", "unavailable": true, "verb": "undo" }), &done),
    ];
    for (rule, outlook) in cases {
        shop.set_faults(&json!([rule])).await;
        assert_eq!(shop.outlook(&step).await, *outlook, "{rule}");
        assert_eq!(shop.get("/faults").await[0]["fired"], 0, "a look is no call");
    }
    assert_eq!(shop.text("/fulfilment/ledger").await, "");
}

#[tokio::test]
async fn a_rule_that_is_used_up_is_no_outlook() {
    let shop = Shop::with_faults(&["inventory:unavailable,times=1"]).await;
    let step = Step::of("inventory", "eu1-a-1");

    assert_eq!(shop.outlook(&step).await, json!({ "answer": "error" }));
    shop.do_step(&step).await;
    assert_eq!(shop.outlook(&step).await, json!({ "answer": "done", "gen": 1 }));
}

#[tokio::test]
async fn the_outlook_tells_when_stock_does_not_suffice() {
    let shop = Shop::with_faults(&["inventory:unavailable,times=1"]).await;
    let step = Step::of("inventory", "eu1-a-1");
    shop.do_step(&step).await;

    answer(shop.request(Method::PUT, "/inventory/stock/85123A").json(&json!({ "on_hand": 5 }))).await;

    assert_eq!(shop.outlook(&step).await, json!({ "answer": "refused", "code": "out_of_stock", "gen": 1 }));
}

#[tokio::test]
async fn an_order_never_seen_gets_the_outlook_of_orders_in_general_unless_it_depends_on_the_order() {
    let shop = Shop::start().await;
    let step = Step::of("accounting", "eu1-a-1");
    let country = json!([{ "service": "*", "error_country": "DE" }]);

    assert_eq!(shop.outlook(&step).await, json!({ "answer": "done" }));
    shop.set_faults(&country).await;
    assert_eq!(shop.outlook(&step).await, Value::Null);
    shop.set_faults(&json!([{ "service": "*", "unavailable": true }, country[0]])).await;
    assert_eq!(shop.outlook(&step).await, json!({ "answer": "error" }));
}

#[tokio::test]
async fn what_is_done_or_undone_has_no_outlook_and_what_was_refused_has_one() {
    let shop = Shop::start().await;
    let step = Step::of("inventory", "eu1-a-1");

    shop.do_step(&step).await;
    assert_eq!(shop.look(&step).await.get("outlook"), None);
    shop.undo_step(&step).await;
    assert_eq!(shop.look(&step).await.get("outlook"), None);

    let refused = Step::of("inventory", "eu1-a-2").with_lines(&[("X", 1_000_000, "1"), ("X", 1, "1")]);
    assert_eq!(shop.do_step(&refused).await.1["refused"]["code"], "out_of_stock");
    let look = shop.look(&refused).await;
    assert_eq!((&look["state"], &look["outlook"]["code"]), (&json!("refused"), &json!("out_of_stock")));
}

#[tokio::test]
async fn an_order_is_known_from_a_call_that_was_never_answered() {
    let shop = Shop::with_faults(&["inventory:hang"]).await;
    let step = Step::of("inventory", "eu1-a-1");
    let hanging = shop.do_request(&step).timeout(Duration::from_millis(200)).send().await;
    assert!(hanging.expect_err("it hangs").is_timeout());

    shop.set_faults(&json!([])).await;
    assert_eq!(shop.outlook(&step).await, json!({ "answer": "done", "gen": 1 }));
}
