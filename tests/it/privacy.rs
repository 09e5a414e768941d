//! Addresses and API keys stay out of logs, answers and the headers of messages.

use std::fs;

use orderfleet_tests::{Fleet, Plan, order_of};
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
