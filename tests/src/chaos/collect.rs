//! Gathers the evidence after a run: ledgers and books of the services, documents, dead letters, events.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use mongodb::{
    Collection,
    bson::{Bson, Document, doc},
};
use orderfleet_domain::Order;
use rust_decimal::Decimal;
use serde_json::Value;

use crate::{
    Broker, SERVICES, Sandbox,
    chaos::{Calls, Holdings, Identity, Instance, Ledgers, Parked, Published, Stored},
};

const ORDERS: &str = "orders";
const DEAD: &str = "orders.dead.";
const DEAD_LETTERS: &str = "dead_letters";

/// All three ledgers as they are now.
///
/// # Panics
/// When the sandbox does not answer.
pub async fn ledgers(sandbox: &Sandbox) -> Ledgers {
    let mut ledgers = Ledgers::new();
    for service in SERVICES {
        for line in sandbox.ledger(service).await {
            let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
            let generation = line["gen"].as_u64().unwrap_or_default();
            let instance = Instance { order_id: text("order_id"), generation, step: text("step") };
            let calls: &mut Calls = ledgers.entry(instance).or_default();
            match (line["outcome"].as_str(), line["verb"].as_str()) {
                (Some("effect"), Some("do")) => calls.done += 1,
                (Some("effect"), Some("undo")) => calls.undone += 1,
                (Some("refused"), Some("do")) => calls.dos_refused += 1,
                (Some("refused"), Some("undo")) => calls.undos_refused += 1,
                _ => {}
            }
        }
    }
    ledgers.retain(|_, calls| *calls != Calls::default());
    ledgers
}

/// What the services hold by their own books.
///
/// # Errors
/// When an amount is no decimal.
///
/// # Panics
/// When the sandbox does not answer.
pub async fn holdings(sandbox: &Sandbox) -> anyhow::Result<Holdings> {
    let mut holdings = Holdings::default();
    let stock = sandbox.get("/inventory/stock").await;
    for (sku, article) in stock.as_object().into_iter().flatten() {
        holdings.reserved.insert(sku.clone(), article["reserved"].as_u64().unwrap_or_default());
    }
    holdings.reserved.retain(|_, units| *units > 0);
    for shipment in sandbox.get("/fulfilment/shipments").await.as_array().into_iter().flatten() {
        if shipment["status"] == "open" {
            let order_id = shipment["order_id"].as_str().unwrap_or_default().to_owned();
            *holdings.shipments.entry(order_id).or_default() += 1;
        }
    }
    let books = sandbox.get("/accounting/accounts").await;
    for book in books["accounts"].as_array().into_iter().flatten().filter(|book| book["kind"] == "receivable")
    {
        let text = |field: &str| book[field].as_str().unwrap_or_default().to_owned();
        let balance = decimal(&book["balance"])?;
        holdings.receivable.insert((text("account"), text("currency")), balance);
    }
    holdings.receivable.retain(|_, balance| !balance.is_zero());
    for (currency, sides) in books["totals"].as_object().into_iter().flatten() {
        if decimal(&sides["debits"])? != decimal(&sides["credits"])? {
            holdings.unbalanced.insert(currency.clone());
        }
    }
    Ok(holdings)
}

/// Every order's document.
///
/// # Errors
/// When the database does not answer, or a document has no readable end.
pub async fn stored(database: &mongodb::Database) -> anyhow::Result<BTreeMap<String, Stored>> {
    let fields = doc! {
        "fp": 1, "phase": 1, "gen": 1, "final": 1, "cur": 1, "hi": 1, "cause.class": 1, "hold": 1, "evp": 1, "conflicts.fp": 1, "history.what": 1
    };
    let found = orders(database).find(doc! {}).projection(fields).await.context("read the orders")?;
    let documents: Vec<Document> = found.try_collect().await.context("read the orders")?;
    documents.iter().map(|document| Ok((document.get_str("_id")?.to_owned(), end_of(document)?))).collect()
}

