//! Orders, ids, validation and the saga core. No I/O, no async, no clock: everything here can be run by a test,
//! a simulator or a model checker as it runs in production.

mod command;
pub mod failure;
mod fingerprint;
mod ids;
mod input;
mod key_range;
mod money;
mod order;
pub mod saga;
mod validate;

pub use command::{Command, CommandKind, Decision, DecodeError, SCHEMA_VERSION};
pub use failure::FailureFingerprint;
pub use fingerprint::Fingerprint;
pub use ids::{AccountId, IdError, IdempotencyKey, OrderId, Region, StepName};
pub use input::{LineInput, Metadata, Object, OrderInput, ShipToInput};
pub use key_range::{KeyRange, PIECES_MAX};
pub use money::{Money, MoneyError};
pub use order::{Channel, Country, Currency, CustomerRef, Line, Order, PaymentRef, ShipTo, Sku};
pub use validate::{LINES_MAX, Violation, Violations};
