//! The message that a replay sends for a dead letter, confirmed.

use std::time::Duration;

use orderfleet_domain::{Command, CommandKind, Decision, Order, saga::Lane};
use orderfleet_messaging::{Delays, Destination, Headers, Outgoing, Publisher};
use orderfleet_storage::{Content, Letter, Store, StoreError};
use tokio::time::{Instant, sleep};

use crate::replay::Course;

/// From the first try on. Each try may take the confirm timeout more.
const TRIES_FOR: Duration = Duration::from_secs(60);

/// Publishes a message until it is confirmed or a minute is over. Repeats are harmless: workers act on a run or a hold once.
pub(super) async fn publish(publisher: &Publisher, outgoing: &Outgoing) -> Result<(), String> {
    let deadline = Instant::now() + TRIES_FOR;
    let mut delays = Delays::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        match publisher.publish(outgoing).await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= deadline => return Err(error.to_string()),
            Err(error) => tracing::warn!(%error, "publishing again"),
        }
        sleep(delays.next_delay()).await;
    }
}

/// The corrected order that a run is asked for with: kept with the dead letter that the course names, or else in the message
/// itself, where that has asked for a corrected run and come to nothing.
pub(crate) async fn correction(
    store: &Store,
    letter: &Letter,
    content: &Content,
    course: &Course,
) -> Result<Option<Box<Order>>, StoreError> {
    let kept = match (course, course.correction()) {
        (Course::Run { .. }, None) => return Ok(in_message(letter, content)),
        (_, None) => None,
        (_, Some(own)) if own == letter.id => content.correction.clone(),
        (_, Some(other)) => store.letter(other).await?.and_then(|(_, content)| content.correction),
    };
    Ok(kept.map(Box::new))
}

/// The message for a dead letter, into the lane of replays; `None` where nothing is to be published, or the dead letter does
/// not tell enough of its order. A run is asked for with the `corrected` order, a release with the reason.
pub(super) fn outgoing(
    letter: &Letter,
    content: &Content,
    course: &Course,
    corrected: Option<Box<Order>>,
    reason: &str,
) -> Option<Outgoing> {
    let (kind, body) = message(letter, content, course, corrected, reason)?;
    let mut headers = Headers::new(&kind)
        .message_id(&format!("replay.{}.{}", letter.id, course.generation()?))
        .traceparent(content.header("traceparent"))
        .new_trace();
    if let (Some(order_id), Some(account)) = (&letter.order_id, &letter.account) {
        headers = headers.order(order_id, account);
    }
    Some(Outgoing { destination: Destination::Lane(Lane::Replay), headers, body: body.into() })
}

fn message(
    letter: &Letter,
    content: &Content,
    course: &Course,
    corrected: Option<Box<Order>>,
    reason: &str,
) -> Option<(String, Vec<u8>)> {
    let kind = match course {
        Course::Again { .. } => return Some((letter.kind.clone(), content.body.clone())),
        Course::Run { .. } => CommandKind::Run { order: corrected },
        Course::Release { hold, .. } => CommandKind::Resolve {
            hold: hold.clone(),
            decision: Decision::Release,
            reason: reason.to_owned(),
        },
        Course::Settled(_) | Course::Nothing(_) => return None,
    };
    let command = Command {
        order_id: letter.order_id.clone()?,
        account: letter.account.clone()?,
        generation: course.generation()?,
        fp: None,
        kind,
    };
    Some((command.kind.as_str().to_owned(), command.encode()))
}

fn in_message(letter: &Letter, content: &Content) -> Option<Box<Order>> {
    if letter.is_unread() {
        return None;
    }
    match Command::decode(&content.body).ok()?.kind {
        CommandKind::Run { order } => order,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use orderfleet_domain::saga::Phase;

    use super::*;
    use crate::replay::{
        Settled, course,
        fixtures::{command, content, held, letter, order, place, record},
    };

    const REASON: &str = "mended (replay r1 by jo)";

    fn sent(letter: &Letter, content: &Content, course: &Course, corrected: Option<Box<Order>>) -> Command {
        let (kind, body) = message(letter, content, course, corrected, REASON).unwrap();
        let command = Command::decode(&body).unwrap();
        assert_eq!(command.kind.as_str(), kind);
        command
    }

    #[test]
    fn a_further_run_is_asked_for_by_its_number() {
        let sent = sent(
            &letter("fulfilment"),
            &content(place().encode()),
            &Course::Run { generation: 2, correction: None },
            None,
        );
        assert_eq!(sent, command(2, CommandKind::Run { order: None }));
    }

    #[test]
    fn a_corrected_order_travels_with_the_run_that_works_on_it_and_is_not_lost_with_its_message() {
        let corrected = Order { ship_to: orderfleet_domain::ShipTo::default(), ..order() };
        let corrected = Some(Box::new(corrected));
        let kind = CommandKind::Run { order: corrected.clone() };
        let failed = content(command(2, kind.clone()).encode());
        assert_eq!(in_message(&letter("poison"), &failed), corrected);
        assert_eq!(in_message(&letter("poison"), &content(place().encode())), None);
        let run = Course::Run { generation: 3, correction: None };
        assert_eq!(sent(&letter("poison"), &failed, &run, corrected), command(3, kind));
    }

    #[test]
    fn a_release_names_the_hold_and_says_who_asked_for_it_and_why() {
        let course = course(&letter("held"), None, Some(&held(Phase::Comp, "h7")));
        let sent = sent(&letter("held"), &content(place().encode()), &course, None);
        let (reason, decision) = (REASON.to_owned(), Decision::Release);
        assert_eq!(sent, command(1, CommandKind::Resolve { hold: "h7".into(), decision, reason }));
    }

    #[test]
    fn a_message_that_is_published_again_is_the_same_to_the_byte() {
        let content = content(place().encode());
        let again = Course::Again { generation: 1 };
        let (kind, body) = message(&letter("poison"), &content, &again, None, REASON).unwrap();
        assert_eq!((kind.as_str(), &body), ("place", &content.body));
        let outgoing = outgoing(&letter("poison"), &content, &again, None, REASON).unwrap();
        assert_eq!(outgoing.headers.get("traceparent"), Some("00-1"));
        assert_eq!(outgoing.headers.order_id(), letter("poison").order_id);
    }

    #[test]
    fn nothing_is_published_where_nothing_is_left_to_do_or_the_account_is_not_known() {
        let course = course(&letter("fulfilment"), None, Some(&record(Phase::Done)));
        assert_eq!(course, Course::Settled(Settled::Done));
        assert!(outgoing(&letter("fulfilment"), &content(Vec::new()), &course, None, REASON).is_none());
        let unowned = Letter { account: None, ..letter("fulfilment") };
        let run = Course::Run { generation: 2, correction: None };
        assert!(outgoing(&unowned, &content(Vec::new()), &run, None, REASON).is_none());
    }
}
