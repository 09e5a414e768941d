//! Reading back what the services did: ledgers, summaries, stock, shipments, accounts.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::Value;

use super::{Failed, Shared};
use crate::accounting::Accounting;
use crate::call::Malformed;
use crate::fulfilment::Fulfilment;
use crate::inventory::Inventory;
use crate::service::Effects;

const LEDGER_CHUNK_LINES: usize = 1_000;

#[derive(Deserialize)]
pub(super) struct LedgerFilter {
    order_id: Option<String>,
}

/// Streams the records that exist now, some lines at a time so that callers are hardly delayed.
pub(super) async fn read_ledger<E: Effects>(
    State(shared): State<Arc<Shared<E>>>,
    Query(LedgerFilter { order_id }): Query<LedgerFilter>,
) -> impl IntoResponse {
    let end = shared.service().ledger.len();
    let chunks = (0..end).step_by(LEDGER_CHUNK_LINES).map(move |start| {
        let range = start..end.min(start + LEDGER_CHUNK_LINES);
        Ok::<_, Infallible>(shared.service().ledger.text(range, order_id.as_deref()))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(futures_util::stream::iter(chunks)))
}

pub(super) async fn summary<E: Effects>(State(shared): State<Arc<Shared<E>>>) -> Json<Value> {
    Json(shared.service().summary())
}

pub(super) async fn list_stock(State(shared): State<Arc<Shared<Inventory>>>) -> impl IntoResponse {
    // Bound first, so that the lock is gone before the list is written as JSON.
    let stock = shared.service().effects.stock();
    Json(stock)
}

pub(super) async fn get_stock(
    State(shared): State<Arc<Shared<Inventory>>>,
    Path(sku): Path<String>,
) -> impl IntoResponse {
    Json(shared.service().effects.stock_of(&sku))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewStock {
    on_hand: u64,
}

pub(super) async fn set_stock(
    State(shared): State<Arc<Shared<Inventory>>>,
    Path(sku): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Failed> {
    let NewStock { on_hand } = serde_json::from_slice(&body?)
        .map_err(|error| Malformed(format!("the body must be {{\"on_hand\":N}}: {error}")))?;
    Ok(Json(shared.service().effects.set_on_hand(&sku, on_hand)?))
}

pub(super) async fn list_shipments(State(shared): State<Arc<Shared<Fulfilment>>>) -> impl IntoResponse {
    let shipments = shared.service().effects.shipments(None);
    Json(shipments)
}

pub(super) async fn list_order_shipments(
    State(shared): State<Arc<Shared<Fulfilment>>>,
    Path(order_id): Path<String>,
) -> impl IntoResponse {
    Json(shared.service().effects.shipments(Some(&order_id)))
}

pub(super) async fn list_accounts(State(shared): State<Arc<Shared<Accounting>>>) -> impl IntoResponse {
    Json(shared.service().effects.accounts())
}
