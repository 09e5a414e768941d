//! An order over which every worker aborts, among others in the same hands.

use orderfleet_tests::{Plan, order, order_of, until};

use crate::case::Case;

const ARTICLE: &str = "CRASHING";
const NEIGHBOURS: usize = 31;
/// The delivery limit, in a queue of orders and in quarantine, and some more.
const CRASHES_MAX: usize = 60;
/// 128 + SIGABRT.
const ABORTED: i32 = 134;

#[tokio::test]
async fn a_body_that_aborts_the_process_at_its_second_step_is_held_and_its_neighbours_are_done() {
    let mut case = Case::start(Plan { workers: 0, ..Plan::default() }).await;
    case.crashing = vec![ARTICLE.into()];
    let body = |number| if number == NEIGHBOURS / 2 { order_of(ARTICLE, 1, "1") } else { order() };
    let ids = case.place_all("k", NEIGHBOURS + 1, body).await;
    let culprit = ids[NEIGHBOURS / 2].clone();

    let mut crashes = 0;
    let survivor = loop {
        let name = format!("crashing-{crashes}");
        let mut worker = case.fleet.start_worker_with(&name, &[("ORDERFLEET_ABORT_ON_SKU", ARTICLE)]);
        let survives = until("a worker aborts, or the order is held", async || {
            let status = case.fleet.client.order(&culprit).await.json()["status"].clone();
            match (status == "HELD", worker.is_running()) {
                (true, true) => Ok(true),
                (_, false) => Ok(false),
                _ => Err(status),
            }
        })
        .await;
        if survives {
            break worker;
        }
        assert_eq!(worker.ended("aborts").await, Some(ABORTED), "{}", worker.log());
        crashes += 1;
        assert!(crashes <= CRASHES_MAX, "the order is still not held");
    };
    assert!(crashes > 0, "nobody aborted");
    case.fleet.workers.push(survivor);
    let held = case.fleet.client.order(&culprit).await.json();
    eprintln!("injected: a body that aborted {crashes} workers in turn; {}", held["hold"]);
    assert_eq!(held["hold"]["step"], "fulfilment", "{held:#}");

    let neighbours: Vec<_> = ids.into_iter().filter(|id| *id != culprit).collect();
    case.fleet.client.until_done(&neighbours).await;
    let verdict = case.assert_kept(NEIGHBOURS).await;
    assert_eq!(verdict.counts.held, 1);
}
