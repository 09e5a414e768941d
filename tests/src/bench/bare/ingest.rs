//! `POST /v1/orders` as thin as it can be: the body into the queue, its confirm, a 202.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context as _;
use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use serde_json::json;
use tokio::net::TcpListener;

use super::{broker::Channels, tell};

struct Ingest {
    channels: Channels,
    number: AtomicU64,
}

/// Serves until it is killed; says where once it does.
///
/// # Errors
/// When the broker does not answer, or the address is taken.
pub(super) async fn serve(amqp_url: &str, listen: SocketAddr) -> anyhow::Result<()> {
    let ingest = Arc::new(Ingest { channels: Channels::open(amqp_url).await?, number: AtomicU64::new(0) });
    let listener = TcpListener::bind(listen).await.context("--listen")?;
    let address = listener.local_addr()?;
    tell(json!({ "listen": address, "admin_listen": address }));
    let routes = Router::new().route("/v1/orders", post(accept)).with_state(ingest);
    Ok(axum::serve(listener, routes).await?)
}

async fn accept(State(ingest): State<Arc<Ingest>>, body: Bytes) -> StatusCode {
    let number = ingest.number.fetch_add(1, Ordering::Relaxed);
    match ingest.channels.publish(&format!("ingest-{number}"), &body).await {
        Ok(()) => StatusCode::ACCEPTED,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
