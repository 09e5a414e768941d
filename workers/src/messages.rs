//! What the core wants published, as messages.

use orderfleet_domain::{
    Command, CommandKind,
    saga::{Delivered, Publication, Record, dead_letter_id},
};
use orderfleet_messaging::{Delivery, Destination, Headers, Outgoing};
use orderfleet_runtime::build;

/// The message for a publication of the handling of a delivery.
pub(crate) fn message(delivery: &Delivery, delivered: &Delivered, publication: &Publication) -> Outgoing {
    match publication {
        Publication::Copy { lane, wait } => Outgoing {
            destination: match wait {
                Some(tier) => Destination::Wait(*tier, lane.clone()),
                None => Destination::Lane(lane.clone()),
            },
            headers: copied(delivery, delivered),
            body: delivery.body.clone(),
        },
        Publication::Compensate(record) => compensating_event(delivery, delivered, record),
        Publication::DeadLetter { queue, id, reason } => Outgoing {
            destination: Destination::DeadLetter(queue.clone()),
            headers: of_dead_letter(&delivery.headers, id, reason),
            body: delivery.body.clone(),
        },
        Publication::Event(event) => {
            let Command { order_id, account, .. } = &delivered.command;
            Outgoing::event(order_id, account, event, delivery.headers.get("traceparent"))
        }
    }
}

/// A dead letter says why it is one, and which build gave it up; for the rest it is the message.
pub(crate) fn of_dead_letter(headers: &Headers, id: &str, reason: &str) -> Headers {
    headers.clone().message_id(id).dead_letter_id(id).reason(reason).build(&build::NAME)
}

/// A cancel takes along when it was first seen: how long it has waited is not for the clock of its producer to say.
fn copied(delivery: &Delivery, delivered: &Delivered) -> Headers {
    let headers = delivery.headers.clone();
    match delivered.command.kind {
        CommandKind::Cancel { requested_at } => headers.first_seen(requested_at.as_millisecond()),
        _ => headers,
    }
}

fn compensating_event(delivery: &Delivery, delivered: &Delivered, record: &Record) -> Outgoing {
    let order_id = &delivered.command.order_id;
    let undo = (0..=record.cur).rev().map(|index| record.step(index).clone()).collect();
    let kind = match &record.cause {
        Some(cause) => CommandKind::Compensate { cause: cause.clone(), undo },
        None => CommandKind::Resume {},
    };
    let command = Command {
        order_id: order_id.clone(),
        account: delivered.command.account.clone(),
        generation: record.generation,
        fp: Some(record.fp.clone()),
        kind,
    };
    let headers = Headers::new(command.kind.as_str())
        .message_id(&dead_letter_id(order_id, record.generation, record.cause_rev()))
        .order(order_id, &delivered.command.account)
        .traceparent(delivery.headers.get("traceparent"));
    Outgoing {
        destination: Destination::Compensate(record.failed_step().clone()),
        headers,
        body: command.encode().into(),
    }
}
