//! One trace from the client's header to the order's event, whatever the order has to wait for; and what is done about it later is
//! linked to it.

mod collector;

use std::collections::BTreeSet;

use mongodb::bson::{Document, doc};
use orderfleet_tests::{Answer, Fleet, Plan, order_of, until};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use self::collector::{Collector, Span, Trace};
use crate::operator::read;

const CANARIES: [&str; 4] = ["Canary-Name", "Canary-Road-1", "Canary-City", "CA1 NARY"];
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT: &str = "b7ad6b7169203331";
const COMPLETED: &str = "publish orders.events:order.completed";

fn order() -> Value {
    let [name, line1, city, postcode] = CANARIES;
    let mut order = order_of("85123A", 1, "2.55");
    order["ship_to"] =
        json!({ "name": name, "line1": line1, "city": city, "postcode": postcode, "country": "GB" });
    order
}

async fn accept(fleet: &Fleet, key: &str, traceparent: &str) -> String {
    let request = fleet.client.request(0).bearer_auth(&fleet.client.key).header("Idempotency-Key", key);
    let answer = request.header("traceparent", traceparent).json(&order()).send().await.unwrap();
    let answer = Answer::read(answer).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text);
    answer.json()["order_id"].as_str().unwrap().to_owned()
}

fn attribute<'a>(span: &'a Span, name: &str) -> &'a str {
    span.attributes.get(name).map_or("", String::as_str)
}

/// The attempts of a step, and what each came to.
fn attempts<'a>(trace: &'a Trace, name: &str) -> Vec<(&'a Span, &'a str)> {
    trace.named(name).into_iter().map(|span| (span, attribute(span, "saga.outcome"))).collect()
}

#[tokio::test]
async fn an_order_that_waits_on_its_way_is_one_trace_from_the_clients_header_to_its_event() {
    let collector = Collector::start().await;
    let plan = Plan {
        steps: "quick_retries = 0",
        fulfilment_url: Some(format!("{}/steps", collector.url)),
        otlp_endpoint: Some(collector.url.clone()),
        ..Plan::default()
    };
    let mut fleet = Fleet::start_as(plan).await;
    let events = fleet.broker().await.tap("orders.events", "#").await;
    let id = accept(&fleet, "k1", &format!("00-{TRACE}-{CLIENT}-01")).await;
    fleet.client.until_ended(&id, "DONE").await;
    let trace = collector.trace(TRACE, COMPLETED, CLIENT).await;

    let first = trace.named("POST /v1/orders")[0];
    assert_eq!((first.parent.as_str(), attribute(first, "order.id")), (CLIENT, id.as_str()));
    assert_eq!(trace.0.iter().filter(|span| span.parent == CLIENT).count(), 1, "one begins it: {trace:#?}");
    let event = trace.named(COMPLETED)[0];
    let way = [
        COMPLETED,
        "process orders.retry",
        "publish orders.wait.1s:retry",
        "process orders.new.0",
        "publish orders:new.0",
        "POST /v1/orders",
    ];
    assert_eq!(trace.way_to(event), way);
    let told = &events.take(1).await[0].headers["traceparent"];
    assert_eq!(told, &format!("00-{TRACE}-{}-01", event.id));

    for (step, outcomes) in [
        ("do inventory", vec!["success"]),
        ("do fulfilment", vec!["unknown", "success"]),
        ("do accounting", vec!["success"]),
    ] {
        let attempts = attempts(&trace, step);
        assert_eq!(attempts.iter().map(|(_, outcome)| *outcome).collect::<Vec<_>>(), outcomes, "{step}");
        for (span, outcome) in attempts {
            assert!(trace.parent(span).unwrap().name.starts_with("process "), "{span:#?}");
            assert_eq!(span.is_error, outcome == "unknown", "{span:#?}");
        }
    }
    let requests = trace.named("PUT").into_iter().filter(|span| attribute(span, "saga.step") == "fulfilment");
    let requests: Vec<_> = requests.collect();
    let called: Vec<_> = requests.iter().map(|span| format!("00-{TRACE}-{}-01", span.id)).collect();
    assert_eq!(collector.traceparents(), called, "the service was told of the request's own span");
    let statuses: Vec<_> = requests.iter().map(|span| attribute(span, "http.response.status_code")).collect();
    assert_eq!(statuses, ["503", "200"]);
    assert!(requests.iter().all(|span| trace.parent(span).unwrap().name == "do fulfilment"));

    let services: BTreeSet<_> = trace.0.iter().map(|span| span.service.as_str()).collect();
    assert_eq!(services, ["orderfleet-producer", "orderfleet-worker"].into());
    let broker = trace.named("process orders.retry")[0];
    assert_eq!(attribute(broker, "messaging.system"), "rabbitmq");
    assert_eq!(attribute(broker, "server.address"), "127.0.0.1");
    assert_eq!(attribute(broker, "delivery.ending"), "finished");
    assert!(
        trace.named("insert").iter().any(|span| attribute(span, "db.system.name") == "mongodb"),
        "{trace:#?}"
    );

    let log = fleet.workers[0].log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let waited: Vec<_> =
        lines.filter(|line| line["order.id"] == *id && line["ending"] == "deferred").collect();
    let handled = trace.named("process orders.new.0")[0];
    assert_eq!((waited.len(), &waited[0]["trace_id"]), (1, &json!(TRACE)), "{log}");
    assert_eq!(waited[0]["span_id"], handled.id.as_str());

    // As if its event had not been confirmed: the sweeper brings the order back, in a trace of its own.
    let orders = fleet.mongodb().await.collection::<Document>("orders");
    orders.update_one(doc! { "_id": &id }, doc! { "$set": { "evp": true } }).await.unwrap();
    let swept = collector.linked_to(TRACE).await;
    assert_eq!((swept.name.as_str(), swept.parent.as_str()), ("publish orders:retry", ""));
    assert_eq!(swept.links, [(TRACE.to_owned(), trace.named("publish orders:new.0")[0].id.clone())]);
    let after = collector.trace(&swept.trace, COMPLETED, "").await;
    let way = [COMPLETED, "process orders.retry", "publish orders:retry"];
    assert_eq!(after.way_to(after.named(COMPLETED)[0]), way);
    fleet.settle(&[]).await;
}