fn end_of(document: &Document) -> anyhow::Result<Stored> {
    let conflicts = document.get_array("conflicts").into_iter().flatten().filter_map(Bson::as_document);
    let mut history = document.get_array("history").into_iter().flatten().filter_map(Bson::as_document);
    let cause = document.get_document("cause").ok().and_then(|cause| cause.get_str("class").ok());
    Ok(Stored {
        fp: document.get_str("fp")?.to_owned(),
        phase: document.get_str("phase")?.to_owned(),
        generation: number(document, "gen")?,
        is_final: document.get_bool("final")?,
        cur: usize::try_from(number(document, "cur")?)?,
        hi: usize::try_from(number(document, "hi")?)?,
        cause: cause.map(str::to_owned),
        cancel_too_late: history
            .any(|entry| entry.get_str("what").is_ok_and(|what| what == "cancel_too_late")),
        hold: hold_of(document),
        owes: document.get_bool("evp")?,
        conflicts: conflicts.filter_map(|conflict| Some(conflict.get_str("fp").ok()?.to_owned())).collect(),
    })
}

/// The id of its hold; empty where the hold has none, which is a hold all the same.
fn hold_of(document: &Document) -> Option<String> {
    match document.get("hold") {
        None | Some(Bson::Null) => None,
        Some(hold) => {
            let id = hold.as_document().and_then(|hold| hold.get_str("id").ok());
            Some(id.unwrap_or_default().to_owned())
        }
    }
}

fn number(document: &Document, field: &str) -> anyhow::Result<u64> {
    match document.get(field) {
        Some(Bson::Int32(number)) => Ok(u64::try_from(*number)?),
        Some(Bson::Int64(number)) => Ok(u64::try_from(*number)?),
        other => anyhow::bail!("{field} is {other:?}"),
    }
}

/// How many orders have neither ended nor are held, and how many owe a publish.
///
/// # Errors
/// When the database does not answer.
pub(super) async fn unfinished(database: &mongodb::Database) -> anyhow::Result<(u64, u64)> {
    let open = doc! { "phase": { "$in": ["RUN", "COMP"] }, "hold": null };
    let open = orders(database).count_documents(open).await?;
    Ok((open, orders(database).count_documents(doc! { "evp": true }).await?))
}

/// An order that a person may ask something for.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) order_id: String,
    pub(super) account: String,
    pub(super) generation: u64,
    /// The hold it waits with; without one its run has failed and may be followed by another.
    pub(super) hold: Option<String>,
    /// As it was posted.
    pub(super) order: Order,
}

/// Orders that are held, or that failed for a technical cause, without those that hold this article.
///
/// # Errors
/// When the database does not answer, or a document cannot be read.
pub(super) async fn waiting(database: &mongodb::Database, but_not: &str) -> anyhow::Result<Vec<Waiting>> {
    let failed = doc! { "phase": "UNDONE", "final": false };
    let filter = doc! { "$or": [{ "hold": { "$ne": null } }, failed], "order.lines.sku": { "$ne": but_not } };
    let fields = doc! { "account": 1, "gen": 1, "hold.id": 1, "order": 1 };
    let found: Vec<Document> = orders(database).find(filter).projection(fields).await?.try_collect().await?;
    let waiting = |document: &Document| {
        let hold = document.get_document("hold").ok().and_then(|hold| hold.get_str("id").ok());
        Ok(Waiting {
            order_id: document.get_str("_id")?.to_owned(),
            account: document.get_str("account")?.to_owned(),
            generation: number(document, "gen")?,
            hold: hold.map(str::to_owned),
            order: serde_json::from_value(plain(&document.get_document("order")?.into()))?,
        })
    };
    found.iter().map(waiting).collect()
}

