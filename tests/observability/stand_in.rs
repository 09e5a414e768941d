//! A process that only tells metrics, for what no process of this build can be made to do.

use axum::{Router, routing::get};
use tokio::{net::TcpListener, task::JoinHandle};

/// Tells these metrics to whoever asks, until it is dropped.
pub(crate) struct StandIn {
    pub(crate) address: String,
    serving: JoinHandle<()>,
}

impl StandIn {
    pub(crate) async fn start(metrics: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let routes = Router::new().route("/metrics", get(move || async move { metrics }));
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, serving }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
