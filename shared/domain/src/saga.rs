//! The saga: one order's way through its steps, and back where a step refuses.
//!
//! [`Handling`] is the core: it takes one input after another (a delivery, the database's answer, a downstream's
//! answer, a publisher confirm) and names the one effect to perform next. It has no clock and does no I/O.
//! The order's document ([`Record`]) is at once the idempotency record, the saga log, the fence and the outbox.

mod claiming;
mod decide;
mod effect;
mod handling;
mod keys;
mod policy;
mod publishing;
mod record;

pub use effect::{
    CallOutcome, Claim, ClaimKind, DeadLetterQueue, Delivered, Effect, Ending, Event, EventType, Expect,
    Input, Lane, Moment, Note, Phases, Publication, StoreReply, Verb, Write,
};
pub use handling::Handling;
pub use keys::{body_id, dead_letter_id, event_id, poison_id, step_instance, step_key};
pub use policy::{Policy, PolicyError, StepSettings, Tier};
pub use record::{
    Cause, CauseClass, DOCUMENT_VERSION, Entry, Hold, Millis, Nonce, Phase, Record, StepResult, StepState,
    WorkerId,
};
