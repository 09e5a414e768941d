//! Addresses and API keys stay out of logs, answers and the headers of messages.

use std::fs;

use mongodb::bson::{Document, doc};
use orderfleet_domain::OrderId;
use orderfleet_tests::{Fleet, Plan, order_of, until, until_equal};
use serde_json::{Value, json};

const CANARIES: [&str; 5] = ["Canary-Name", "Canary-Road-1", "Canary-Flat-2", "Canary-City", "CA1 NARY"];

fn order(sku: &str) -> Value {
    let [name, line1, line2, city, postcode] = CANARIES;
    let mut order = order_of(sku, 1, "1");
    order["ship_to"] = json!({ "name": name, "line1": line1, "line2": line2, "city": city, "postcode": postcode, "country": "GB" });
    order
}

#[tokio::test]
async fn no_personal_data_and_no_key_is_in_logs_headers_or_events() {
    let plan = Plan { level: "trace", steps: "attempts_max = 1\nquick_retries = 0", ..Plan::default() };
    let mut fleet = Fleet::start_as(plan).await;
    fleet.sandbox.fault(json!({ "service": "fulfilment", "refuse_sku": "REFUSED" })).await;
    let broker = fleet.broker().await;
    let events = broker.tap("orders.events", "#").await;
    let failures = broker.tap("orders.dlx", "#").await;

    let done = fleet.client.accept("done", &order("A")).await;
    fleet.client.until_ended(&done, "DONE").await;
    let undone = fleet.client.accept("undone", &order("REFUSED")).await;
    fleet.client.until_ended(&undone, "UNDONE").await;
    fleet.sandbox.fault(json!({ "service": "accounting", "error_rate": 1.0 })).await;
    let failed = fleet.client.accept("failed", &order("A")).await;
    fleet.client.until_ended(&failed, "UNDONE").await;
    broker.publish("orders.new.0", order("A").to_string().as_bytes()).await;
    let mut wrong = order("A");
    wrong["channel"] = json!(CANARIES[0]);
    let refused = fleet.client.post("refused", &wrong).await;
    assert_eq!(refused.status, 422);
    fleet.settle(&[("orders.dead.accounting", 1), ("orders.dead.poison", 1)]).await;

    let mut texts = fleet.logs();
    texts.insert("acceptance log".into(), fs::read_to_string(fleet.acceptance_log(0)).unwrap());
    texts.insert("refusal".into(), refused.text);
    let (events, failures) = (events.take(3).await, failures.take(4).await);
    for message in events.iter().chain(&failures) {
        texts.insert(format!("headers of {}", message.routing_key), format!("{:?}", message.headers));
    }
    for event in events {
        texts.insert(format!("body of {}", event.routing_key), String::from_utf8(event.body).unwrap());
    }
    let secret = fleet.client.key.rsplit('_').next().unwrap();
    for (place, text) in &texts {
        assert!(!text.is_empty(), "{place} is empty");
        for canary in CANARIES.into_iter().chain([secret]) {
            assert!(!text.contains(canary), "{place} holds {canary}");
        }
    }
}

/// What the database is to refuse from now on, or, with the level `off`, no more.
async fn refuse(fleet: &Fleet, collection: &str, field: &str, level: &str) {
    let validator = doc! { field: { "$ne": CANARIES[0] } };
    let change = doc! { "collMod": collection, "validator": validator, "validationLevel": level };
    fleet.mongodb().await.run_command(change).await.unwrap();
}

/// The server's own words about a document that it refuses, and the driver's about one that it cannot read, repeat values.
#[tokio::test]
async fn what_the_database_says_of_a_document_is_not_in_logs_or_headers() {
    let plan = Plan { level: "trace", roles: Plan::ALL_ROLES, ..Plan::default() };
    let mut fleet = Fleet::start_as(plan).await;
    let broker = fleet.broker().await;
    let failures = broker.tap("orders.dlx", "#").await;
    let [name, ..] = CANARIES;

    let done = fleet.client.accept("done", &order("A")).await;
    fleet.client.until_ended(&done, "DONE").await;
    refuse(&fleet, "orders", "order.ship_to.name", "strict").await;
    let refused = fleet.client.accept("refused", &order("A")).await;
    fleet.client.until_ended(&refused, "HELD").await;
    refuse(&fleet, "orders", "order.ship_to.name", "off").await;

    refuse(&fleet, "dead_letters", "kind", "strict").await;
    let id: &OrderId = &refused.parse().unwrap();
    let letter = json!({ "order_id": id, "account": "demo", "gen": 1, "command": { "kind": name } });
    broker.publish("orders.dead.poison", letter.to_string().as_bytes()).await;
    until("the dead letter is refused", async || {
        let tries = fleet.metric(0, "orderfleet_parking_failed_total", "").await;
        if tries > 0.0 { Ok(()) } else { Err(tries) }
    })
    .await;
    refuse(&fleet, "dead_letters", "kind", "off").await;

    let orders = fleet.mongodb().await.collection::<Document>("orders");
    let unreadable = doc! { "$set": { "order.channel": name, "phase": "RUN" } };
    orders.update_one(doc! { "_id": &done }, unreadable).await.unwrap();
    assert_eq!(fleet.client.order(&done).await.status, 500);
    broker.publish("orders.retry", crate::poison::command("done").as_bytes()).await;
    until_equal("dead letters", 3, async || fleet.dead_letters().await.len()).await;
    fleet.settle(&[]).await;

    let mut texts = fleet.logs();
    for message in failures.take(2).await {
        texts.insert(format!("headers of {}", message.routing_key), format!("{:?}", message.headers));
    }
    let all: String = texts.values().map(String::as_str).collect();
    for told in ["(121)", "parking again", "the order's document cannot be read"] {
        assert!(all.contains(told), "nobody said: {told}");
    }
    for (place, text) in &texts {
        for canary in CANARIES {
            assert!(!text.contains(canary), "{place} holds {canary}");
        }
    }
}
