//! Order documents and dead letters in MongoDB 6.0 or newer, on a replica set or a sharded cluster. The only user of `mongodb`.
//!
//! One document per order is its idempotency record, saga log, fence and outbox at once. Decisions are made by the saga
//! core and become compare-and-sets here; every answer is mapped to what the core expects in one place.

mod claim;
mod connect;
mod dead_letter;
mod document;
mod error;
mod failure;
mod order;
mod reading;
mod saga;
mod schema;
mod settings;
mod store;
mod sweep;
mod unread;
mod uri;
mod view;

pub use dead_letter::{DeadLetter, ParkedOrder, Subject};
pub use error::StoreError;
pub use failure::{BadDocument, Failure};
pub use settings::DatabaseSettings;
pub use store::Store;
pub use sweep::Overdue;
pub use unread::{Readings, Unread};
pub use view::OrderView;
