//! Settings that differ from one build of the workers to the next: an order keeps the steps it was inserted with.
//!
//! Two builds with different formats under load are the business of `make upgrade`.

use std::fs;

use mongodb::bson::{Document, doc};
use orderfleet_tests::{Fleet, Plan, order, until};

/// Rewrites the settings that processes started from now on get.
fn set(fleet: &Fleet, change: impl FnOnce(&str) -> String) {
    let path = fleet.folder().join("orderfleet.toml");
    let text = fs::read_to_string(&path).unwrap();
    let changed = change(&text);
    assert_ne!(changed, text, "there is something to change");
    fs::write(path, changed).unwrap();
}

/// Waits until a worker has put the order aside for want of its step, and returns the document.
async fn until_put_aside(fleet: &Fleet, id: &str) -> Document {
    let orders = fleet.mongodb().await.collection::<Document>("orders");
    let aside = doc! { "_id": id, "history": { "$elemMatch": { "what": "not_sent", "step": "fulfilment" } } };
    until("the order waits for its step", async || {
        orders.find_one(aside.clone()).await.unwrap().ok_or("not put aside")
    })
    .await
}

#[tokio::test]
async fn an_order_whose_step_was_removed_waits_uncharged_and_goes_on_when_it_is_back() {
    let mut fleet = Fleet::start_as(Plan { steps: "timeout_ms = 1_000", ..Plan::default() }).await;
    fleet.sandbox.fault(serde_json::json!({ "service": "inventory", "hang": true })).await;
    let id = fleet.client.accept("k1", &order()).await;
    fleet.client.until_order(&id, "is inserted", |order| order["status"] == "RUN").await;
    assert_eq!(fleet.workers[0].terminate().await, Some(0));
    fleet.sandbox.heal().await;

    set(&fleet, |text| text.replace("name = 'fulfilment'", "name = 'dispatch'"));
    fleet.start_worker().await;
    let waiting = until_put_aside(&fleet, &id).await;
    assert_eq!((waiting.get_str("phase").unwrap(), waiting.get_i64("att").unwrap()), ("RUN", 0), "{waiting}");
    assert_eq!(fleet.workers[1].terminate().await, Some(0));

    set(&fleet, |text| text.replace("name = 'dispatch'", "name = 'fulfilment'"));
    fleet.start_worker().await;
    fleet.client.until_done(std::slice::from_ref(&id)).await;
    fleet.settle(&[]).await;
    fleet.sandbox.assert_done(&[id]).await;
    fleet.broker().await.remove("orders.dead.dispatch").await;
}
