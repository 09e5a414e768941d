//! When orders end, as a subscriber of the fleet's domain events sees it: a queue of its own, without acks, which costs the
//! broker one delivery per order. A change stream would cost the database a look at every write of every order.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use hdrhistogram::Histogram;
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use serde::Deserialize;
use tokio::{task::JoinHandle, time::sleep};

use super::load::{histogram, record};

const EXCHANGE: &str = "orders.events";
const ALL: &str = "order.#";
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Ends of orders, noted as they are told. Dropping it ends the subscription.
#[derive(Debug)]
pub(super) struct Ends {
    noted: Arc<Mutex<HashMap<String, Instant>>>,
    _connection: Connection,
    listening: JoinHandle<()>,
}

#[derive(Deserialize)]
struct Event {
    order_id: String,
}

impl Ends {
    /// Subscribes. Events of before are not seen.
    ///
    /// # Errors
    /// When the broker does not answer, or there is no such exchange.
    pub(super) async fn subscribe(amqp_url: &str) -> anyhow::Result<Self> {
        let connection = Connection::connect(amqp_url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), exclusive, FieldTable::default()).await?;
        let queue = queue.name().clone();
        let options = QueueBindOptions { nowait: false };
        let bound =
            channel.queue_bind(queue.clone(), EXCHANGE.into(), ALL.into(), options, FieldTable::default());
        bound.await.context("the exchange of the fleet's events")?;
        let options = BasicConsumeOptions { no_local: false, no_ack: true, exclusive: true, nowait: false };
        let mut deliveries = channel.basic_consume(queue, "".into(), options, FieldTable::default()).await?;
        let noted = Arc::new(Mutex::new(HashMap::new()));
        let notes = Arc::clone(&noted);
        let listening = tokio::spawn(async move {
            while let Some(Ok(delivery)) = deliveries.next().await {
                let now = Instant::now();
                let Ok(event) = serde_json::from_slice::<Event>(&delivery.data) else { continue };
                notes.lock().unwrap_or_else(PoisonError::into_inner).entry(event.order_id).or_insert(now);
            }
        });
        Ok(Self { noted, _connection: connection, listening })
    }

    /// Waits until each of these orders has ended, and returns how long it took from its intended moment, in microseconds.
    ///
    /// # Errors
    /// When nothing ends for as long as `patience`, and some have not.
    pub(super) async fn latencies(
        &self,
        mut orders: Vec<(String, Instant)>,
        patience: Duration,
    ) -> anyhow::Result<Histogram<u64>> {
        let (mut latencies, mut moved) = (histogram(), Instant::now());
        while !orders.is_empty() {
            let before = orders.len();
            {
                let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
                orders.retain(|(id, intended)| match noted.remove(id) {
                    Some(ended) => {
                        record(&mut latencies, ended.saturating_duration_since(*intended));
                        false
                    }
                    None => true,
                });
            }
            if orders.len() < before {
                moved = Instant::now();
            }
            anyhow::ensure!(moved.elapsed() < patience, "{} orders have not ended", orders.len());
            sleep(LOOK_EVERY).await;
        }
        Ok(latencies)
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.listening.abort();
    }
}
