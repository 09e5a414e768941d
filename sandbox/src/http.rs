//! The HTTP side: routes, what handlers share, and how errors become answers.

mod read_back;
mod rules;
mod steps;

use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::DefaultBodyLimit;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::json;
use tracing::error;

use crate::accounting::Accounting;
use crate::call::Malformed;
use crate::faults::Faults;
use crate::fulfilment::Fulfilment;
use crate::inventory::Inventory;
use crate::ledger::LedgerError;
use crate::rules::RuleError;
use crate::service::{Effects, Service};

const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Marks a response that must not be sent: the connection is closed instead.
#[derive(Clone, Copy)]
pub(crate) struct LostReply;

/// A service and the fault rules, as its handlers share them.
pub(crate) struct Shared<E: Effects> {
    service: Mutex<Service<E>>,
    faults: Arc<Faults>,
}

/// All routes of the sandbox.
pub(crate) fn router(
    inventory: Service<Inventory>,
    fulfilment: Service<Fulfilment>,
    accounting: Service<Accounting>,
    faults: Arc<Faults>,
) -> Router {
    let inventory = Shared::new(inventory, &faults);
    let fulfilment = Shared::new(fulfilment, &faults);
    let accounting = Shared::new(accounting, &faults);
    let stock = Router::new()
        .route("/stock", get(read_back::list_stock))
        .route("/stock/{sku}", get(read_back::get_stock).put(read_back::set_stock))
        .with_state(Arc::clone(&inventory));
    let shipments = Router::new()
        .route("/shipments", get(read_back::list_shipments))
        .route("/shipments/{order_id}", get(read_back::list_order_shipments))
        .with_state(Arc::clone(&fulfilment));
    let accounts =
        Router::new().route("/accounts", get(read_back::list_accounts)).with_state(Arc::clone(&accounting));
    let fault_rules = put(rules::replace).post(rules::add).get(rules::list).delete(rules::clear);
    Router::new()
        .nest("/inventory", contract(inventory).merge(stock))
        .nest("/fulfilment", contract(fulfilment).merge(shipments))
        .nest("/accounting", contract(accounting).merge(accounts))
        .merge(Router::new().route("/faults", fault_rules).with_state(faults))
        .route("/healthz", get(async || Json(json!({ "status": "ok" }))))
        .fallback(async || (StatusCode::NOT_FOUND, Json(json!({ "error": "there is nothing at this path" }))))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// The routes that every service has.
fn contract<E: Effects>(shared: Arc<Shared<E>>) -> Router {
    Router::new()
        .route(
            "/steps/{instance}",
            put(steps::do_step::<E>).delete(steps::undo_step::<E>).get(steps::look::<E>),
        )
        .route("/steps/batch", post(steps::do_batch::<E>))
        .route("/ledger", get(read_back::read_ledger::<E>))
        .route("/summary", get(read_back::summary::<E>))
        .with_state(shared)
}

impl<E: Effects> Shared<E> {
    fn new(service: Service<E>, faults: &Arc<Faults>) -> Arc<Self> {
        Arc::new(Self { service: Mutex::new(service), faults: Arc::clone(faults) })
    }

    /// Held briefly and never across an await: this is what serialises do and undo.
    fn service(&self) -> MutexGuard<'_, Service<E>> {
        self.service.lock().expect("nothing panics while holding a service")
    }
}

/// Why a request got no regular answer.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum Failed {
    Malformed(#[from] Malformed),
    Body(#[from] BytesRejection),
    Rule(#[from] RuleError),
    Ledger(#[from] LedgerError),
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        match self {
            Self::Malformed(problem) => error_response(StatusCode::BAD_REQUEST, &problem.to_string()),
            Self::Rule(problem) => error_response(StatusCode::BAD_REQUEST, &problem.to_string()),
            Self::Body(rejection) => error_response(rejection.status(), &rejection.body_text()),
            Self::Ledger(problem) => {
                error!(error = &problem as &dyn std::error::Error, "a call had no effect");
                error_response(StatusCode::INTERNAL_SERVER_ERROR, "the ledger cannot be written")
            }
        }
    }
}

fn error_response(status: StatusCode, problem: &str) -> Response {
    (status, Json(json!({ "error": problem }))).into_response()
}
