//! From a message to the broker's confirm, or to a 503 that says whether the message may be queued all the same.

use std::time::Instant;

use axum::http::StatusCode;
use orderfleet_messaging::{Outgoing, PublishError, Publisher};
use orderfleet_runtime::{crash, problem::Problem};

const RETRY_AFTER_S: u32 = 1;

/// Why there is no 202, and whether the message can still come into a queue.
pub(crate) struct Failure {
    pub(crate) surely_not_queued: bool,
    pub(crate) problem: Problem,
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        failure.problem
    }
}

/// Publishes a message and waits for its confirm. `repeat` tells the client what to do otherwise.
pub(crate) async fn publish(publisher: &Publisher, outgoing: &Outgoing, repeat: &str) -> Result<(), Failure> {
    let started = Instant::now();
    let result = crash::around("producer.publish", publisher.publish(outgoing)).await;
    metrics::histogram!("orderfleet_confirm_seconds").record(started.elapsed());
    result.map_err(|error| {
        tracing::warn!(%error, "a message was not confirmed");
        let surely_not_queued = matches!(error, PublishError::NotSent(_) | PublishError::Returned { .. });
        let state = if surely_not_queued { "nothing was queued" } else { "it may still be executed" };
        let problem =
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-confirmed", "The request was not confirmed")
                .detail(format!("{state}: {repeat}"))
                .retry_after(RETRY_AFTER_S);
        Failure { surely_not_queued, problem }
    })
}
