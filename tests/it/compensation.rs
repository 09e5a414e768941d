//! An order that cannot be completed is undone, for good or to be run again, or held for a person.

use orderfleet_tests::{Count, Fleet, Plan, SERVICES, order, order_of};
use serde_json::{Value, json};

#[tokio::test]
async fn a_refused_article_undoes_exactly_the_orders_that_hold_it() {
    let mut fleet = Fleet::start_as(Plan { workers: 2, ..Plan::default() }).await;
    fleet.sandbox.fault(json!({ "service": "fulfilment", "refuse_sku": "BAD" })).await;
    let broker = fleet.broker().await;
    let compensations = broker.tap("orders.dlx", "compensate.*").await;
    let cancellations = broker.tap("orders.events", "order.cancelled").await;
    let completions = broker.tap("orders.events", "order.completed").await;

    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for n in 0..12 {
        let (sku, ids) = if n % 3 == 0 { ("BAD", &mut bad) } else { ("GOOD", &mut good) };
        ids.push(fleet.client.accept(&format!("k{n}"), &order_of(sku, 2, "1.05")).await);
    }
    fleet.client.until_done(&good).await;
    for id in &bad {
        let order = fleet.client.until_ended(id, "UNDONE").await;
        assert_eq!(order["final"], true, "{order:#}");
        assert_eq!(
            (&order["cause"]["step"], &order["cause"]["code"]),
            (&json!("fulfilment"), &json!("sku_refused"))
        );
    }
    let compensated = compensations.take(bad.len()).await;
    let cancelled = cancellations.take(bad.len()).await;
    fleet.settle(&[]).await;

    for message in &compensated {
        assert_eq!(message.routing_key, "compensate.fulfilment");
        let command: Value = serde_json::from_slice(&message.body).unwrap();
        assert!(bad.iter().any(|id| command["order_id"] == *id), "{command}");
        assert_eq!(command["command"]["undo"], json!(["fulfilment", "inventory"]));
    }
    assert_eq!((cancelled.len(), cancellations.take(0).await.len()), (bad.len(), 0));
    assert_eq!(completions.take(good.len()).await.len(), good.len());
    fleet.sandbox.assert_done(&good).await;
    let effects = fleet.sandbox.effects().await;
    for id in &bad {
        let counts = SERVICES.map(|service| effects.of(service, id));
        assert_eq!(counts, [Count { done: 1, undone: 1 }, Count::default(), Count::default()], "{id}");
    }
    assert_eq!(fleet.sandbox.get("/inventory/stock/BAD").await["reserved"], 0);
    assert_eq!(fleet.sandbox.receivable().await, "16.80".parse().unwrap());
    assert_eq!((fleet.stored("DONE").await, fleet.stored("UNDONE").await), (8, 4));
}

#[tokio::test]
async fn exhausted_attempts_undo_an_order_that_may_be_run_again() {
    let plan = Plan { steps: "attempts_max = 2\nquick_retries = 0", ..Plan::default() };
    let mut fleet = Fleet::start_as(plan).await;
    fleet.sandbox.fault(json!({ "service": "fulfilment", "error_rate": 1.0 })).await;
    let failures = fleet.broker().await;
    let failures = failures.tap("orders.events", "order.*").await;

    let id = fleet.client.accept("k1", &order()).await;
    let order = fleet.client.until_ended(&id, "UNDONE").await;
    assert_eq!(
        (&order["final"], &order["cause"]["step"]),
        (&json!(false), &json!("fulfilment")),
        "{order:#}"
    );
    let event = failures.take(1).await.remove(0);
    assert_eq!(event.routing_key, "order.failed");
    fleet.settle(&[("orders.dead.fulfilment", 1)]).await;

    let parked = fleet.broker().await.take_all("orders.dead.fulfilment").await.remove(0);
    assert!(
        !parked.headers["reason"].is_empty() && !parked.headers["dead_letter_id"].is_empty(),
        "{parked:?}"
    );
    let effects = fleet.sandbox.effects().await;
    let counts = SERVICES.map(|service| effects.of(service, &id));
    assert_eq!(counts, [Count { done: 1, undone: 1 }, Count::default(), Count::default()]);
}

#[tokio::test]
async fn a_lost_reply_to_an_undo_has_no_second_effect() {
    let mut fleet = Fleet::start().await;
    fleet.sandbox.fault(json!({ "service": "accounting", "refuse_sku": "BAD" })).await;
    for service in SERVICES {
        let lost = json!({ "service": service, "verb": "undo", "lost_reply": true, "times": 1 });
        fleet.sandbox.fault(lost).await;
    }
    let id = fleet.client.accept("k1", &order_of("BAD", 1, "1")).await;
    fleet.client.until_ended(&id, "UNDONE").await;
    fleet.settle(&[]).await;
    assert!(fleet.sandbox.faults_have_fired().await, "{}", fleet.sandbox.get("/faults").await);
    let effects = fleet.sandbox.effects().await;
    let counts = SERVICES.map(|service| effects.of(service, &id));
    let undone = Count { done: 1, undone: 1 };
    assert_eq!(counts, [undone, undone, Count::default()]);
}

#[tokio::test]
async fn an_undo_that_is_refused_for_good_holds_the_order_for_a_person() {
    let mut fleet = Fleet::start().await;
    fleet.sandbox.fault(json!({ "service": "fulfilment", "refuse": true })).await;
    fleet.sandbox.fault(json!({ "service": "inventory", "refuse": true, "verb": "undo" })).await;

    let id = fleet.client.accept("k1", &order()).await;
    let held = fleet.client.until_ended(&id, "HELD").await;
    assert_eq!(held["hold"]["step"], "inventory", "{held:#}");
    fleet.settle(&[("orders.dead.held", 1)]).await;
    let parked = fleet.broker().await.take_all("orders.dead.held").await.remove(0);
    assert!(parked.headers["reason"].contains("inventory"), "{:?}", parked.headers);
    assert_eq!(fleet.sandbox.effects().await.of("inventory", &id), Count { done: 1, undone: 0 });
}
