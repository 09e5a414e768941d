//! The fault rules in force, read and changed while the sandbox runs.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::IntoResponse;

use super::Failed;
use crate::faults::Faults;
use crate::rules::Rule;

pub(super) async fn list(State(faults): State<Arc<Faults>>) -> impl IntoResponse {
    Json(faults.list())
}

pub(super) async fn replace(
    State(faults): State<Arc<Faults>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Failed> {
    faults.replace(Rule::list_from_json(&body?)?);
    Ok(Json(faults.list()))
}

pub(super) async fn add(
    State(faults): State<Arc<Faults>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Failed> {
    faults.add(Rule::from_json(&body?)?);
    Ok(Json(faults.list()))
}

pub(super) async fn clear(State(faults): State<Arc<Faults>>) -> impl IntoResponse {
    faults.replace(Vec::new());
    Json(faults.list())
}