#[tokio::test]
async fn a_dead_letter_is_in_its_orders_trace_and_its_replay_in_another_that_links_to_it() {
    let collector = Collector::start().await;
    let plan = Plan {
        steps: "attempts_max = 1\nquick_retries = 0",
        roles: Plan::ALL_ROLES,
        otlp_endpoint: Some(collector.url.clone()),
        ..Plan::default()
    };
    let mut fleet = Fleet::start_as(plan).await;
    fleet.sandbox.fault(json!({ "service": "fulfilment", "error_rate": 1.0 })).await;
    // What is not well-formed is as good as none: the trace begins with the producer.
    let id = accept(&fleet, "k1", &format!("00-{}-{CLIENT}-01", TRACE.to_uppercase())).await;
    fleet.client.until_ended(&id, "UNDONE").await;
    until("the dead letter is parked", async || {
        let letters = fleet.dead_letters().await;
        if letters.len() == 1 { Ok(()) } else { Err(letters) }
    })
    .await;
    let letter = fleet.dead_letters().await.into_values().next().unwrap();
    let failed = letter.get_str("trace_id").unwrap().to_owned();
    let parked = "process orders.dead.fulfilment";
    let before = collector.trace(&failed, parked, "").await;
    let parking = before.named(parked)[0];
    let way = [
        parked,
        "publish orders.dlx:dead.fulfilment",
        "process orders.compensate",
        "publish orders.dlx:compensate.fulfilment",
        "process orders.new.0",
        "publish orders:new.0",
        "POST /v1/orders",
    ];
    assert_eq!(before.way_to(parking), way);
    assert_eq!(before.named("undo inventory").len(), 1);
    assert!(before.has("publish orders.events:order.failed"));

    fleet.sandbox.heal().await;
    read(&fleet, &["dlq", "replay", "--where", "step=fulfilment", "--yes", "--reason", "it is back"]).await;
    fleet.client.until_ended(&id, "DONE").await;
    let link = collector.linked_to(&failed).await;
    let after = collector.trace(&link.trace, COMPLETED, "").await;
    assert_ne!(link.trace, failed);
    assert_eq!((link.name.as_str(), link.parent.as_str()), ("process orders.replay", ""));
    assert_eq!(
        link.links,
        [(failed.clone(), parking.parent.clone())],
        "to where the dead letter was published"
    );
    assert_eq!(after.way_to(after.named(COMPLETED)[0]), [COMPLETED, "process orders.replay"]);
    fleet.settle(&[]).await;

    for body in collector.bodies() {
        let text = String::from_utf8_lossy(&body);
        for secret in CANARIES.into_iter().chain([fleet.client.key.rsplit('_').next().unwrap()]) {
            assert!(!text.contains(secret), "a span holds {secret}");
        }
    }
}

#[tokio::test]
async fn a_collector_that_hangs_delays_neither_orders_nor_the_end_and_what_it_does_not_take_is_counted() {
    // Connections wait to be accepted, without end.
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", hanging.local_addr().unwrap());
    let plan = Plan { otlp_endpoint: Some(endpoint), ..Plan::default() };
    let mut fleet = Fleet::start_as(plan).await;
    let id = accept(&fleet, "k1", &format!("00-{TRACE}-{CLIENT}-01")).await;
    fleet.client.until_ended(&id, "DONE").await;
    until("dropped spans are counted", async || {
        let dropped = fleet.metric(0, "orderfleet_spans_dropped_total", "not_exported").await;
        if dropped > 0.0 { Ok(()) } else { Err(dropped) }
    })
    .await;
    let another = accept(&fleet, "k2", &format!("00-{TRACE}-{CLIENT}-01")).await;
    fleet.client.until_ended(&another, "DONE").await;
    fleet.settle(&[]).await;
    assert!(fleet.workers[0].log().contains("spans cannot be exported"), "{}", fleet.workers[0].log());
}
