//! Attempts that were wasted: calls that were made again although the first one had its effect, and calls charged as failed.

use std::collections::BTreeMap;

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use mongodb::{
    Database,
    bson::{Bson, Document, doc},
};
use serde::Serialize;

use crate::{SERVICES, Sandbox};

/// The word for a charged attempt in an order's history.
const CHARGED: &str = "attempt_failed";

/// What was wasted in a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Waste {
    /// Attempts.
    pub attempts: u64,
    /// Orders that wasted any.
    pub orders: usize,
    /// Most attempts that one order wasted.
    pub most: u64,
    /// That order.
    pub most_of: Option<String>,
}

/// Counts it by the services' ledgers and the orders' histories.
///
/// # Errors
/// The database does not answer.
///
/// # Panics
/// When the sandbox does not answer.
pub(super) async fn wasted(sandbox: &Sandbox, database: &Database) -> anyhow::Result<Waste> {
    let mut by_order: BTreeMap<String, u64> = BTreeMap::new();
    for service in SERVICES {
        for line in sandbox.ledger(service).await {
            if line["outcome"] == "repeat" {
                *by_order.entry(line["order_id"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
            }
        }
    }
    let charged = doc! { "history.what": CHARGED };
    let orders = database.collection::<Document>("orders");
    let find = orders.find(charged).projection(doc! { "history.what": 1 });
    let found: Vec<_> =
        find.await.context("read the orders")?.try_collect().await.context("read the orders")?;
    for order in found {
        *by_order.entry(order.get_str("_id")?.to_owned()).or_default() += charged_of(&order);
    }
    Ok(Waste::of(&by_order))
}

fn charged_of(order: &Document) -> u64 {
    let history = order.get_array("history").into_iter().flatten().filter_map(Bson::as_document);
    history.filter(|entry| entry.get_str("what").is_ok_and(|what| what == CHARGED)).count() as u64
}

impl Waste {
    fn of(by_order: &BTreeMap<String, u64>) -> Self {
        let most = by_order.iter().max_by_key(|(_, attempts)| **attempts);
        Self {
            attempts: by_order.values().sum(),
            orders: by_order.len(),
            most: most.map_or(0, |(_, attempts)| *attempts),
            most_of: most.map(|(order, _)| order.clone()),
        }
    }
}
