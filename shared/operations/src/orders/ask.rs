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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use orderfleet_domain::{AccountId, CommandKind, OrderId};

    use super::*;

    #[test]
    fn a_wish_is_its_command_and_names_the_order_for_whoever_must_not_read_that() {
        let order_id: OrderId = "eu1-vqhnbfvs-dw3nwqzm4jeqqutrep4bxjfyvskigkny".parse().unwrap();
        let account: AccountId = "demo".parse().unwrap();
        let kind = CommandKind::Cancel { requested_at: Timestamp::UNIX_EPOCH };
        let command =
            Command { order_id: order_id.clone(), account: account.clone(), generation: 1, fp: None, kind };
        let message = message(Lane::Retry, &command);
        assert_eq!(message.destination, Destination::Lane(Lane::Retry));
        let named = (message.headers.order_id(), message.headers.account(), message.headers.kind());
        assert_eq!(named, (Some(order_id), Some(account), Some("cancel")));
        assert_eq!(Command::decode(&message.body).unwrap(), command);
    }
}
