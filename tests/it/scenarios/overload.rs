//! More orders than a producer has room for, while the broker confirms none.

use orderfleet_native::Signal;
use orderfleet_tests::{Fleet, Plan, order, until_equal};

use super::own_broker;

/// As many as are sent one by one to a broker that confirms none; more would be put off after two seconds.
const ROOM: usize = 4;

/// What the producer says of itself.
async fn told(fleet: &mut Fleet, name: &str) -> Option<String> {
    let (_, address) = fleet.metrics_addresses().into_iter().find(|(service, _)| *service == "producer")?;
    let text = reqwest::get(format!("http://{address}/metrics")).await.unwrap().text().await.unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))
}

async fn until_told(fleet: &mut Fleet, name: &str, value: usize) {
    until_equal(name, Some(value.to_string()), async || told(fleet, name).await).await;
}

#[tokio::test]
async fn what_there_is_no_room_for_is_refused_at_once_and_who_leaves_leaves_nothing_behind() {
    let (mut broker, _folder) = own_broker().await;
    let plan = Plan {
        amqp_url: Some(broker.amqp_url()),
        // Nobody is put off while the test looks.
        broker: "confirm_timeout_ms = 25_000",
        producer: "concurrency_max = 4\nrequest_timeout_ms = 60_000",
        ..Plan::default()
    };
    let mut fleet = Fleet::start_as(plan).await;
    let before = fleet.client.accept("before", &order()).await;

    broker.signal(Signal::Stop);
    eprintln!("injected: SIGSTOP for the broker, and {ROOM} clients that wait for their answers");
    let post = |number| {
        let client = fleet.client.clone();
        tokio::spawn(async move { client.try_post(0, &format!("waiting-{number}"), &order()).await })
    };
    let waiting: Vec<_> = (0..ROOM).map(post).collect();
    until_told(&mut fleet, "orderfleet_http_requests_in_flight", ROOM).await;
    until_told(&mut fleet, "orderfleet_publishes_in_flight", ROOM).await;

    let refused = fleet.client.post("one too many", &order()).await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "overloaded"), "{}", refused.text);
    assert_eq!(refused.header("retry-after"), "1");
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()), "it has waited for nobody");

    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    eprintln!("injected: all of them leave");
    for level in ["http_requests_in_flight", "http_body_bytes", "publishes_in_flight"] {
        until_told(&mut fleet, &format!("orderfleet_{level}"), 0).await;
    }
    broker.signal(Signal::Continue);
    let after = fleet.client.accept("after", &order()).await;
    fleet.client.until_done(&[before, after]).await;
}
