//! What a message carries besides its body: an allow-list, built anew for every publish.
//!
//! `x-death` and its kin are never copied. Up to RabbitMQ 3.13 the broker believes an `x-death` that a client sends: a
//! copy of it can make a later dead-letter hop look like a cycle, and the message is dropped or jams its tier for ever.

use std::collections::BTreeMap;

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use orderfleet_domain::{AccountId, OrderId, saga::Millis};

const PERSISTENT: u8 = 2;
/// Headers that are ours to set or to hand on.
const ALLOWED: [&str; 10] = [
    TRACEPARENT,
    NEW_TRACE,
    "tracestate",
    "reason",
    "dead_letter_id",
    BUILD,
    ORDER_ID,
    ACCOUNT,
    FIRST_SEEN,
    SUSPECTED,
];
const TRACEPARENT: &str = "traceparent";
const NEW_TRACE: &str = "new_trace";
const BUILD: &str = "build";
const ORDER_ID: &str = "order_id";
const ACCOUNT: &str = "account";
const FIRST_SEEN: &str = "first_seen";
const SUSPECTED: &str = "suspected";
/// Set anew by each publish, and so no part of what is handed on.
const READY_AT: &str = "ready_at";
const CLOUD_EVENTS: &str = "cloudEvents:";
/// Longer texts are not handed on: nothing of ours is, and what grows on its way could one day fit no frame.
const VALUE_BYTES_MAX: usize = 1_024;

/// Properties and headers of one message.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Headers {
    message_id: Option<String>,
    kind: Option<String>,
    entries: BTreeMap<String, AMQPValue>,
}

impl Headers {
    /// Headers of a message of a kind (its AMQP type).
    #[must_use]
    pub fn new(kind: &str) -> Self {
        Self { kind: Some(kind.to_owned()), ..Self::default() }
    }

    /// Sets the message id: the same for a repeat of the same message.
    #[must_use]
    pub fn message_id(mut self, id: &str) -> Self {
        self.message_id = Some(id.to_owned());
        self
    }

    /// Names the order that the message is about, and whose it is, for whoever must not read the body.
    #[must_use]
    pub fn order(self, order_id: &OrderId, account: &AccountId) -> Self {
        self.entry(ORDER_ID, Some(order_id.as_str())).entry(ACCOUNT, Some(account.as_str()))
    }

    /// The order that the message is about. Older builds name it in the message id alone, as what comes before the first
    /// dot.
    #[must_use]
    pub fn order_id(&self) -> Option<OrderId> {
        let from_message_id = || self.message_id.as_deref()?.split('.').next()?.parse().ok();
        self.get(ORDER_ID).and_then(|id| id.parse().ok()).or_else(from_message_id)
    }

    /// Whose order the message is about.
    #[must_use]
    pub fn account(&self) -> Option<AccountId> {
        self.get(ACCOUNT)?.parse().ok()
    }

    /// Says when a worker first had the message in hand: the copies of it that wait know by the workers' clocks how long.
    #[must_use]
    pub fn first_seen(self, at: Millis) -> Self {
        self.entry(FIRST_SEEN, Some(&at.to_string()))
    }

    /// When a worker first had the message in hand; `None` for the first one that has.
    #[must_use]
    pub fn seen_first(&self) -> Option<Millis> {
        self.get(FIRST_SEEN)?.parse().ok()
    }

    /// Hands the trace context on.
    #[must_use]
    pub fn traceparent(self, value: Option<&str>) -> Self {
        self.entry(TRACEPARENT, value)
    }

    /// Has whoever is the first to trace the message begin a trace of its own, linked to that of `traceparent`: for what is done
    /// about an order when its own trace is over.
    #[must_use]
    pub fn new_trace(self) -> Self {
        self.entry(NEW_TRACE, Some("true"))
    }

    /// Whether it is marked by [`Headers::new_trace`].
    pub(crate) fn is_new_trace(&self) -> bool {
        self.get(NEW_TRACE).is_some()
    }

    /// The message goes on in this trace.
    pub(crate) fn in_trace(mut self, traceparent: &str) -> Self {
        self.entries.remove(NEW_TRACE);
        self.entry(TRACEPARENT, Some(traceparent))
    }

    /// The message id.
    pub(crate) fn id(&self) -> Option<&str> {
        self.message_id.as_deref()
    }

    /// Says why a dead letter is one. Shown to people; no personal data.
    #[must_use]
    pub fn reason(self, value: &str) -> Self {
        self.entry("reason", Some(value))
    }

    /// The id of a dead letter.
    #[must_use]
    pub fn dead_letter_id(self, value: &str) -> Self {
        self.entry("dead_letter_id", Some(value))
    }

    /// Says which build gave a dead letter up.
    #[must_use]
    pub fn build(self, name: &str) -> Self {
        self.entry(BUILD, Some(name))
    }

    /// Marks a copy of a dead letter over which workers were gone: to be read with the care of one that is delivered again.
    #[must_use]
    pub fn suspected(self) -> Self {
        self.entry(SUSPECTED, Some("true"))
    }

    /// Whether it is marked as [`Headers::suspected`].
    #[must_use]
    pub fn is_suspected(&self) -> bool {
        self.get(SUSPECTED).is_some()
    }

    /// A CloudEvents attribute, in the AMQP binding's spelling (CloudEvents AMQP Protocol Binding 1.0.2, 3.1).
    #[must_use]
    pub fn cloud_event(self, attribute: &str, value: &str) -> Self {
        self.entry(&format!("{CLOUD_EVENTS}{attribute}"), Some(value))
    }

