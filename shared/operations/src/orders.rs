//! Orders in the hands of an operator: what has become of one and why it waits, and what a person can ask for: to cancel it,
//! and to go on with one that is held.
//!
//! Nothing here writes an order. What is asked for travels as a message, and a worker's claim applies it.

mod ask;
mod cancel;
mod hold;
mod list;
mod masked;
mod report;
mod timeline;
mod waiting;
mod watch;

use orderfleet_domain::{AccountId, OrderId};
use orderfleet_messaging::PublishError;
use orderfleet_storage::StoreError;

use crate::log::LogError;

pub use cancel::{CancelPlan, Outlook};
pub use hold::HeldOrder;
pub use list::{Listing, first_letter, list};
pub use masked::masked;
pub use orderfleet_storage::{
    LetterOfOrder, ListedHold, ListedOrder, OrderCursor, OrderFilter, OrderPage, OrderStatus, Span,
};
pub use report::{OrderReport, ShownResult, report};
pub use timeline::TimelineEntry;
pub use waiting::{Stuck, StuckOrder, Waiting, stuck};
pub use watch::{Seen, WATCHED_MAX, Watch, Watched};

/// Why an operator's wish about an order came to nothing, or is not known to have come through.
#[derive(Debug, thiserror::Error)]
pub enum OrdersError {
    /// The database does not say.
    #[error("the order cannot be read")]
    Store(#[from] StoreError),
    /// No worker has stored such an order, and nobody has said whose it would be.
    #[error("order {0} is not stored")]
    NotStored(OrderId),
    /// The order is another account's.
    #[error("order {order_id} is not one of account {account}")]
    NotOfAccount {
        /// The order.
        order_id: OrderId,
        /// The account that was named.
        account: AccountId,
    },
    /// Nobody holds the order.
    #[error("order {order_id} is not held: it is {status}", status = .status.as_str())]
    NotHeld {
        /// The order.
        order_id: OrderId,
        /// Where it stands.
        status: OrderStatus,
    },
    /// The change could not be recorded, so it was not made.
    #[error("nothing was done, since it could not be recorded")]
    NotRecorded(#[source] LogError),
    /// The message was not confirmed. The source says whether it may be queued all the same.
    #[error("the message was not confirmed")]
    NotConfirmed(#[source] PublishError),
    /// The message was confirmed, but the end of the act is not in the operator log.
    #[error("it was done, but its end could not be recorded")]
    EndNotRecorded(#[source] LogError),
}
