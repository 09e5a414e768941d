//! The message that a replay sends for a dead letter, confirmed.

use std::time::Duration;

use orderfleet_domain::{Command, CommandKind, Decision, Order, saga::Lane};
use orderfleet_messaging::{Delays, Destination, Headers, Outgoing, Publisher};
use orderfleet_storage::{Content, Letter, Replay};
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

/// The message for a dead letter, into the lane of replays; `None` where nothing is to be published, or the dead letter does
/// not tell enough of its order.
pub(super) fn outgoing(
    replay: &Replay,
    letter: &Letter,
    content: &Content,
    course: &Course,
) -> Option<Outgoing> {
    let (kind, body) = message(replay, letter, content, course)?;
    let mut headers = Headers::new(&kind)
        .message_id(&format!("replay.{}.{}", letter.id, course.generation()?))
        .traceparent(content.header("traceparent"));
    if let (Some(order_id), Some(account)) = (&letter.order_id, &letter.account) {
        headers = headers.order(order_id, account);
    }
    Some(Outgoing { destination: Destination::Lane(Lane::Replay), headers, body: body.into() })
}

fn message(
    replay: &Replay,
    letter: &Letter,
    content: &Content,
    course: &Course,
) -> Option<(String, Vec<u8>)> {
    let kind = match course {
        Course::Again { .. } => return Some((letter.kind.clone(), content.body.clone())),
        Course::Run { .. } => CommandKind::Run { order: correction(letter, content) },
        Course::Release { hold, .. } => CommandKind::Resolve {
            hold: hold.clone(),
            decision: Decision::Release,
            reason: format!("{} (replay {} by {})", replay.why, replay.id, replay.who),
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

/// What a person made of the order: kept with a letter, or in the message itself, where that has asked for a corrected run
/// and come to nothing.
fn correction(letter: &Letter, content: &Content) -> Option<Box<Order>> {
    if content.correction.is_some() || letter.is_unread() {
        return content.correction.clone().map(Box::new);
    }
    match Command::decode(&content.body).ok()?.kind {
        CommandKind::Run { order } => order,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use orderfleet_domain::saga::Phase;
    use orderfleet_storage::ReplayState;

    use super::*;
    use crate::replay::{
        Settled, course,
        fixtures::{command, content, held, letter, order, place, record},
    };

    fn replay() -> Replay {
        let [id, who, why, selection] = ["r1", "jo", "mended", "all"].map(str::to_owned);
        let began_at = Timestamp::UNIX_EPOCH;
        Replay { id, who, why, selection, items: 1, state: ReplayState::Open, began_at }
    }

    fn sent(letter: &Letter, content: &Content, course: &Course) -> Command {
        let (kind, body) = message(&replay(), letter, content, course).unwrap();
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
        );
        assert_eq!(sent, command(2, CommandKind::Run { order: None }));
    }

    #[test]
    fn a_corrected_order_travels_with_the_run_that_works_on_it_and_is_not_lost_with_its_message() {
        let corrected = Order { ship_to: orderfleet_domain::ShipTo::default(), ..order() };
        let kind = CommandKind::Run { order: Some(Box::new(corrected.clone())) };
        let kept = Content { correction: Some(corrected), ..content(place().encode()) };
        let in_message = content(command(2, kind.clone()).encode());
        for content in [kept, in_message] {
            let sent = sent(&letter("poison"), &content, &Course::Run { generation: 3, correction: None });
            assert_eq!(sent, command(3, kind.clone()));
        }
    }

    #[test]
    fn a_release_names_the_hold_and_says_who_asked_for_it_and_why() {
        let course = course(&letter("held"), None, Some(&held(Phase::Comp, "h7")));
        let sent = sent(&letter("held"), &content(place().encode()), &course);
        let reason = "mended (replay r1 by jo)".to_owned();
        let decision = Decision::Release;
        assert_eq!(sent, command(1, CommandKind::Resolve { hold: "h7".into(), decision, reason }));
    }

    #[test]
    fn a_message_that_is_published_again_is_the_same_to_the_byte() {
        let content = content(place().encode());
        let (kind, body) =
            message(&replay(), &letter("poison"), &content, &Course::Again { generation: 1 }).unwrap();
        assert_eq!((kind.as_str(), &body), ("place", &content.body));
        let outgoing =
            outgoing(&replay(), &letter("poison"), &content, &Course::Again { generation: 1 }).unwrap();
        assert_eq!(outgoing.headers.get("traceparent"), Some("00-1"));
        assert_eq!(outgoing.headers.order_id(), letter("poison").order_id);
    }

    #[test]
    fn nothing_is_published_where_nothing_is_left_to_do_or_the_account_is_not_known() {
        let course = course(&letter("fulfilment"), None, Some(&record(Phase::Done)));
        assert_eq!(course, Course::Settled(Settled::Done));
        assert!(outgoing(&replay(), &letter("fulfilment"), &content(Vec::new()), &course).is_none());
        let unowned = Letter { account: None, ..letter("fulfilment") };
        let run = Course::Run { generation: 2, correction: None };
        assert!(outgoing(&replay(), &unowned, &content(Vec::new()), &run).is_none());
    }
}