/// What was posted, from how it is stored: money is text there. No posted order of a run has a time in it.
fn plain(stored: &Bson) -> Value {
    match stored {
        Bson::Document(document) => {
            document.iter().map(|(name, value)| (name.clone(), plain(value))).collect()
        }
        Bson::Array(values) => values.iter().map(plain).collect(),
        Bson::Decimal128(money) => money.to_string().into(),
        Bson::String(text) => text.as_str().into(),
        number => number.as_i64().or(number.as_i32().map(i64::from)).into(),
    }
}

/// Ids of all orders that have a document.
///
/// # Errors
/// When the database does not answer.
pub(super) async fn ids(database: &mongodb::Database) -> anyhow::Result<BTreeSet<String>> {
    let found = orders(database).find(doc! {}).projection(doc! { "_id": 1 }).await?;
    let documents: Vec<Document> = found.try_collect().await?;
    documents.iter().map(|document| Ok(document.get_str("_id")?.to_owned())).collect()
}

/// All dead letters that were parked in the database.
///
/// # Errors
/// When the database does not answer, or a dead letter cannot be read.
pub async fn dead_letters(database: &mongodb::Database) -> anyhow::Result<Vec<Parked>> {
    let found = database.collection(DEAD_LETTERS).find(doc! {}).await.context("read the dead letters")?;
    let letters: Vec<Document> = found.try_collect().await.context("read the dead letters")?;
    let parked = |letter: &Document| {
        let id = letter.get_str("_id")?.to_owned();
        Ok(dead_letter(id, letter.get_str("queue")?.to_owned(), letter.get_binary_generic("body")?))
    };
    letters.iter().map(parked).collect()
}

/// Takes all dead letters out of their queues, where nobody parks them.
///
/// # Panics
/// When the broker does not answer.
pub async fn parked(broker: &Broker) -> Vec<Parked> {
    let mut parked = Vec::new();
    for queue in broker.depths().await.into_keys().filter(|queue| queue.starts_with(DEAD)) {
        for message in broker.take_all(&queue).await {
            let id = message.headers.get("dead_letter_id").cloned().unwrap_or_default();
            parked.push(dead_letter(id, queue.clone(), &message.body));
        }
    }
    parked
}

fn dead_letter(id: String, queue: String, body: &[u8]) -> Parked {
    let body = String::from_utf8_lossy(body).into_owned();
    let command: Value = serde_json::from_str(&body).unwrap_or_default();
    let text = |field: &str| command[field].as_str().map(str::to_owned);
    let about = text("order_id").map(|order_id| Identity { order_id, fp: text("fp").unwrap_or_default() });
    let generation = command["gen"].as_u64().unwrap_or_default();
    Parked { id, queue, about, generation, body }
}

/// Takes all events out of a queue that got every one of them.
///
/// # Panics
/// When the broker does not answer.
pub async fn events(broker: &Broker, queue: &str) -> Vec<Published> {
    let published = |message: crate::Message| {
        let body: Value = serde_json::from_slice(&message.body).unwrap_or_default();
        Published {
            order_id: body["order_id"].as_str().unwrap_or_default().to_owned(),
            generation: body["gen"].as_u64().unwrap_or_default(),
            kind: message.routing_key,
            id: message.headers.get("cloudEvents:id").cloned().unwrap_or_default(),
        }
    };
    broker.take_all(queue).await.into_iter().map(published).collect()
}

/// Messages in queues that should be empty where nobody parks dead letters: all but these.
///
/// # Panics
/// When the broker does not answer.
pub async fn left_in_queues(broker: &Broker) -> BTreeMap<String, u32> {
    let mut depths = broker.depths().await;
    depths.retain(|queue, _| !queue.starts_with(DEAD));
    depths
}

fn orders(database: &mongodb::Database) -> Collection<Document> {
    database.collection(ORDERS)
}

fn decimal(value: &Value) -> anyhow::Result<Decimal> {
    let text = value.as_str().unwrap_or_default();
    text.parse().with_context(|| format!("{value} is no decimal"))
}
