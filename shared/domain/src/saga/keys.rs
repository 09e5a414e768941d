//! Names derived from what they stand for, so that whoever derives one again gets the same.

use sha2::{Digest as _, Sha256};

use crate::{
    OrderId, StepName,
    ids::{base32, digest},
    saga::{EventType, Verb},
};

/// The step instance a downstream keeps its record and tombstone under: `<order id>.<gen>.<step>`.
#[must_use]
pub fn step_instance(order: &OrderId, generation: u32, step: &StepName) -> String {
    format!("{order}.{generation}.{step}")
}

/// The `Idempotency-Key` of one call: base32 of the first 20 bytes of SHA-256 over
/// `"orderfleet/step/1"` and the length-prefixed order id, run number (decimal), step name and `do` or `undo`.
///
/// Constant over redeliveries, workers, deploys and replays of one run; without the epoch, so that a second worker's
/// call is a repeat and not a second effect.
#[must_use]
pub fn step_key(order: &OrderId, generation: u32, step: &StepName, verb: Verb) -> String {
    let generation = generation.to_string();
    derived("orderfleet/step/1", &[order.as_str(), &generation, step.as_str(), verb.as_str()])
}

/// Id of a domain event: consumers see an event again under the same id.
#[must_use]
pub fn event_id(order: &OrderId, generation: u32, event: EventType) -> String {
    derived("orderfleet/event/1", &[order.as_str(), &generation.to_string(), event.as_str(), ""])
}

/// Id of a dead letter or compensating event: the revision is that of the write that recorded the cause, so a second
/// failure of the same step is a second dead letter while a redelivery of the first is not.
#[must_use]
pub fn dead_letter_id(order: &OrderId, generation: u32, rev: u64) -> String {
    derived("orderfleet/dead/1", &[order.as_str(), &generation.to_string(), &rev.to_string()])
}

/// Id of a dead letter about a message that nobody can work with, where its order is known.
#[must_use]
pub fn poison_id(order: &OrderId, generation: u32, reason: &str) -> String {
    derived("orderfleet/poison/1", &[order.as_str(), &generation.to_string(), reason])
}

/// Id of a dead letter about bytes that are no message at all: base32 of the first 20 bytes of their SHA-256.
#[must_use]
pub fn body_id(body: &[u8]) -> String {
    base32(&Sha256::digest(body)[..20])
}

fn derived(domain: &str, parts: &[&str]) -> String {
    base32(&digest(domain, parts)[..20])
}
