//! Removing what a fleet leaves behind on a broker and a database that others use too.

use std::{thread, time::Duration};

use lapin::{
    Connection, ConnectionProperties,
    options::{ExchangeDeleteOptions, QueueDeleteOptions},
};
use mongodb::Client;

use crate::broker::topology;

const TIMEOUT: Duration = Duration::from_secs(20);

/// What a fleet leaves behind.
#[derive(Debug, Clone)]
pub(crate) struct Leftovers {
    /// `None` where the broker ends with the test.
    pub(crate) amqp_url: Option<String>,
    pub(crate) prefix: String,
    pub(crate) mongodb_uri: String,
    pub(crate) database: String,
}

impl Leftovers {
    /// Removes them, for a destructor: on a thread with a runtime of its own, and without a panic.
    pub(crate) fn remove(self) {
        let worked = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async {
                let removed = async { tokio::join!(self.drop_database(), self.delete_topology()) };
                let (dropped, deleted) = tokio::time::timeout(TIMEOUT, removed).await.ok()?;
                dropped.ok().and(deleted.ok())
            })
        });
        if !matches!(worked.join(), Ok(Some(()))) {
            eprintln!("the fleet's queues or its database could not be removed");
        }
    }

    async fn drop_database(&self) -> mongodb::error::Result<()> {
        Client::with_uri_str(&self.mongodb_uri).await?.database(&self.database).drop().await
    }

    /// Without waiting for each answer; the close of the channel comes after all of them.
    async fn delete_topology(&self) -> lapin::Result<()> {
        let Some(url) = &self.amqp_url else { return Ok(()) };
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let topology = topology(&self.prefix);
        for queue in topology.queue_names() {
            let options = QueueDeleteOptions { if_unused: false, if_empty: false, nowait: true };
            channel.queue_delete(queue.into(), options).await?;
        }
        let others = ["orders", "orders.dlx", "orders.events"].map(|name| format!("{}{name}", self.prefix));
        let tiers = topology.queue_names().filter(|name| name.contains("orders.wait."));
        for exchange in others.iter().map(String::as_str).chain(tiers) {
            let options = ExchangeDeleteOptions { if_unused: false, nowait: true };
            channel.exchange_delete(exchange.into(), options).await?;
        }
        channel.close(200, "done".into()).await?;
        connection.close(200, "done".into()).await
    }
}
