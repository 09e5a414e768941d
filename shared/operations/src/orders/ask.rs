//! A person's wish as a message: recorded, published and confirmed, recorded again.

use orderfleet_domain::{Command, saga::Lane};
use orderfleet_messaging::{Destination, Headers, Outgoing, Publisher};
use orderfleet_storage::Store;

use crate::{
    log::{Act, OperatorLog},
    orders::OrdersError,
};

/// Publishes a command into a lane. A kill on the way leaves an act without an end in the operator log, and the message
/// published or not; a second call records a second act and publishes a second message.
pub(super) async fn ask(
    store: &Store,
    publisher: &Publisher,
    act: &Act,
    lane: Lane,
    command: &Command,
) -> Result<(), OrdersError> {
    let log = OperatorLog::new(store.clone());
    let id = log.begin(act).await.map_err(OrdersError::NotRecorded)?;
    let published = publisher.publish(&message(lane, command)).await;
    let result = match &published {
        Ok(()) => "published".to_owned(),
        Err(error) => format!("not confirmed: {error}"),
    };
    let recorded = log.end(&id, &result).await;
    published.map_err(OrdersError::NotConfirmed)?;
    recorded.map_err(OrdersError::EndNotRecorded)
}

fn message(lane: Lane, command: &Command) -> Outgoing {
    let Command { order_id, account, kind, .. } = command;
    Outgoing {
        destination: Destination::Lane(lane),
        headers: Headers::new(kind.as_str())
            .message_id(&format!("{order_id}.{}", kind.as_str()))
            .order(order_id, account),
        body: command.encode().into(),
    }
}
