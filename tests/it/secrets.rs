//! Secrets are changed while the fleet works, and nobody is restarted for it.

use std::{fs, path::Path};

use orderfleet_native::{Mongo, MongoOptions, RabbitMq, RabbitMqOptions, TempFolder};
use orderfleet_runtime::keys;
use orderfleet_tests::{Client, Fleet, Plan, order, until_equal};

#[tokio::test]
async fn a_new_broker_password_is_taken_over_by_the_connections_that_come_after_it() {
    let folder = TempFolder::new().unwrap();
    let rabbitmq = RabbitMq::start(folder.path(), RabbitMqOptions::default()).await.unwrap();
    let plan = Plan { workers: 0, amqp_url: Some(rabbitmq.amqp_url()), ..Plan::default() };
    let fleet = Fleet::start_as(plan).await;
    let secret = fleet.folder().join("amqp-url");
    replace(&secret, &rabbitmq.amqp_url());
    let set = format!("broker.url_file={}", secret.display());
    let (mut producer, client, _) = fleet.start_producer_with("from-file", &[&set], &[]).await;
    let variable = ("ORDERFLEET_BROKER__URL_FILE", secret.to_str().unwrap());
    let mut worker = fleet.start_worker_with("worker-from-file", &[variable]);
    let before = client.accept("before", &order()).await;
    client.until_done(std::slice::from_ref(&before)).await;

    rabbitmq.rabbitmqctl(&["change_password", "guest", "n3w"]).await.unwrap();
    // Connections that are there stay, so that the file may come later.
    let between = client.accept("between", &order()).await;
    replace(&secret, &rabbitmq.amqp_url().replacen("guest:guest@", "guest:n3w@", 1));
    assert!(rabbitmq.close_all_connections("rotated").await.unwrap() >= 3);

    let after = client.accept("after", &order()).await;
    client.until_done(&[between, after]).await;
    assert!(producer.is_running() && worker.is_running());
    // The other producer has the old password in its settings.
    let refused = async || fleet.client.post("refused", &order()).await.status;
    until_equal("the old password is refused", 503, refused).await;
    // Ends in order: what it was started with, it would drain with.
    assert_eq!(worker.terminate().await, Some(0));
}

#[tokio::test]
async fn an_api_key_is_added_and_taken_away_while_the_services_run() {
    let fleet = Fleet::start().await;
    let file = fleet.folder().join("keys.toml");
    let id = fleet.client.accept("first", &order()).await;
    fleet.client.until_done(std::slice::from_ref(&id)).await;

    let new = fleet.client.with_key(&keys::create(&file, "demo", "eu1").unwrap());
    until_equal("the new key counts", (202, 200), async || answers(&new, &id).await).await;
    assert_eq!(answers(&fleet.client, &id).await, (202, 200));

    let text = fs::read_to_string(&file).unwrap();
    let old_id = fleet.client.key.split('_').nth(1).unwrap();
    let kept = text.split("[[key]]").filter(|entry| !entry.trim().is_empty() && !entry.contains(old_id));
    replace(&file, &kept.map(|entry| format!("[[key]]{entry}")).collect::<String>());
    until_equal("the old key is refused", (401, 401), async || answers(&fleet.client, &id).await).await;
    assert_eq!(answers(&new, &id).await, (202, 200));
}

#[tokio::test]
async fn whoever_has_an_outdated_database_address_that_fails_ends_to_be_started_with_the_new_one() {
    let folder = TempFolder::new().unwrap();
    let mut mongo = Mongo::start(folder.path(), MongoOptions::default()).await.unwrap();
    let plan = Plan { workers: 0, mongodb_uri: Some(mongo.uri()), ..Plan::default() };
    let fleet = Fleet::start_as(plan).await;
    let secret = fleet.folder().join("mongodb-uri");
    replace(&secret, &mongo.uri());
    let variable = ("ORDERFLEET_DATABASE__URI_FILE", secret.to_str().unwrap());
    let mut worker = fleet.start_worker_with("worker-from-file", &[variable]);
    let id = fleet.client.accept("first", &order()).await;
    fleet.client.until_done(&[id]).await;

    replace(&secret, &format!("{}&appName=rotated", mongo.uri()));
    let second = fleet.client.accept("second", &order()).await;
    fleet.client.until_done(&[second]).await;
    assert!(worker.is_running(), "what works goes on");
    mongo.kill().await.unwrap();
    assert_eq!(worker.ended("its database address is outdated, and fails").await, Some(0));

    mongo.restart().await.unwrap();
    let mut again = fleet.start_worker_with("worker-again", &[variable]);
    let third = fleet.client.accept("third", &order()).await;
    fleet.client.until_done(&[third]).await;
    assert_eq!(again.terminate().await, Some(0));
}

/// What the producer and the query service answer to this client.
async fn answers(client: &Client, id: &str) -> (u16, u16) {
    (client.post("first", &order()).await.status, client.order(id).await.status)
}

/// As mounted secrets are replaced: at once.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}
