//! The fleet on a broker and a database in containers, driven by testcontainers: `make test-compose` runs it.
//!
//! `ORDERFLEET_RABBITMQ_IMAGE` and `ORDERFLEET_MONGODB_IMAGE` name the images; without them it is the official ones. The fleet
//! runs beside the containers and reaches them at their addresses in Docker's bridge network, as Linux can.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{env, time::Duration};

use mongodb::{
    Client,
    bson::{Document, doc},
    options::ClientOptions,
};
use orderfleet_tests::{Count, Fleet, Plan, SERVICES, order_of, until};
use serde_json::json;
use testcontainers::{
    ContainerAsync, ContainerRequest, GenericImage, ImageExt as _, core::WaitFor, runners::AsyncRunner as _,
};

/// For a server in a container to say that it is ready.
const START_TIMEOUT: Duration = Duration::from_secs(180);
const RABBITMQ_PORT: u16 = 5672;
const MONGODB_PORT: u16 = 27017;

#[tokio::test]
#[ignore = "needs Docker and images of both servers: make test-compose"]
async fn orders_are_done_or_undone_with_broker_and_database_in_containers() {
    let (broker, database) = tokio::join!(rabbitmq(), mongodb());
    let (amqp_url, mongodb_uri) = (amqp_url(&broker).await, begin_replica_set(&database).await);
    let plan =
        Plan { workers: 2, amqp_url: Some(amqp_url), mongodb_uri: Some(mongodb_uri), ..Plan::default() };
    let mut fleet = Fleet::start_as(plan).await;
    fleet.sandbox.fault(json!({ "service": "fulfilment", "refuse_sku": "BAD" })).await;

    let (mut done, mut undone) = (Vec::new(), Vec::new());
    for n in 0..20 {
        let (sku, ids) = if n % 4 == 0 { ("BAD", &mut undone) } else { ("GOOD", &mut done) };
        ids.push(fleet.client.accept(&format!("k{n}"), &order_of(sku, 1, "2.55")).await);
    }
    fleet.client.until_done(&done).await;
    for id in &undone {
        fleet.client.until_ended(id, "UNDONE").await;
    }
    fleet.settle(&[]).await;

    fleet.sandbox.assert_done(&done).await;
    let effects = fleet.sandbox.effects().await;
    for id in &undone {
        let counts = SERVICES.map(|service| effects.of(service, id));
        assert_eq!(counts, [Count { done: 1, undone: 1 }, Count::default(), Count::default()], "{id}");
    }
    assert_eq!((fleet.stored("DONE").await, fleet.stored("UNDONE").await), (15, 5));
}

async fn rabbitmq() -> ContainerAsync<GenericImage> {
    let image = image("ORDERFLEET_RABBITMQ_IMAGE", "rabbitmq:4.1")
        .with_wait_for(WaitFor::message_on_stdout("Server startup complete"));
    // The user `guest` may otherwise come from the broker's own machine alone. Erlang reserves memory for as many ports as it
    // may have files open, and Docker can allow a billion.
    let request = image
        .with_copy_to("/etc/rabbitmq/rabbitmq.conf", b"loopback_users = none\n".to_vec())
        .with_env_var("ERL_MAX_PORTS", "65536");
    start(request).await
}

async fn mongodb() -> ContainerAsync<GenericImage> {
    let image = image("ORDERFLEET_MONGODB_IMAGE", "mongo:8.0")
        .with_wait_for(WaitFor::message_on_stdout("Waiting for connections"));
    start(image.with_cmd(["mongod", "--replSet", "rs0", "--bind_ip_all"])).await
}

fn image(variable: &str, official: &str) -> GenericImage {
    let named = env::var(variable).unwrap_or_else(|_| official.to_owned());
    let (name, tag) = named.rsplit_once(':').unwrap_or((&named, "latest"));
    GenericImage::new(name, tag)
}

async fn start(request: impl Into<ContainerRequest<GenericImage>>) -> ContainerAsync<GenericImage> {
    // Named, because older engines call the network of whoever names none "default", and know none of that name.
    request.into().with_network("bridge").with_startup_timeout(START_TIMEOUT).start().await.unwrap()
}

async fn amqp_url(broker: &ContainerAsync<GenericImage>) -> String {
    let address = broker.get_bridge_ip_address().await.unwrap();
    format!("amqp://guest:guest@{address}:{RABBITMQ_PORT}/%2f")
}

/// A set of one member, which has a primary when this returns.
async fn begin_replica_set(database: &ContainerAsync<GenericImage>) -> String {
    let member = format!("{}:{MONGODB_PORT}", database.get_bridge_ip_address().await.unwrap());
    let mut options = ClientOptions::parse(format!("mongodb://{member}/")).await.unwrap();
    options.direct_connection = Some(true);
    let admin = Client::with_options(options).unwrap().database("admin");
    let config = doc! { "_id": "rs0", "members": [{ "_id": 0, "host": &member }] };
    admin.run_command(doc! { "replSetInitiate": config }).await.unwrap();
    until("the replica set has a primary", async || {
        let hello: Document =
            admin.run_command(doc! { "hello": 1 }).await.map_err(|error| error.to_string())?;
        if hello.get_bool("isWritablePrimary").unwrap_or_default() {
            Ok(())
        } else {
            Err("none yet".to_owned())
        }
    })
    .await;
    format!("mongodb://{member}/?replicaSet=rs0")
}
