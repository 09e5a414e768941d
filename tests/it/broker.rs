//! A crash of the broker: every 202 is done, once, and nobody has to be restarted.

use std::cell::Cell;

use futures_util::future::join_all;
use orderfleet_native::{RabbitMq, RabbitMqOptions, TempFolder};
use orderfleet_tests::{Fleet, Plan, order, until, until_equal};

#[tokio::test]
async fn a_broker_crash_under_load_loses_nothing_and_restarts_nobody() {
    const ORDERS: usize = 200;
    const CLIENTS: usize = 16;
    let folder = TempFolder::new().unwrap();
    let mut rabbitmq = RabbitMq::start(folder.path(), RabbitMqOptions::default()).await.unwrap();
    let plan = Plan { workers: 2, amqp_url: Some(rabbitmq.amqp_url()), ..Plan::default() };
    let mut fleet = Fleet::start_as(plan).await;

    let (next, answered, repeats) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let client = async || {
        let mut ids = Vec::new();
        while next.get() < ORDERS {
            let key = format!("k{}", next.replace(next.get() + 1));
            ids.push(accept_in_the_end(&fleet, &key, &repeats).await);
            answered.set(answered.get() + 1);
        }
        ids
    };
    let crash = async {
        until_equal("a part of the load is answered", true, async || answered.get() >= 50).await;
        rabbitmq.kill().await.unwrap();
        until_equal("a client has to repeat", true, async || repeats.get() > 0).await;
        rabbitmq.restart().await.unwrap();
    };
    let (ids, ()) = tokio::join!(join_all((0..CLIENTS).map(|_| client())), crash);
    let ids: Vec<_> = ids.into_iter().flatten().collect();
    assert_eq!(ids.len(), ORDERS);

    fleet.client.until_done(&ids).await;
    fleet.until_drained(&[]).await;
    for member in fleet.workers.iter_mut().chain(&mut fleet.others) {
        assert!(member.is_running(), "{} has ended", member.name());
    }
    // No further look at the queues: a sweep under way may repeat a message about an order that owes nothing any more.
    fleet.stop_workers().await;
    fleet.sandbox.assert_done(&ids).await;
}

/// Posts until there is a 202, as a shop does: the same body with the same key.
async fn accept_in_the_end(fleet: &Fleet, key: &str, repeats: &Cell<u32>) -> String {
    until(&format!("{key} is accepted"), async || {
        let answer = fleet.client.try_post(0, key, &order()).await;
        if let Ok(answer) = &answer {
            assert!([202, 503].contains(&answer.status), "{answer:?}");
        }
        let accepted = answer.as_ref().is_ok_and(|answer| answer.status == 202);
        repeats.set(repeats.get() + u32::from(!accepted));
        match answer {
            Ok(answer) if accepted => Ok(answer.json()["order_id"].as_str().unwrap().to_owned()),
            other => Err(other),
        }
    })
    .await
}
