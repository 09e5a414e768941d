//! The contract's three calls: do, undo and look, and the faults scripted around them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tracing::debug;

use super::{Failed, LostReply, Shared, error_response};
use crate::call::{Call, StepInstance, Verb};
use crate::faults::{Failure, Target};
use crate::ledger::LedgerError;
use crate::order::DoRequest;
use crate::service::{Answer, Effects, Service};

const HANG_MAX: Duration = Duration::from_secs(600);

pub(super) async fn do_step<E: Effects>(
    State(shared): State<Arc<Shared<E>>>,
    Path(instance): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failed> {
    let call = Call::parse(&instance, &headers)?;
    let request = Arc::new(DoRequest::parse(&body?, &call.instance)?);
    log_call::<E>(Verb::Do, &call, &headers);
    shared.service().learn(&call.instance, Arc::clone(&request));
    let target = shared.faults.arrive(E::NAME, Verb::Do, &instance, Some(&request.order));
    under_faults(&shared, &target, |service| service.do_step(call, &request, &target)).await
}

pub(super) async fn undo_step<E: Effects>(
    State(shared): State<Arc<Shared<E>>>,
    Path(instance): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let call = Call::parse(&instance, &headers)?;
    log_call::<E>(Verb::Undo, &call, &headers);
    let target = shared.faults.arrive(E::NAME, Verb::Undo, &instance, None);
    under_faults(&shared, &target, |service| service.undo_step(call, &target)).await
}

pub(super) async fn look<E: Effects>(
    State(shared): State<Arc<Shared<E>>>,
    Path(instance): Path<String>,
) -> Result<Json<Value>, Failed> {
    let instance = StepInstance::parse(&instance)?;
    Ok(Json(shared.service().look(&instance, &shared.faults)))
}

/// Puts the faults scripted for a call around the judgement of it.
async fn under_faults<E: Effects>(
    shared: &Shared<E>,
    target: &Target<'_>,
    judge: impl FnOnce(&mut Service<E>) -> Result<Answer, LedgerError>,
) -> Result<Response, Failed> {
    if let Some(delay) = target.delay() {
        tokio::time::sleep(delay).await;
    }
    if let Some(failure) = target.failure() {
        return Ok(fail(failure).await);
    }
    let mut response = judge(&mut shared.service())?.into_response();
    if target.loses_reply() {
        response.extensions_mut().insert(LostReply);
    }
    Ok(response)
}

fn log_call<E: Effects>(verb: Verb, call: &Call, headers: &HeaderMap) {
    let traceparent = headers.get("traceparent").and_then(|value| value.to_str().ok());
    debug!(service = E::NAME, %verb, saga.step = call.instance.id, fence = call.fence, traceparent);
}

async fn fail(failure: Failure) -> Response {
    match failure {
        Failure::Error => error_response(StatusCode::INTERNAL_SERVER_ERROR, "scripted error"),
        Failure::Unavailable => error_response(StatusCode::SERVICE_UNAVAILABLE, "scripted outage"),
        Failure::Hang(mut healed) => {
            // Dropped when the client goes away; either way of ending closes the connection.
            let _ = tokio::time::timeout(HANG_MAX, healed.changed()).await;
            let mut response = StatusCode::SERVICE_UNAVAILABLE.into_response();
            response.extensions_mut().insert(LostReply);
            response
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let (status, body) = match self {
            Self::Result(result) => (StatusCode::OK, json!({ "result": result })),
            Self::Refused(refused) => (StatusCode::UNPROCESSABLE_ENTITY, json!({ "refused": refused })),
            Self::Cancelled => (StatusCode::CONFLICT, json!({ "cancelled": true })),
            Self::StaleFence(highest) => (StatusCode::CONFLICT, json!({ "stale_fence": highest })),
            Self::KeyMismatch => (StatusCode::CONFLICT, json!({ "key_mismatch": true })),
        };
        (status, Json(body)).into_response()
    }
}
