//! What the producer refuses, how it says so, and that it goes on working afterwards.

use orderfleet_tests::{Answer, Fleet, order};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

/// Stands in every wrong body, and must not come back.
const POSTED: &str = "posted-text";

async fn answer(request: RequestBuilder) -> Answer {
    Answer::read(request.send().await.unwrap()).await.unwrap()
}

/// Posts a text as JSON under a key of its own.
async fn post_text(fleet: &Fleet, key: &str, text: String) -> Answer {
    let request = fleet.client.request(0).bearer_auth(&fleet.client.key);
    answer(request.header("Idempotency-Key", key).header("Content-Type", "application/json").body(text)).await
}

fn assert_problem(answer: &Answer, status: u16, kind: &str, case: &str) {
    assert_eq!((answer.status, answer.problem().as_str()), (status, kind), "{case}: {}", answer.text);
    assert_eq!(answer.header("content-type"), "application/problem+json", "{case}");
    let problem = answer.json();
    assert!(problem["title"].is_string() && problem["status"] == status, "{case}: {problem}");
    assert!(!answer.text.contains(POSTED), "{case} is repeated: {}", answer.text);
    assert!(answer.text.len() < 8_192, "{case}: {} bytes", answer.text.len());
}

/// The order with one field changed.
fn with(pointer: &str, value: Value) -> String {
    let mut order = order();
    order["payment_ref"] = json!(POSTED);
    *order.pointer_mut(pointer).unwrap() = value;
    order.to_string()
}

