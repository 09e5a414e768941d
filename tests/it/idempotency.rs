//! One key is one order, any number of times, over any number of producers.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use orderfleet_tests::{Answer, Client, Fleet, Plan, order, order_of};
use serde_json::Value;

fn id(answer: &Answer) -> String {
    answer.json()["order_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn one_key_twenty_times_at_once_is_one_order() {
    let mut fleet = Fleet::start_as(Plan { workers: 2, ..Plan::default() }).await;
    let order = order();
    let answers = join_all((0..20).map(|_| fleet.client.post("k1", &order))).await;
    assert!(answers.iter().all(|answer| answer.status == 202), "{answers:?}");
    let ids: BTreeSet<_> = answers.iter().map(id).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let ids: Vec<_> = ids.into_iter().collect();
    fleet.client.until_done(&ids).await;

    assert_eq!(fleet.client.accept("k1", &order).await, ids[0], "also when it is done");
    fleet.settle(&[]).await;
    fleet.sandbox.assert_done(&ids).await;
    assert_eq!(fleet.stored("DONE").await, 1);
    assert_eq!(fleet.client.order(&ids[0]).await.json()["conflicts"], 0);
}

#[tokio::test]
async fn a_key_used_for_another_body_is_refused_or_a_visible_conflict() {
    let mut fleet = Fleet::start_as(Plan { producers: 2, ..Plan::default() }).await;
    let other = order_of("85123A", 7, "2.55");
    let ids = vec![fleet.client.accept("k1", &order()).await];
    fleet.client.until_done(&ids).await;

    let refused = fleet.client.post("k1", &other).await;
    assert_eq!((refused.status, refused.problem()), (422, "key-reused".to_owned()), "{}", refused.text);
    assert_eq!(refused.json()["order_id"], ids[0]);

    let unseen = fleet.client.try_post(1, "k1", &other).await.unwrap();
    assert_eq!((unseen.status, id(&unseen)), (202, ids[0].clone()), "{}", unseen.text);
    fleet.client.until_order(&ids[0], "shows a conflict", |order| order["conflicts"] == 1).await;
    fleet.settle(&[("orders.dead.conflict", 1)]).await;

    let parked = fleet.broker().await.take_all("orders.dead.conflict").await.remove(0);
    assert!(parked.headers["reason"].contains("never executed"), "{:?}", parked.headers);
    let body: Value = serde_json::from_slice(&parked.body).unwrap();
    assert_eq!(body["fp"], unseen.json()["fingerprint"]);
    fleet.sandbox.assert_done(&ids).await;
    assert_eq!(fleet.sandbox.get("/inventory/stock/85123A").await["reserved"], 6);
    assert_eq!(fleet.client.order(&ids[0]).await.json()["status"], "DONE");
}

#[tokio::test]
async fn of_two_bodies_that_race_over_two_producers_one_is_executed() {
    const KEYS: u32 = 20;
    let mut fleet = Fleet::start_as(Plan { producers: 2, workers: 2, ..Plan::default() }).await;
    let bodies = [order_of("A", 1, "1"), order_of("B", 1, "1")];
    let race = async |key: String| {
        let post = |n: usize| fleet.client.try_post(n, &key, &bodies[n]);
        let (first, second) = tokio::join!(post(0), post(1));
        [first.unwrap(), second.unwrap()]
    };
    let answers = join_all((0..KEYS).map(|n| race(format!("k{n}")))).await;
    let answers: Vec<_> = answers.into_iter().flatten().collect();
    assert!(answers.iter().all(|answer| answer.status == 202), "{answers:?}");
    let ids: Vec<_> = answers.iter().map(id).collect::<BTreeSet<_>>().into_iter().collect();
    assert_eq!(ids.len(), KEYS as usize);

    fleet.client.until_done(&ids).await;
    for id in &ids {
        fleet.client.until_order(id, "shows a conflict", |order| order["conflicts"] == 1).await;
    }
    fleet.settle(&[("orders.dead.conflict", KEYS)]).await;
    fleet.sandbox.assert_done(&ids).await;
    let stock = fleet.sandbox.get("/inventory/stock").await;
    let reserved = |sku: &str| stock[sku]["reserved"].as_u64().unwrap_or(0);
    assert_eq!(reserved("A") + reserved("B"), u64::from(KEYS), "{stock}");
}

#[tokio::test]
async fn the_same_key_of_two_accounts_is_two_orders() {
    let fleet = Fleet::start().await;
    let accept = |client: &Client| {
        let client = client.clone();
        async move { client.accept("k1", &order()).await }
    };
    let ids = [accept(&fleet.client).await, accept(&fleet.stranger).await];
    assert_ne!(ids[0], ids[1]);
    fleet.client.until_ended(&ids[0], "DONE").await;
    fleet.stranger.until_ended(&ids[1], "DONE").await;
    fleet.sandbox.assert_done(&ids).await;
    let books = fleet.sandbox.get("/accounting/accounts").await;
    assert_eq!(
        books["accounts"].as_array().unwrap().len(),
        3,
        "one for each account, and revenue: {books:#}"
    );
}
