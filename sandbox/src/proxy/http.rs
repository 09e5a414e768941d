//! The control API: read the links and their evidence, set and heal faults, reset connections.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::json;

use super::fault::{Fault, FaultError};
use super::link::{Link, LinkStatus};

const BODY_BYTES_MAX: usize = 4 * 1024;

/// The links in the order they were given.
pub(super) type Links = Arc<[Arc<Link>]>;

/// All routes of the control API.
pub(super) fn router(links: Links) -> Router {
    Router::new()
        .route("/links", get(list))
        .route("/links/{name}", get(show))
        .route("/links/{name}/fault", put(set_fault).delete(heal))
        .route("/links/{name}/reset", post(reset))
        .route("/healthz", get(async || Json(json!({ "status": "ok" }))))
        .fallback(async || Failed::NoPath)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(links)
}

async fn list(State(links): State<Links>) -> Json<Vec<LinkStatus>> {
    Json(links.iter().map(|link| link.status()).collect())
}

async fn show(State(links): State<Links>, Path(name): Path<String>) -> Result<Json<LinkStatus>, Failed> {
    Ok(Json(find(&links, &name)?.status()))
}

async fn set_fault(
    State(links): State<Links>,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<LinkStatus>, Failed> {
    let link = find(&links, &name)?;
    link.set_fault(Fault::from_json(&body?)?);
    Ok(Json(link.status()))
}

async fn heal(State(links): State<Links>, Path(name): Path<String>) -> Result<Json<LinkStatus>, Failed> {
    let link = find(&links, &name)?;
    link.heal();
    Ok(Json(link.status()))
}

async fn reset(State(links): State<Links>, Path(name): Path<String>) -> Result<Json<LinkStatus>, Failed> {
    let link = find(&links, &name)?;
    link.reset();
    Ok(Json(link.status()))
}

fn find<'a>(links: &'a Links, name: &str) -> Result<&'a Link, Failed> {
    let link = links.iter().find(|link| link.name() == name);
    link.map(|link| &**link).ok_or_else(|| Failed::NoLink(name.to_owned()))
}

/// Why a request changed nothing.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("there is nothing at this path")]
    NoPath,
    #[error("there is no link {0}")]
    NoLink(String),
    #[error(transparent)]
    Fault(#[from] FaultError),
    #[error(transparent)]
    Body(#[from] BytesRejection),
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::NoPath | Self::NoLink(_) => StatusCode::NOT_FOUND,
            Self::Fault(_) => StatusCode::BAD_REQUEST,
            Self::Body(rejection) => rejection.status(),
        };
        (status, Json(json!({ "error": self.to_string() }))).into_response()
    }
}
