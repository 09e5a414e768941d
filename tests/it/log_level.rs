//! What a process logs can be changed while it runs, and no filter brings personal data into a log.

use orderfleet_tests::{Answer, Fleet, order, until};
use serde_json::json;

const NEW: &str = "orders.new.0";

async fn ask(method: reqwest::Method, address: &str, filter: &'static str) -> Answer {
    let request = reqwest::Client::new().request(method, format!("http://{address}/log")).body(filter);
    Answer::read(request.send().await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn the_filter_of_a_running_process_is_changed_told_and_taken_back() {
    use reqwest::Method;
    let mut fleet = Fleet::start().await;
    let addresses = fleet.metrics_addresses();
    let (_, worker) = addresses.iter().find(|(service, _)| *service == "worker").unwrap();
    let configured = ask(Method::GET, worker, "").await.text;
    assert!(configured.contains("orderfleet_worker=info"), "{configured}");

    let bad = ask(Method::PUT, worker, "info,orderfleet_worker=loud").await;
    assert_eq!(bad.status, 400);
    assert!(bad.text.contains("`orderfleet_worker=loud`"), "{}", bad.text);
    assert_eq!(ask(Method::PUT, worker, "").await.status, 400);
    assert_eq!(ask(Method::GET, worker, "").await.text, configured);
    let quiet = fleet.client.accept("quiet", &order()).await;
    fleet.client.until_ended(&quiet, "DONE").await;

    assert_eq!(ask(Method::PUT, worker, "info,orderfleet_worker=debug").await.status, 200);
    let told = fleet.client.accept("told", &order()).await;
    until("the debug line of an order", async || {
        let log = fleet.workers[0].log();
        if log.lines().any(|line| line.contains("finished") && line.contains(&told)) {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    assert!(!fleet.workers[0].log().lines().any(|line| line.contains("finished") && line.contains(&quiet)));
    assert_eq!(ask(Method::DELETE, worker, "").await.text, configured);
    fleet.settle(&[]).await;
}

/// Also of what libraries log: the filter is anybody's who reaches the admin port.
#[tokio::test]
async fn not_even_the_lowest_level_of_everything_logs_personal_data() {
    let mut fleet = Fleet::start().await;
    let mut canary = order();
    for field in ["name", "line1", "city"] {
        canary["ship_to"][field] = json!(format!("Canary-{field}"));
    }
    for (_, address) in fleet.metrics_addresses() {
        assert_eq!(ask(reqwest::Method::PUT, &address, "trace").await.status, 200);
    }
    let broker = fleet.broker().await;
    broker.unbind(NEW, "orders", "new.0").await;
    assert_eq!(fleet.client.post("k", &canary).await.status, 503, "the broker returns it");
    broker.bind(NEW, "orders", "new.0").await;
    let id = fleet.client.accept("k", &canary).await;
    fleet.client.until_ended(&id, "DONE").await;
    fleet.settle(&[]).await;
    let secret = fleet.client.key.rsplit('_').next().unwrap().to_owned();
    for (name, log) in fleet.logs() {
        // Libraries may write bytes as numbers.
        let is_told = !name.starts_with("worker") || log.contains("\"finished\"");
        assert!(is_told, "{name} logs no more than before");
        for canary in ["Canary-", "67, 97, 110, 97, 114, 121, 45", &secret] {
            let line = log.lines().find(|line| line.contains(canary));
            assert!(line.is_none(), "{name} holds {canary}: {}", line.unwrap_or_default());
        }
    }
}
