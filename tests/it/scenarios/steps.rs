//! A new build with other steps, while orders of the old one are open.

use std::fs;

use orderfleet_tests::{Count, Fleet, Plan, SERVICES, order, until_equal};
use serde_json::{Value, json};

const OPEN: usize = 10;
const FRESH: usize = 5;
const FOURTH: &str = "screening";

/// Puts a step between the first and the second; the inventory service of the sandbox plays it.
fn insert_step(fleet: &Fleet) {
    let file = fleet.folder().join("orderfleet.toml");
    let text = fs::read_to_string(&file).unwrap();
    let (before, after) = text.split_once("[[steps]]\nname = 'fulfilment'").unwrap();
    let url = before.split('\'').find(|part| part.ends_with("/inventory/steps")).unwrap();
    let text =
        format!("{before}[[steps]]\nname = '{FOURTH}'\nurl = '{url}'\n[[steps]]\nname = 'fulfilment'{after}");
    fs::write(&file, text).unwrap();
}

fn names(order: &Value) -> Vec<&str> {
    order["steps"].as_array().unwrap().iter().map(|step| step["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn open_orders_end_with_the_steps_they_began_with() {
    let mut fleet = Fleet::start_as(Plan { steps: "timeout_ms = 30_000", ..Plan::default() }).await;
    fleet.sandbox.fault(json!({ "service": "fulfilment", "hang": true })).await;
    let mut open = Vec::new();
    for number in 0..OPEN {
        open.push(fleet.client.accept(&format!("open{number}"), &order()).await);
    }
    let hanging = OPEN as u64;
    until_equal("every open order hangs at its second step", true, async || {
        fleet.sandbox.get("/faults").await[0]["fired"].as_u64() >= Some(hanging)
    })
    .await;

    fleet.workers[0].kill().await;
    insert_step(&fleet);
    fleet.sandbox.heal().await;
    fleet.start_worker().await;
    let mut fresh = Vec::new();
    for number in 0..FRESH {
        fresh.push(fleet.client.accept(&format!("fresh{number}"), &order()).await);
    }
    fleet.client.until_done(&open).await;
    fleet.client.until_done(&fresh).await;
    fleet.settle(&[]).await;
    eprintln!("injected: {FOURTH} inserted before fulfilment, with {OPEN} orders hanging there");

    let effects = fleet.sandbox.effects().await;
    let once = Count { done: 1, undone: 0 };
    for id in &open {
        assert_eq!(SERVICES.map(|service| effects.of(service, id)), [once; 3], "{id}");
        assert_eq!(names(&fleet.client.order(id).await.json()), SERVICES);
    }
    let [inventory, fulfilment, accounting] = SERVICES;
    for id in &fresh {
        assert_eq!(effects.of(inventory, id), Count { done: 2, undone: 0 }, "{id}");
        let shown = fleet.client.order(id).await.json();
        assert_eq!(names(&shown), [inventory, FOURTH, fulfilment, accounting]);
    }
    fleet.broker().await.remove(&format!("orders.dead.{FOURTH}")).await;
}
