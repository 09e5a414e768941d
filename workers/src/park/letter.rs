//! From a message in a dead-letter queue to the document it becomes.

use orderfleet_domain::{
    AccountId, Command, DecodeError, OrderId,
    failure::{Failure, FailureClass},
    saga::{DeadLetterQueue, body_id, poison_id},
};
use orderfleet_messaging::{Delivery, Headers};
use orderfleet_storage::{DeadLetter, Subject, Unread};
use serde::Deserialize;

use super::diagnosis::{by_reason, trace_id};

/// The reason of a dead letter that the broker itself moved, which says none.
pub(super) const DELIVERY_LIMIT: &str = "crashed workers until the delivery limit";
/// The reason of a dead letter that is not read any more, or not yet.
pub(super) const WORKERS_ENDED: &str = "workers ended while they read it";
const KIND_CHARS_MAX: usize = 32;

/// A dead letter as it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) queue: &'a DeadLetterQueue,
    pub(super) headers: &'a Headers,
    pub(super) body: &'a [u8],
    /// It was delivered before, or has waited because workers were gone over it.
    pub(super) is_suspect: bool,
}

impl<'a> From<&'a Delivery<DeadLetterQueue>> for Arrival<'a> {
    fn from(delivery: &'a Delivery<DeadLetterQueue>) -> Self {
        let Delivery { lane, headers, body, redelivered, .. } = delivery;
        Self::of(lane, headers, body, *redelivered)
    }
}

impl<'a> Arrival<'a> {
    pub(super) fn of(
        queue: &'a DeadLetterQueue,
        headers: &'a Headers,
        body: &'a [u8],
        redelivered: bool,
    ) -> Self {
        Self { queue, headers, body, is_suspect: redelivered || headers.is_suspected() }
    }

    /// Reads the body: the letter, and the command in it, if it is one that this build knows.
    pub(super) fn read(&self) -> (DeadLetter, Result<Command, DecodeError>) {
        let command = Command::decode(self.body);
        let (id, reason) = self.id_and_reason(command.as_ref().ok());
        let envelope = serde_json::from_slice::<Envelope>(self.body).ok();
        let kind = envelope.as_ref().map(|envelope| envelope.command.kind.as_str());
        let letter = DeadLetter {
            subject: envelope.as_ref().map(Envelope::subject),
            ..self.letter(id, kind.or(self.headers.kind()), reason)
        };
        (letter, command)
    }

    /// The letter as far as it is known without looking into its body.
    pub(super) fn unread(&self, reason: &str) -> Unread {
        let id = self.named().map_or_else(|| body_id(self.body), str::to_owned);
        let failure = Failure::new(None, FailureClass::Unreadable, None, reason);
        Unread {
            letter: DeadLetter { failure, ..self.letter(id, self.headers.kind(), reason) },
            order_id: self.headers.order_id(),
            account: self.headers.account(),
        }
    }

    fn id_and_reason(&self, command: Option<&Command>) -> (String, &str) {
        match (self.named(), command) {
            (Some(id), _) => (id.to_owned(), self.headers.get("reason").unwrap_or_default()),
            // With the body in it, as two messages about one run may both crash workers, and neither may hide the other.
            (None, Some(command)) => {
                let reason = format!("{DELIVERY_LIMIT}: {}", body_id(self.body));
                (poison_id(&command.order_id, command.generation, &reason), DELIVERY_LIMIT)
            }
            (None, None) => (body_id(self.body), DELIVERY_LIMIT),
        }
    }

    /// The id that a worker gave it.
    fn named(&self) -> Option<&str> {
        self.headers.get("dead_letter_id").filter(|id| !id.is_empty())
    }

    fn letter(&self, id: String, kind: Option<&str>, reason: &str) -> DeadLetter {
        // What has waited as a dead letter waits anew once it is published again.
        let own = ["dead_letter_id", "reason", "build", "first_seen", "suspected"];
        let carried = self.headers.texts().filter(|(name, _)| !own.contains(name));
        let kind = kind.filter(|kind| !kind.is_empty()).unwrap_or("unknown");
        DeadLetter {
            id,
            queue: self.queue.clone(),
            kind: kind.chars().take(KIND_CHARS_MAX).collect(),
            reason: reason.to_owned(),
            failure: by_reason(self.queue, reason),
            build: self.headers.get("build").filter(|build| !build.is_empty()).map(str::to_owned),
            trace_id: self.headers.get("traceparent").and_then(trace_id),
            attempts: Vec::new(),
            headers: carried.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            body: self.body.to_vec(),
            subject: None,
        }
    }
}

/// What of a command says which order it is about: readable also where the rest of it is not, or a person could not see
/// that this order is parked.
#[derive(Deserialize)]
struct Envelope {
    order_id: OrderId,
    account: AccountId,
    #[serde(rename = "gen")]
    generation: u32,
    command: Kind,
}

