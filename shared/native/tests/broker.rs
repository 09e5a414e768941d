//! A broker can be put under an alarm, cut off from its clients, looked into and purged; one from a Docker image does
//! all that the machine's own does.

mod amqp;

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use amqp::Client;
use orderfleet_native::{Error, QueueCounts, RabbitMq, RabbitMqOptions, Signal};
use tokio::time::timeout;

/// Long enough for a healthy broker on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// As tools/rabbitmq-4.sh names it.
const IMAGE: &str = "orderfleet/rabbitmq:4.0-trixie";

fn port_of(broker: &RabbitMq) -> u16 {
    let url = broker.amqp_url();
    let place = url.split("127.0.0.1:").nth(1).and_then(|rest| rest.split('/').next());
    place.and_then(|port| port.parse().ok()).expect("our URLs name a port on 127.0.0.1")
}

async fn client(broker: &RabbitMq) -> Client {
    let connecting = timeout(PATIENCE, Client::connect(port_of(broker)));
    connecting.await.expect("in time").expect("the broker takes connections")
}

fn holding(name: &str, ready: u64) -> QueueCounts {
    QueueCounts { name: name.to_owned(), ready, unacked: 0, dead_lettering: 0 }
}

#[tokio::test]
async fn an_alarm_holds_up_publishers_until_it_is_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let broker = RabbitMq::start(dir.path(), RabbitMqOptions::default()).await.unwrap();
    let mut client = client(&broker).await;
    client.declare("held up").await.unwrap();
    assert_eq!(broker.set_memory_alarm(false).await.unwrap(), [""; 0], "there is none to clear");

    assert_eq!(broker.set_memory_alarm(true).await.unwrap(), ["memory"]);
    assert_eq!(broker.set_memory_alarm(true).await.unwrap(), ["memory"], "a second call changes nothing");
    let publishing = tokio::spawn(async move { client.publish("held up", b"order").await });
    assert_eq!(broker.list_queues().await.unwrap(), [holding("held up", 0)]);
    assert!(!publishing.is_finished());

    assert_eq!(broker.set_memory_alarm(false).await.unwrap(), [""; 0]);
    timeout(PATIENCE, publishing).await.unwrap().unwrap().unwrap();
    assert_eq!(broker.list_queues().await.unwrap(), [holding("held up", 1)]);
}

#[tokio::test]
async fn closing_all_connections_counts_them_and_tells_them_why() {
    let dir = tempfile::tempdir().unwrap();
    let broker = RabbitMq::start(dir.path(), RabbitMqOptions::default()).await.unwrap();
    let (mut one, mut two) = (client(&broker).await, client(&broker).await);
    assert_eq!(broker.close_all_connections("maintenance \"tonight\"").await.unwrap(), 2);
    for client in [&mut one, &mut two] {
        let reason = timeout(PATIENCE, client.until_closed()).await.unwrap().unwrap();
        assert!(reason.contains("maintenance \"tonight\""), "{reason}");
    }
}

#[tokio::test]
async fn queues_are_listed_and_purged() {
    let dir = tempfile::tempdir().unwrap();
    let broker = RabbitMq::start(dir.path(), RabbitMqOptions::default()).await.unwrap();
    assert_eq!(broker.list_queues().await.unwrap(), []);
    look_into(&broker).await.unwrap();
    let refused = broker.purge("no such queue").await;
    assert!(matches!(refused, Err(Error::Command { .. })), "{refused:?}");
}

/// Leaves one message in `b b`.
async fn look_into(broker: &RabbitMq) -> Result<(), Box<dyn std::error::Error>> {
    let mut client = client(broker).await;
    for queue in ["b b", "a"] {
        client.declare(queue).await?;
    }
    for body in ["one", "two"] {
        client.publish("a", body.as_bytes()).await?;
    }
    client.publish("b b", b"three").await?;
    assert_eq!(broker.list_queues().await?, [holding("a", 2), holding("b b", 1)]);
    assert_eq!(broker.purge("a").await?, 2);
    assert_eq!(broker.list_queues().await?, [holding("a", 0), holding("b b", 1)]);
    Ok(())
}

#[tokio::test]
async fn the_confirm_timeout_of_dead_lettering_is_short_only_if_asked_for() {
    let asked = "application:get_env(rabbit, dead_letter_worker_publisher_confirm_timeout)";
    for (timeout, expected) in [(Some(Duration::from_secs(2)), "{ok,2000}"), (None, "{ok,180000}")] {
        let dir = tempfile::tempdir().unwrap();
        let options = RabbitMqOptions { dead_letter_confirm_timeout: timeout, ..RabbitMqOptions::default() };
        let broker = RabbitMq::start(dir.path(), options).await.unwrap();
        assert_eq!(broker.eval(asked).await.unwrap().trim(), expected);
    }
}

#[tokio::test]
#[ignore = "needs Docker and the image made by tools/rabbitmq-4.sh; run with --include-ignored"]
async fn a_broker_from_an_image_does_what_the_native_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a folder with spaces");
    let options = RabbitMqOptions { image: Some(IMAGE.to_owned()), ..RabbitMqOptions::default() };
    let mut broker = RabbitMq::start(&folder, options).await.unwrap();
    assert!(broker.version().await.unwrap().starts_with("4."));
    look_into(&broker).await.unwrap();
    assert_eq!(broker.set_memory_alarm(true).await.unwrap(), ["memory"]);
    assert_eq!(broker.close_all_connections("maintenance").await.unwrap(), 0);

    broker.signal(Signal::Stop);
    let hangs = timeout(Duration::from_secs(1), Client::connect(port_of(&broker))).await;
    assert!(hangs.is_err(), "a stopped broker answers nobody");
    broker.signal(Signal::Continue);
    drop(client(&broker).await);

    let url = broker.amqp_url();
    broker.kill().await.unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port_of(&broker))).is_err());
    broker.restart().await.unwrap();
    assert_eq!((broker.amqp_url(), broker.list_queues().await.unwrap()[1].ready), (url, 1), "data was kept");

    let container = fs::read_to_string(folder.join("container")).unwrap();
    assert!(container_exists(&container));
    drop(broker);
    assert!(!container_exists(&container), "nothing is left of it");
}

fn container_exists(id: &str) -> bool {
    let inspect = Command::new("docker").args(["container", "inspect", id]).output();
    inspect.expect("docker was there a moment ago").status.success()
}

#[tokio::test]
async fn an_image_that_is_not_there_is_named() {
    let image = Some("orderfleet/no-such-image:0".to_owned());
    let options = RabbitMqOptions { image, ..RabbitMqOptions::default() };
    let error = RabbitMq::start(Path::new("unused"), options).await.unwrap_err();
    assert!(error.to_string().contains("orderfleet/no-such-image:0"), "{error}");
}
