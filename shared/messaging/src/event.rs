//! Domain events as messages: what a worker publishes when an order ends, and an operator may publish again.

use orderfleet_domain::{AccountId, OrderId, saga::Event};
use serde_json::json;

use crate::{Destination, Headers, Outgoing};

const SOURCE: &str = "/orderfleet";

impl Outgoing {
    /// A domain event: CloudEvents attributes in the headers, the facts in the body. No personal data. Whoever publishes it, and
    /// however often, consumers see the same id.
    #[must_use]
    pub fn event(order_id: &OrderId, account: &AccountId, event: &Event, traceparent: Option<&str>) -> Self {
        let kind = event.event.as_str();
        let headers = Headers::new(kind)
            .message_id(&event.id)
            .traceparent(traceparent)
            .cloud_event("specversion", "1.0")
            .cloud_event("id", &event.id)
            .cloud_event("type", kind)
            .cloud_event("source", SOURCE)
            .cloud_event("subject", order_id.as_str());
        let body = json!({
            "order_id": order_id, "account": account, "type": kind, "gen": event.generation, "seq": event.seq,
        });
        Self { destination: Destination::Event(event.event), headers, body: body.to_string().into() }
    }
}