    /// The value of a header.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.get(name).and_then(text)
    }

    /// All headers that are texts, by name.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().filter_map(|(name, value)| Some((name.as_str(), text(value)?)))
    }

    /// The AMQP type.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    fn entry(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            self.entries.insert(name.to_owned(), AMQPValue::LongString(value.into()));
        }
        self
    }

    /// What a received message carries of the allowed headers, short texts all; with `unknown` everything that is not the
    /// broker's own: a message of a newer schema must not lose what only newer builds know.
    pub(crate) fn received(properties: &BasicProperties, unknown: bool) -> Self {
        let known = |name: &str| ALLOWED.contains(&name) || name.starts_with(CLOUD_EVENTS);
        let keep = |name: &str, value: &AMQPValue| match unknown {
            true => !name.starts_with("x-") && name != READY_AT,
            false => known(name) && text(value).is_some_and(|text| text.len() <= VALUE_BYTES_MAX),
        };
        let table = properties.headers().as_ref();
        let kept =
            table.into_iter().flat_map(FieldTable::inner).filter(|(name, value)| keep(name.as_str(), value));
        let entries = kept.map(|(name, value)| (name.to_string(), value.clone()));
        Self {
            message_id: properties.message_id().as_ref().map(ToString::to_string),
            kind: properties.kind().as_ref().map(ToString::to_string),
            entries: entries.collect(),
        }
    }

    /// The properties of a message of these headers, with when it can be taken from its lane.
    pub(crate) fn properties(&self, ready_at: Option<Millis>) -> BasicProperties {
        let mut table = FieldTable::default();
        if let Some(at) = ready_at {
            table.insert(READY_AT.into(), AMQPValue::LongLongInt(at));
        }
        for (name, value) in &self.entries {
            table.insert(name.as_str().into(), value.clone());
        }
        let mut properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into())
            .with_headers(table);
        if let Some(id) = &self.message_id {
            properties = properties.with_message_id(id.as_str().into());
        }
        if let Some(kind) = &self.kind {
            properties = properties.with_type(kind.as_str().into());
        }
        properties
    }
}

/// When a received message could first be taken from its lane, by the clock of who published it.
pub(crate) fn ready_at(properties: &BasicProperties) -> Option<Millis> {
    match properties.headers().as_ref()?.inner().get(READY_AT)? {
        AMQPValue::LongLongInt(at) => Some(*at),
        _ => None,
    }
}

fn text(value: &AMQPValue) -> Option<&str> {
    value.as_long_string().and_then(|text| std::str::from_utf8(text.as_bytes()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_own_headers_are_never_copied() {
        let mut table = FieldTable::default();
        for name in ["x-death", "x-delivery-count", "x-first-death-queue", "traceparent", "novel"] {
            table.insert(name.into(), AMQPValue::LongString("v".into()));
        }
        let properties = BasicProperties::default().with_headers(table);
        let names = |unknown| Headers::received(&properties, unknown).entries.into_keys().collect::<Vec<_>>();
        assert_eq!(names(false), ["traceparent"]);
        assert_eq!(names(true), ["novel", "traceparent"]);
    }

    #[test]
    fn only_short_texts_are_handed_on_but_a_newer_message_loses_nothing() {
        let mut table = FieldTable::default();
        table.insert("tracestate".into(), AMQPValue::LongString(vec![0xff; 50_000].into()));
        table.insert("reason".into(), AMQPValue::LongString("r".repeat(VALUE_BYTES_MAX + 1).into()));
        table.insert("novel".into(), AMQPValue::LongInt(7));
        let properties = BasicProperties::default().with_headers(table);
        assert!(Headers::received(&properties, false).entries.is_empty());
        assert_eq!(Headers::received(&properties, true).entries["novel"], AMQPValue::LongInt(7));
    }

    #[test]
    fn the_order_of_a_message_is_known_without_its_body() {
        let id: OrderId = "eu1-vqhnbfvs-dw3nwqzm4jeqqutrep4bxjfyvskigkny".parse().unwrap();
        let account: AccountId = "demo".parse().unwrap();
        let headers = Headers::new("place").order(&id, &account).message_id("another");
        let received = Headers::received(&headers.properties(None), false);
        assert_eq!((received.order_id().as_ref(), received.account()), (Some(&id), Some(account)));
        for older in [id.to_string(), format!("{id}.cancel")] {
            let headers = Headers::new("cancel").message_id(&older);
            assert_eq!((headers.order_id().as_ref(), headers.account()), (Some(&id), None));
        }
        assert_eq!(Headers::new("place").message_id("no order").order_id(), None);
    }

    #[test]
    fn a_message_says_when_it_was_first_seen() {
        assert_eq!(Headers::default().seen_first(), None);
        let received = Headers::received(&Headers::default().first_seen(7).properties(None), false);
        assert_eq!(received.seen_first(), Some(7));
    }

    #[test]
    fn headers_survive_the_wire_and_messages_are_persistent() {
        let headers = Headers::new("place").message_id("m").traceparent(Some("00-a")).cloud_event("id", "e");
        let properties = headers.properties(Some(9));
        assert_eq!(ready_at(&properties), Some(9));
        assert_eq!(Headers::received(&properties, true), headers, "each publish says anew when it is ready");
        assert_eq!(properties.delivery_mode(), &Some(PERSISTENT));
        assert_eq!(Headers::received(&properties, false), headers);
    }
}
