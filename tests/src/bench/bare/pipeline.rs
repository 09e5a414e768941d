//! Consume, three calls, durable writes, acks: the work of a worker without its care. It retries nothing, undoes nothing and
//! decides nothing; what goes wrong ends it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use axum::{Router, routing::get};
use futures_util::StreamExt as _;
use lapin::{
    Channel,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use mongodb::bson::{self, DateTime, RawDocument, RawDocumentBuf, cstr, rawdoc};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc};

use super::{
    Kind, Pipeline,
    acks::Acks,
    broker::{self, QUEUE},
    group::{self, Grouped},
    tell,
};
use crate::SERVICES;

const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const ACKED_AT_ONCE_MAX: usize = 256;

/// What all orders in hand share.
struct Shop {
    http: reqwest::Client,
    services: String,
    writes: u8,
    inserts: Grouped,
    updates: Grouped,
    done: AtomicU64,
}

impl Pipeline {
    /// Works until it is killed; says where it tells how many are done.
    ///
    /// # Errors
    /// When anything goes wrong with an order.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let Self { group, flights, writes, .. } = self;
        ensure!((1..=4).contains(&writes), "--writes must be 1 to 4");
        let database = group::database(&self.mongodb_uri, &self.database).await?;
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().timeout(CALL_TIMEOUT);
        let shop = Arc::new(Shop {
            http: http.pool_max_idle_per_host(self.prefetch.into()).build()?,
            services: self.services,
            writes,
            inserts: Grouped::start(&database, Kind::Insert, group, flights),
            updates: Grouped::start(&database, Kind::Update, group, flights),
            done: AtomicU64::new(0),
        });
        let listener = TcpListener::bind(self.listen).await.context("--listen")?;
        tell(json!({ "admin_listen": listener.local_addr()? }));
        let told = Arc::clone(&shop);
        let count =
            async move || format!("orderfleet_orders_ended_total {}\n", told.done.load(Ordering::Relaxed));
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/metrics", get(count))).await });

        let connection = broker::connect(&self.amqp_url).await?;
        let channel = connection.create_channel().await?;
        channel.basic_qos(self.prefetch, BasicQosOptions { global: false }).await?;
        let options = BasicConsumeOptions { no_local: false, no_ack: false, exclusive: false, nowait: false };
        let consumed = channel.basic_consume(QUEUE.into(), "bare".into(), options, FieldTable::default());
        let mut deliveries = consumed.await?;
        let (worked, to_ack) = mpsc::unbounded_channel();
        tokio::spawn(ack(channel.clone(), to_ack));
        while let Some(delivery) = deliveries.next().await {
            let (delivery, shop, worked) = (delivery?, Arc::clone(&shop), worked.clone());
            tokio::spawn(async move {
                match shop.work(&delivery).await {
                    Ok(()) => _ = worked.send(delivery.delivery_tag),
                    Err(error) => eprintln!("orderfleet-bare: {error:#}"),
                }
            });
        }
        anyhow::bail!("the broker delivers no more")
    }
}

impl Shop {
    async fn work(&self, delivery: &Delivery) -> anyhow::Result<()> {
        let id = delivery.properties.message_id().as_ref().context("a message has an id")?.as_str();
        let text = std::str::from_utf8(&delivery.data)?;
        let order = order(text)?;
        if self.writes > 1 {
            self.inserts.write(document(id, &order, "RUN")).await?;
        }
        for (number, step) in (1_i32..).zip(SERVICES) {
            self.call(id, step, text).await?;
            let phase = if step == SERVICES[2] { "DONE" } else { "RUN" };
            match self.writes {
                4 => self.updates.write(step_done(id, number, step, phase)).await?,
                3 if step != SERVICES[0] => self.updates.write(step_done(id, number, step, phase)).await?,
                2 if phase == "DONE" => self.updates.write(step_done(id, number, step, phase)).await?,
                1 if phase == "DONE" => self.inserts.write(document(id, &order, phase)).await?,
                _ => {}
            }
        }
        self.done.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn call(&self, id: &str, step: &str, order: &str) -> anyhow::Result<()> {
        let instance = format!("{id}.1.{step}");
        let body =
            format!(r#"{{"order_id":"{id}","gen":1,"step":"{step}","account":"demo","order":{order}}}"#);
        let request = self.http.put(format!("{}/{step}/steps/{instance}", self.services)).body(body);
        let request = request.header("Content-Type", "application/json");
        let request = request.header("Idempotency-Key", format!("{instance}.do"));
        let answer = request.header("Orderfleet-Fence", 1).send().await?;
        let (status, body) = (answer.status(), answer.bytes().await?);
        ensure!(status.is_success(), "{step} answers {status}");
        serde_json::from_slice::<Value>(&body).context("an answer is JSON").map(drop)
    }
}

/// An order as it is stored.
pub(super) fn order(text: &str) -> anyhow::Result<RawDocumentBuf> {
    Ok(bson::serialize_to_raw_document_buf(&serde_json::from_str::<Value>(text)?)?)
}

/// An order's document.
pub(super) fn document(id: &str, order: &RawDocument, phase: &str) -> RawDocumentBuf {
    let mut document =
        rawdoc! { "_id": id, "phase": phase, "cur": 0, "results": [], "updated_at": DateTime::now() };
    document.append(cstr!("order"), order);
    document
}

fn step_done(id: &str, number: i32, step: &str, phase: &str) -> RawDocumentBuf {
    let now = DateTime::now();
    rawdoc! {
        "q": { "_id": id },
        "u": {
            "$set": { "phase": phase, "cur": number, "updated_at": now },
            "$push": { "results": { "step": step, "state": "done", "at": now } },
        },
    }
}

async fn ack(channel: Channel, mut worked: mpsc::UnboundedReceiver<u64>) {
    let (mut acks, mut tags) = (Acks::new(), Vec::new());
    while worked.recv_many(&mut tags, ACKED_AT_ONCE_MAX).await > 0 {
        tags.drain(..).for_each(|tag| acks.done(tag));
        let Some(tag) = acks.settled() else { continue };
        if let Err(error) = channel.basic_ack(tag, BasicAckOptions { multiple: true }).await {
            eprintln!("orderfleet-bare: {error:#}");
        }
    }
}
