//! The contract's calls: do, undo and look, dos in batches, and the faults scripted around them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Bytes, to_bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tracing::debug;

use super::{Failed, LostReply, Shared, error_response};
use crate::call::{Call, Malformed, StepInstance, Verb};
use crate::faults::{Failure, Target};
use crate::ledger::LedgerError;
use crate::order::DoRequest;
use crate::service::{Answer, Effects, Service};

const HANG_MAX: Duration = Duration::from_secs(600);

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    calls: Vec<&'a RawValue>,
}

/// One do of a batch: what else the path and the headers say, and its body.
#[derive(Deserialize)]
struct Batched<'a> {
    instance: String,
    key: String,
    fence: u64,
    #[serde(default)]
    traceparent: Option<String>,
    #[serde(borrow)]
    body: &'a RawValue,
}

#[derive(Serialize)]
struct Answered {
    instance: String,
    status: u16,
    body: Box<RawValue>,
}

pub(super) async fn do_step<E: Effects>(
    State(shared): State<Arc<Shared<E>>>,
    Path(instance): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failed> {
    let call = Call::parse(&instance, &headers)?;
    judge_do(&shared, call, &body?, traceparent(&headers)).await
}

/// Several dos, each judged as if it had come alone, and all at once: a slow one delays the answer of all, and one whose reply
/// is to be lost loses it for all.
pub(super) async fn do_batch<E: Effects>(
    State(shared): State<Arc<Shared<E>>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failed> {
    let body = body?;
    let Batch { calls } = serde_json::from_slice(&body).map_err(|error| Malformed(error.to_string()))?;
    let answers = join_all(calls.into_iter().map(|call| judge_batched(&shared, call))).await;
    let is_lost = answers.iter().any(|(_, answer)| answer.extensions().get::<LostReply>().is_some());
    let mut told = Vec::with_capacity(answers.len());
    for (instance, answer) in answers {
        let status = answer.status().as_u16();
        // What is in it was made here: it is small, and JSON unless it is empty.
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap_or_default();
        told.push(Answered { instance, status, body: serde_json::from_slice(&body).unwrap_or_default() });
    }
    let mut response = Json(json!({ "answers": told })).into_response();
    if is_lost {
        response.extensions_mut().insert(LostReply);
    }
    Ok(response)
}

/// The instance as it was named, and what its do is answered.
async fn judge_batched<E: Effects>(shared: &Shared<E>, call: &RawValue) -> (String, Response) {
    let batched: Batched<'_> = match serde_json::from_str(call.get()) {
        Ok(batched) => batched,
        Err(error) => return (String::new(), Failed::from(Malformed(error.to_string())).into_response()),
    };
    let judged = async {
        let call = Call::new(&batched.instance, &batched.key, batched.fence)?;
        judge_do(shared, call, batched.body.get().as_bytes(), batched.traceparent.as_deref()).await
    };
    let answer = judged.await.unwrap_or_else(IntoResponse::into_response);
    (batched.instance, answer)
}

async fn judge_do<E: Effects>(
    shared: &Shared<E>,
    call: Call,
    body: &[u8],
    traceparent: Option<&str>,
) -> Result<Response, Failed> {
    let request = Arc::new(DoRequest::parse(body, &call.instance)?);
    log_call::<E>(Verb::Do, &call, traceparent);
    shared.service().learn(&call.instance, Arc::clone(&request));
    let instance = call.instance.id.clone();
    let target = shared.faults.arrive(E::NAME, Verb::Do, &instance, Some(&request.order));
    under_faults(shared, &target, |service| service.do_step(call, &request, &target)).await
}

pub(super) async fn undo_step<E: Effects>(
    State(shared): State<Arc<Shared<E>>>,
    Path(instance): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let call = Call::parse(&instance, &headers)?;
    log_call::<E>(Verb::Undo, &call, traceparent(&headers));
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

fn traceparent(headers: &HeaderMap) -> Option<&str> {
    headers.get("traceparent").and_then(|value| value.to_str().ok())
}

fn log_call<E: Effects>(verb: Verb, call: &Call, traceparent: Option<&str>) {
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
