//! `POST /v1/orders/{id}/cancel`: from a request to a confirmed message and a 202. Whether the order can still be
//! cancelled is for the worker to find out that gets the message.

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use jiff::Timestamp;
use orderfleet_domain::{Command, CommandKind, OrderId, saga::Lane};
use orderfleet_messaging::{Destination, Headers, Outgoing};
use orderfleet_runtime::{auth::authenticate, keys::Caller, problem::Problem, trace};
use serde::Serialize;
use tracing::Span;

use crate::{
    confirm,
    ingest::{Ingest, Links, Parts, accepted},
};

/// The body of a 202.
#[derive(Debug, Serialize)]
struct Requested<'a> {
    order_id: &'a OrderId,
    links: Links<'a>,
}

/// A second request does no harm: the order has been asked to cancel already.
pub(crate) async fn post_cancel(
    State(ingest): State<Ingest>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    request_cancel(ingest.parts(), path, request).await.unwrap_or_else(Problem::into_response)
}

async fn request_cancel(
    parts: &Parts,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let keys = parts.keys.current();
    let caller = authenticate(&keys, request.headers())?;
    let order_id = own_order(caller, path)?;
    Span::current().record("order.id", order_id.as_str());
    let (head, body) = request.into_parts();
    // Nothing is expected in it; it is read so that the answer reaches whoever sends one.
    let _taken = parts.room.read(&head.headers, body, parts.body_bytes_max).await?;
    let outgoing = message(caller, &order_id, trace::well_formed(&head.headers));
    confirm::publish(&parts.publisher, &outgoing, "repeat the request").await?;
    let order_url = parts.order_url(&order_id);
    Ok(accepted(&order_url, &Requested { order_id: &order_id, links: Links { order: &order_url } }))
}

/// The order of the path, if it can be the caller's. Whether there is such an order is not known here.
fn own_order(caller: &Caller, path: Result<Path<String>, PathRejection>) -> Result<OrderId, Problem> {
    let order_id: Option<OrderId> = path.ok().and_then(|Path(text)| text.parse().ok());
    order_id
        .filter(|order_id| order_id.may_belong_to(&caller.region, &caller.account))
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "not-found", "No such order"))
}

fn message(caller: &Caller, order_id: &OrderId, traceparent: Option<&str>) -> Outgoing {
    let command = Command {
        order_id: order_id.clone(),
        account: caller.account.clone(),
        generation: 1,
        fp: None,
        kind: CommandKind::Cancel { requested_at: Timestamp::now() },
    };
    Outgoing {
        // Not behind the fresh orders, which may be many.
        destination: Destination::Lane(Lane::Retry),
        headers: Headers::new(command.kind.as_str())
            .message_id(&format!("{order_id}.cancel"))
            .order(order_id, &caller.account)
            .traceparent(traceparent),
        body: command.encode().into(),
    }
}
