//! Deletes what a test has declared on the shared broker.

use std::thread;

use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use orderfleet_messaging::{BrokerSettings, Topology};
use tokio::runtime;

use super::connect;

/// Deletes a topology when dropped. A test that is killed leaves its own behind.
pub(crate) struct CleanUp {
    amqp_url: String,
    queues: Vec<String>,
    exchanges: Vec<String>,
}

impl CleanUp {
    pub(crate) fn new(settings: &BrokerSettings, topology: &Topology) -> Self {
        let queues: Vec<_> = topology.queue_names().map(str::to_owned).collect();
        // The waiting tiers' exchanges are named as their queues; the names of the other queues do no harm.
        let mut exchanges = queues.clone();
        exchanges
            .extend(["orders", "orders.dlx", "orders.events"].map(|name| settings.prefix.clone() + name));
        Self { amqp_url: settings.url.clone(), queues, exchanges }
    }

    async fn delete(&self) {
        let connection = connect(&self.amqp_url).await;
        let channel = connection.create_channel().await.unwrap();
        for queue in &self.queues {
            channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
        }
        for exchange in &self.exchanges {
            channel
                .exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default())
                .await
                .unwrap();
        }
        connection.close(200, "done".into()).await.unwrap();
    }
}

impl Drop for CleanUp {
    /// On a thread of its own: the runtime of the test cannot be waited for in a drop.
    fn drop(&mut self) {
        let deleted = thread::scope(|scope| {
            let delete = || {
                let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(self.delete());
            };
            scope.spawn(delete).join()
        });
        if deleted.is_err() {
            eprintln!("the topology of the test could not be deleted");
        }
    }
}
