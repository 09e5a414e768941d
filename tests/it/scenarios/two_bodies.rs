//! Two bodies under one key.

use futures_util::{StreamExt as _, stream};
use orderfleet_tests::{Plan, order_of, until_equal};

use crate::case::Case;

#[tokio::test]
async fn of_two_bodies_under_each_of_200_keys_raced_over_two_producers_one_is_executed() {
    const KEYS: usize = 200;
    const AT_ONCE: usize = 16;
    let mut case = Case::start(Plan { producers: 2, workers: 2, ..Plan::default() }).await;
    let bodies = [order_of("A", 1, "1"), order_of("B", 2, "3")];
    let client = case.fleet.client.clone();
    let race = async |key: String| {
        let (first, second) =
            tokio::join!(client.try_post(0, &key, &bodies[0]), client.try_post(1, &key, &bodies[1]));
        (key, [first.unwrap(), second.unwrap()])
    };
    let raced: Vec<_> =
        stream::iter((0..KEYS).map(|n| race(format!("k{n}")))).buffered(AT_ONCE).collect().await;
    for (key, answers) in raced {
        for (answer, body) in answers.iter().zip(&bodies) {
            assert_eq!(answer.status, 202, "{}", answer.text);
            case.note_accepted(&key, body, answer.json()["order_id"].as_str().unwrap());
        }
    }
    let keys = u64::try_from(KEYS).unwrap();
    until_equal("done orders", keys, async || case.fleet.stored("DONE").await).await;
    let verdict = case.assert_kept(KEYS).await;
    assert_eq!((verdict.counts.accepted, verdict.counts.conflict), (2 * KEYS, KEYS));
    eprintln!("injected: {KEYS} keys with two bodies each; {:?}", verdict.counts);
}
