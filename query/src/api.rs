//! `GET /v1/orders/{id}`: an order of the caller's account, or a problem that says whether to ask again.

use std::sync::{Arc, OnceLock};

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use orderfleet_domain::OrderId;
use orderfleet_runtime::{auth::authenticate, keys::KeyRing, problem::Problem};
use orderfleet_storage::{OrderView, ParkedOrder, Store, StoreError};
use tracing::Span;

use crate::answer::{Answer, ParkedAnswer};

const RETRY_AFTER_S: u32 = 1;

/// The read side and what it needs. The store is empty until the database has been reached for the first time.
#[derive(Debug, Clone)]
pub(crate) struct Api(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    keys: Arc<KeyRing>,
    store: Arc<OnceLock<Store>>,
}

impl Api {
    pub(crate) fn new(keys: Arc<KeyRing>, store: Arc<OnceLock<Store>>) -> Self {
        Self(Arc::new(Parts { keys, store }))
    }

    pub(crate) fn routes(self) -> Router {
        let wrong_method = || async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Orders are only read here")
        };
        Router::new()
            .route("/v1/orders/{id}", get(get_order).fallback(wrong_method))
            .fallback(|| async { not_found() })
            .with_state(self)
    }
}

async fn get_order(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Response {
    let mut response = match find(&api.0, path, &headers).await {
        Ok((_, Found::Stored(view))) => Json(Answer::from(&*view)).into_response(),
        Ok((order_id, Found::Parked(parked))) => Json(ParkedAnswer::new(&order_id, &parked)).into_response(),
        Err(problem) => return problem.into_response(),
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

enum Found {
    Stored(Box<OrderView>),
    /// It waits for a person before it was stored.
    Parked(ParkedOrder),
}

async fn find(
    parts: &Parts,
    path: Result<Path<String>, PathRejection>,
    headers: &HeaderMap,
) -> Result<(OrderId, Found), Problem> {
    let keys = parts.keys.current();
    let caller = authenticate(&keys, headers)?;
    let Path(text) = path.map_err(|_| not_found())?;
    let order_id: OrderId = text.parse().map_err(|_| not_found())?;
    if !order_id.may_belong_to(&caller.region, &caller.account) {
        return Err(not_found());
    }
    Span::current().record("order.id", order_id.as_str());
    let store = parts.store.get().ok_or_else(unavailable)?;
    let lookup = async {
        Ok(match store.find_for_account(&order_id, &caller.account).await? {
            Some(view) => Some(Found::Stored(Box::new(view))),
            None => store.find_parked(&order_id, &caller.account).await?.map(Found::Parked),
        })
    };
    let found = lookup.await.map_err(|error| failed(&order_id, &error))?.ok_or_else(not_yet_known)?;
    Ok((order_id, found))
}

fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not-found", "No such order")
}

fn not_yet_known() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not-yet-known", "The order is not stored yet")
        .detail("an accepted order appears once a worker has taken it from the queue; ask again")
        .retry_after(RETRY_AFTER_S)
}

fn unavailable() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The database does not answer")
        .detail("the order is not affected; ask again")
        .retry_after(RETRY_AFTER_S)
}

fn failed(order_id: &OrderId, error: &StoreError) -> Problem {
    tracing::warn!(order.id = %order_id, error = error as &dyn std::error::Error, "cannot read an order");
    match error {
        StoreError::Unreadable { .. } => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error")
        }
        _ => unavailable(),
    }
}