#[tokio::test]
async fn wrong_orders_are_refused_by_field_and_right_ones_still_work() {
    let mut fleet = Fleet::start().await;
    let unknown_field = order().to_string().replacen('{', r#"{"phase":"posted-text","#, 1);
    let cases: Vec<(&str, String, u16, &str, &str)> = vec![
        ("no body", String::new(), 400, "malformed", ""),
        ("no JSON", POSTED.into(), 400, "malformed", ""),
        ("cut off", order().to_string()[..100].into(), 400, "malformed", ""),
        ("nested arrays", "[".repeat(500_000), 422, "invalid-order", ""),
        ("nested objects", r#"{"a":"#.repeat(100_000), 422, "invalid-order", ""),
        (
            "nested where a field is",
            with("/metadata", json!({})).replace("{}", &"[".repeat(100_000)),
            422,
            "invalid-order",
            "metadata",
        ),
        (
            "1e400",
            with("/lines/0/quantity", json!(1)).replace(r#""quantity":1"#, r#""quantity":1e400"#),
            400,
            "malformed",
            "",
        ),
        (
            "a price of 1e400",
            with("/lines/0/unit_price", json!("1e400")),
            422,
            "invalid-order",
            "lines[0].unit_price",
        ),
        (
            "a price as a float",
            with("/lines/0/unit_price", json!(2.55)),
            422,
            "invalid-order",
            "lines[0].unit_price",
        ),
        (
            "a price below zero",
            with("/lines/0/unit_price", json!("-0.01")),
            422,
            "invalid-order",
            "lines[0].unit_price",
        ),
        (
            "an overflowing price",
            with("/lines/0/unit_price", json!("9".repeat(40))),
            422,
            "invalid-order",
            "lines[0].unit_price",
        ),
        (
            "a price too exact",
            with("/lines/0/unit_price", json!("0.00001")),
            422,
            "invalid-order",
            "lines[0].unit_price",
        ),
        ("a total of zero", with("/lines/0/unit_price", json!("0")), 422, "invalid-order", "lines"),
        ("quantity zero", with("/lines/0/quantity", json!(0)), 422, "invalid-order", "lines[0].quantity"),
        (
            "a negative quantity",
            with("/lines/0/quantity", json!(-6)),
            422,
            "invalid-order",
            "lines[0].quantity",
        ),
        (
            "an overflowing quantity",
            with("/lines/0/quantity", json!(u64::MAX)),
            422,
            "invalid-order",
            "lines[0].quantity",
        ),
        ("no lines", with("/lines", json!([])), 422, "invalid-order", "lines"),
        ("an unknown channel", with("/channel", json!(POSTED)), 422, "invalid-order", "channel"),
        ("an unknown currency", with("/currency", json!(POSTED)), 422, "invalid-order", "currency"),
        (
            "an unknown country",
            with("/ship_to/country", json!(POSTED)),
            422,
            "invalid-order",
            "ship_to.country",
        ),
        ("an unknown field", unknown_field, 422, "invalid-order", "phase"),
    ];
    for (number, (case, body, status, kind, field)) in cases.into_iter().enumerate() {
        let answer = post_text(&fleet, &format!("wrong-{number}"), body).await;
        assert_problem(&answer, status, kind, case);
        let first = &answer.json()["violations"][0]["field"];
        assert!(field.is_empty() || first == field, "{case}: {}", answer.text);
    }
    let big = format!("{}{}", order(), " ".repeat(10_000_000));
    assert_problem(&post_text(&fleet, "big", big).await, 413, "too-large", "10 MB");
    works_and_has_not_panicked(&mut fleet).await;
}

#[tokio::test]
async fn requests_without_what_they_need_are_refused() {
    let mut fleet = Fleet::start().await;
    let key = fleet.client.key.clone();
    let bare = || fleet.client.request(0).json(&order());
    let authorised = || bare().bearer_auth(&key);
    let keyed = |request: RequestBuilder| request.header("Idempotency-Key", "k1");
    let path = |method, path| keyed(fleet.client.request_path(method, path)).bearer_auth(&key);
    let of_type = |kind: &str| {
        let request = keyed(fleet.client.request(0)).bearer_auth(&key).body(order().to_string());
        if kind.is_empty() { request } else { request.header("Content-Type", kind) }
    };
    let cases = [
        ("no key", authorised(), 400, "idempotency-key"),
        ("an empty key", authorised().header("Idempotency-Key", ""), 400, "idempotency-key"),
        ("a key with a blank", authorised().header("Idempotency-Key", "a b"), 400, "idempotency-key"),
        ("a long key", authorised().header("Idempotency-Key", "k".repeat(256)), 400, "idempotency-key"),
        ("two keys", keyed(authorised()).header("Idempotency-Key", "k2"), 400, "idempotency-key"),
        ("no credentials", keyed(bare()), 401, "unauthorized"),
        ("a wrong key", keyed(bare()).bearer_auth(format!("{key}x")), 401, "unauthorized"),
        ("another scheme", keyed(bare()).basic_auth("demo", Some(&key)), 401, "unauthorized"),
        ("no content type", of_type(""), 415, "unsupported-media-type"),
        ("a form", of_type("application/x-www-form-urlencoded"), 415, "unsupported-media-type"),
        ("an unknown path", path(Method::POST, "/v1/order"), 404, "not-found"),
        ("a GET", path(Method::GET, "/v1/orders"), 405, "method-not-allowed"),
    ];
    for (case, request, status, kind) in cases {
        assert_problem(&answer(request).await, status, kind, case);
    }
    assert_eq!(answer(authorised().header("Idempotency-Key", "k".repeat(255))).await.status, 202);

    let large = keyed(authorised()).header("X-Large", "x".repeat(100_000)).send().await;
    assert!(large.is_err() || large.is_ok_and(|answer| answer.status() == 431), "100 KB of headers");
    works_and_has_not_panicked(&mut fleet).await;
}

async fn works_and_has_not_panicked(fleet: &mut Fleet) {
    let id = fleet.client.accept("good", &order()).await;
    fleet.client.until_ended(&id, "DONE").await;
    for (name, log) in fleet.logs() {
        assert!(!log.contains("panicked"), "{name} has panicked:\n{log}");
    }
    fleet.settle(&[]).await;
}
