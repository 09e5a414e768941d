//! The message that a replay sends for a dead letter, confirmed.

use std::time::Duration;

use orderfleet_domain::{Command, CommandKind, Decision, saga::Lane};
use orderfleet_messaging::{Delays, Destination, Headers, Outgoing, Publisher};
use orderfleet_storage::{Content, Letter, Replay};
use tokio::time::{Instant, sleep};

use crate::replay::Course;

/// From the first try on. Each try may take the confirm timeout more.
const TRIES_FOR: Duration = Duration::from_secs(60);

/// Publishes into the lane of replays, until it is confirmed or a minute is over. Repeats are harmless: workers act on a run
/// or a hold once.
pub(super) async fn publish(
    publisher: &Publisher,
    replay: &Replay,
    letter: &Letter,
    content: &Content,
    course: &Course,
) -> Result<(), String> {
    let Some(outgoing) = outgoing(replay, letter, content, course) else { return Ok(()) };
    let deadline = Instant::now() + TRIES_FOR;
    let mut delays = Delays::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        match publisher.publish(&outgoing).await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= deadline => return Err(error.to_string()),
            Err(error) => tracing::warn!(%error, "publishing again"),
        }
        sleep(delays.next_delay()).await;
    }
}

fn outgoing(replay: &Replay, letter: &Letter, content: &Content, course: &Course) -> Option<Outgoing> {
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
        Course::Run { .. } => CommandKind::Run { order: content.correction.clone().map(Box::new) },
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
