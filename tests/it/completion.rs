//! The main job: a posted order becomes a completed order.

use std::fs;

use orderfleet_tests::{Fleet, SERVICES, large_order, order, order_of};
use serde_json::{Value, json};

#[tokio::test]
async fn a_posted_order_is_done_with_one_effect_at_every_service() {
    let mut fleet = Fleet::start().await;
    let broker = fleet.broker().await;
    let events = broker.tap("orders.events", "order.*").await;

    let answer = fleet.client.post("k1", &order_of("85123A", 3, "0.0333")).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let accepted = answer.json();
    let id = accepted["order_id"].as_str().unwrap().to_owned();
    assert!(answer.header("location").ends_with(&format!("/v1/orders/{id}")), "{answer:?}");
    assert_eq!(accepted["links"]["self"], answer.header("location"));

    let done = fleet.client.until_ended(&id, "DONE").await;
    assert_eq!(done["fingerprint"], accepted["fingerprint"]);
    assert_eq!(done["total"], "0.0999");
    let steps: Vec<_> = done["steps"].as_array().unwrap().iter().collect();
    assert_eq!(steps.iter().map(|step| &step["name"]).collect::<Vec<_>>(), SERVICES);
    assert!(steps.iter().all(|step| step["state"] == "done" && step["result"].is_object()), "{done:#}");
    assert!(done["history"].as_array().unwrap().len() >= 4, "{done:#}");

    fleet.sandbox.assert_done(std::slice::from_ref(&id)).await;
    assert_eq!(fleet.sandbox.get("/inventory/stock/85123A").await["reserved"], 3);
    let shipments = fleet.sandbox.get("/fulfilment/shipments").await;
    assert_eq!(shipments.as_array().unwrap().len(), 1, "{shipments}");
    assert_eq!(fleet.sandbox.receivable().await, "0.0999".parse().unwrap());
    assert_eq!(fleet.stored("DONE").await, 1);

    let event = events.take(1).await.remove(0);
    fleet.settle(&[]).await;
    assert_eq!(events.take(0).await, [], "one event, and no other");
    assert_eq!((event.routing_key.as_str(), event.kind.as_str()), ("order.completed", "order.completed"));
    let attribute = |name: &str| event.headers[&format!("cloudEvents:{name}")].as_str();
    assert_eq!((attribute("specversion"), attribute("type")), ("1.0", "order.completed"));
    assert_eq!((attribute("subject"), attribute("source")), (id.as_str(), "/orderfleet"));
    assert!(!attribute("id").is_empty());
    let body: Value = serde_json::from_slice(&event.body).unwrap();
    assert_eq!((&body["order_id"], &body["gen"]), (&json!(id), &json!(1)), "{body}");

    let log = fs::read_to_string(fleet.acceptance_log(0)).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert_eq!((&lines[0]["order_id"], &lines[0]["account"]), (&json!(id), &json!("demo")));
    assert_eq!(lines[0]["fingerprint"], accepted["fingerprint"]);
}

#[tokio::test]
async fn large_orders_and_small_prices_are_done_exactly() {
    let mut fleet = Fleet::start().await;
    let mut ids = vec![fleet.client.accept("large", &large_order(1_114)).await];
    ids.push(fleet.client.accept("largest", &large_order(2_000)).await);
    ids.push(fleet.client.accept("small", &order_of("A", 1, "0.001")).await);
    ids.push(fleet.client.accept("dear", &order_of("B", 1_000_000, "999999999999999.9999")).await);
    let mut with_gift = order();
    let gift = json!({ "sku": "GIFT", "quantity": 1, "unit_price": "0" });
    with_gift["lines"].as_array_mut().unwrap().push(gift);
    ids.push(fleet.client.accept("gift", &with_gift).await);

    fleet.client.until_done(&ids).await;
    fleet.sandbox.assert_done(&ids).await;
    let total = "1.114 2.000 0.001 999999999999999999900.0000 15.30";
    let total: rust_decimal::Decimal =
        total.split(' ').map(|sum| sum.parse::<rust_decimal::Decimal>().unwrap()).sum();
    assert_eq!(fleet.sandbox.receivable().await, total);
    fleet.settle(&[]).await;
}