#[derive(Deserialize)]
struct Kind {
    kind: String,
}

impl Envelope {
    fn subject(&self) -> Subject {
        Subject {
            order_id: self.order_id.clone(),
            account: self.account.clone(),
            generation: self.generation.max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use orderfleet_domain::CommandKind;

    use super::*;

    fn cancel(requested_at: Timestamp) -> Command {
        let account = "demo".parse().unwrap();
        let order_id = OrderId::derive(&"eu1".parse().unwrap(), &account, &"k".parse().unwrap());
        Command { order_id, account, generation: 1, fp: None, kind: CommandKind::Cancel { requested_at } }
    }

    fn arrival<'a>(headers: &'a Headers, body: &'a [u8]) -> Arrival<'a> {
        Arrival { queue: &DeadLetterQueue::Poison, headers, body, is_suspect: false }
    }

    fn read(headers: &Headers, body: &[u8]) -> DeadLetter {
        arrival(headers, body).read().0
    }

    #[test]
    fn a_dead_letter_of_a_worker_says_its_id_and_reason_and_keeps_its_other_headers() {
        let command = cancel(Timestamp::UNIX_EPOCH);
        let headers = Headers::new("cancel").dead_letter_id("id").reason("why").traceparent(Some("00-1"));
        let headers = headers.build("0.1.0");
        let letter = read(&headers, &command.encode());
        assert_eq!(
            (letter.id.as_str(), letter.reason.as_str(), letter.kind.as_str()),
            ("id", "why", "cancel")
        );
        assert_eq!(letter.headers, [("traceparent".to_owned(), "00-1".to_owned())]);
        assert_eq!(letter.build.as_deref(), Some("0.1.0"));
        assert_eq!(letter.body, command.encode());
        let subject = Subject { order_id: command.order_id, account: command.account, generation: 1 };
        assert_eq!(letter.subject, Some(subject));
    }

    #[test]
    fn a_dead_letter_of_the_broker_has_an_id_of_its_run_and_body() {
        let bodies = [Timestamp::UNIX_EPOCH, Timestamp::MAX].map(|at| cancel(at).encode());
        let letters = bodies.each_ref().map(|body| read(&Headers::new("cancel"), body));
        assert_ne!(letters[0].id, letters[1].id);
        assert_eq!(letters[0], read(&Headers::new("cancel"), &bodies[0]), "a second arrival is the same one");
        assert_eq!(letters[0].reason, DELIVERY_LIMIT);
        assert_eq!(read(&Headers::new("cancel").dead_letter_id(""), &bodies[0]).id, letters[0].id);
    }

    #[test]
    fn what_cannot_be_read_is_parked_with_what_can_be() {
        let garbage = read(&Headers::default(), b"\0garbage");
        assert_eq!((garbage.id, garbage.subject), (body_id(b"\0garbage"), None));
        assert_eq!(garbage.kind, "unknown");

        let text = String::from_utf8(cancel(Timestamp::UNIX_EPOCH).encode()).unwrap();
        let strange =
            text.replace(r#""gen":1"#, r#""gen":0,"novel":true"#).replace("cancel", &"x".repeat(100));
        let letter = read(&Headers::default(), strange.as_bytes());
        assert_eq!(letter.id, body_id(strange.as_bytes()));
        assert_eq!((letter.kind.len(), letter.subject.map(|subject| subject.generation)), (32, Some(1)));
    }

    #[test]
    fn a_dead_letter_that_must_not_be_read_is_known_by_its_headers_and_bytes() {
        let body = cancel(Timestamp::UNIX_EPOCH).encode();
        let headers = Headers::new("cancel").traceparent(Some("00-1"));
        let unread = arrival(&headers, &body).unread("why");
        assert_eq!((unread.order_id, unread.account), (None, None));
        let letter = unread.letter;
        assert_eq!((letter.id, letter.subject), (body_id(&body), None));
        assert_eq!((letter.kind.as_str(), letter.reason.as_str(), letter.body), ("cancel", "why", body));
        assert_eq!(letter.headers, [("traceparent".to_owned(), "00-1".to_owned())]);
        assert_eq!(arrival(&headers.dead_letter_id("id"), b"").unread("why").letter.id, "id");
    }

    #[test]
    fn a_dead_letter_that_must_not_be_read_is_about_the_order_that_its_headers_name() {
        let Command { order_id, account, .. } = cancel(Timestamp::UNIX_EPOCH);
        let headers = Headers::new("cancel").order(&order_id, &account);
        let unread = arrival(&headers, b"").unread("why");
        assert_eq!((unread.order_id, unread.account), (Some(order_id), Some(account)));
    }
}
