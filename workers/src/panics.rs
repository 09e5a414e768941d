//! A panic while a delivery is handled: caught, told without its text, and answered for.
//!
//! The process lives on, because the other deliveries in hand are in order; the message is worked on alone next, and if that
//! panics, too, it is for people.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, set_hook},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use orderfleet_domain::{
    Command,
    saga::{DeadLetterQueue, Lane, body_id, poison_id},
};
use orderfleet_messaging::{Destination, Headers, Outgoing};

use crate::messages::of_dead_letter;

/// Begins the reason of a dead letter whose handling panicked.
pub(crate) const HANDLING_PANICKED: &str = "handling it panicked";
/// Begins the reason of a dead letter whose parking panicked.
pub(crate) const PARKING_PANICKED: &str = "parking it panicked";

thread_local! {
    /// Where the last panic of this thread happened.
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

/// Has panics told by their place alone, in the process's log: their text may hold anything, personal data included.
pub(crate) fn tell_by_place() {
    set_hook(Box::new(|panic| {
        let place = panic.location().map(|at| format!("{}:{}", at.file(), at.line()));
        tracing::error!(panic.place = place, "panic");
        // A thread that is about to end may have no place for it any more.
        let _ = PLACE.try_with(|last| last.set(place));
    }));
}

/// Runs a future to its end, or to its panic: then `Err` says where that happened.
pub(crate) async fn caught<T>(work: impl Future<Output = T>) -> Result<T, String> {
    // What outlives the work is shared with other deliveries and holds no lock over an await.
    let ended = AssertUnwindSafe(work).catch_unwind().await;
    ended.map_err(|_| PLACE.take().unwrap_or_else(|| "an unknown place".to_owned()))
}

/// What came of the work, or, where it panicked, of the answer for that, which is told the place. `Err` where the answer
/// panicked, too: then nobody has answered for the delivery, and it must not be acked. Given back, it counts against its
/// delivery limit.
pub(crate) async fn answered<T, Answering: Future<Output = T>>(
    work: impl Future<Output = T>,
    answer: impl FnOnce(String) -> Answering,
) -> Result<T, String> {
    match caught(work).await {
        Ok(done) => Ok(done),
        // The block also holds what panics before there is a future.
        Err(place) => caught(async move { answer(place).await }).await,
    }
}

/// What is published for a delivery whose handling panicked: a copy into the quarantine lane, and from there a dead letter.
pub(crate) fn answer(lane: &Lane, headers: &Headers, body: &Bytes, place: &str) -> Outgoing {
    let reason = format!("{HANDLING_PANICKED} at {place}");
    let (destination, headers) = match lane {
        Lane::Quarantine => {
            let id = id(body, &reason);
            let headers = of_dead_letter(headers, &id, &reason);
            (Destination::DeadLetter(DeadLetterQueue::Poison), headers)
        }
        _ => (Destination::Lane(Lane::Quarantine), headers.clone()),
    };
    Outgoing { destination, headers, body: body.clone() }
}

/// The command in a body, for whoever must not panic: decoding it may be what panicked.
pub(crate) fn command(body: &Bytes) -> Option<Command> {
    catch_unwind(|| Command::decode(body).ok()).ok().flatten()
}

/// With the body in it, as two messages about one run may both panic, and neither may hide the other.
fn id(body: &Bytes, reason: &str) -> String {
    let body_id = body_id(body);
    match command(body) {
        Some(command) => poison_id(&command.order_id, command.generation, &format!("{reason}: {body_id}")),
        None => body_id,
    }
}

#[cfg(test)]
mod tests {
    use std::{panic::take_hook, sync::Arc, time::Duration};

    use orderfleet_messaging::{
        BrokerSettings, Consumer, Control, Delivery, Observer, Publisher, Source, Subscription, Topology,
    };
    use orderfleet_native::{RabbitMq, RabbitMqOptions, TempFolder};
    use tokio::{
        sync::{Semaphore, mpsc, watch},
        time::timeout,
    };
    use tokio_util::sync::CancellationToken;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_panic_is_caught_and_told_by_its_place_alone() {
        assert_eq!(caught(async { 7 }).await, Ok(7));
        let late = async {
            tokio::task::yield_now().await;
            panic!("Jane Doe, 1 High Street");
        };
        tell_by_place();
        let place: Result<(), String> = caught(late).await;
        // Back to the one that tells everything, for the other tests.
        drop(take_hook());
        let place = place.unwrap_err();
        assert!(place.contains("panics.rs:"), "{place}");
    }

    #[tokio::test]
    async fn a_panic_while_a_panic_is_answered_for_is_told_and_nothing_is_answered() {
        assert_eq!(answered(async { "done" }, async |_| "answered").await, Ok("done"));
        assert_eq!(answered(async { panic!("work") }, async |_| "answered").await, Ok("answered"));
        let twice = answered(async { panic!("work") }, async |_: String| panic!("answer"));
        assert!(Result::<(), _>::is_err(&twice.await));
    }

    struct Nobody;

    impl Observer for Nobody {
        fn subscribed(&self) {}
        fn lost(&self, _why: &str) {}
        fn alive(&self) {}
    }

    /// A broker of the test's own, which leaves nothing behind.
    struct Broker {
        settings: BrokerSettings,
        topology: Topology,
        _server: RabbitMq,
        _folder: TempFolder,
    }

    impl Broker {
        async fn start() -> Self {
            let folder = TempFolder::new().unwrap();
            let server = RabbitMq::start(folder.path(), RabbitMqOptions::default()).await.unwrap();
            let settings = BrokerSettings { url: server.amqp_url(), ..BrokerSettings::default() };
            let topology = Topology::new("", 1, 1 << 20, &["inventory".parse().unwrap()]);
            Self { settings, topology, _server: server, _folder: folder }
        }

        async fn publisher(&self) -> Publisher {
            Publisher::connect(&self.settings, self.topology.clone(), "test").await.unwrap()
        }

        /// Hands over what the queues deliver.
        fn consume<S: Source>(&self, sources: &[S]) -> mpsc::UnboundedReceiver<Delivery<S>> {
            let subscribe = |lane: &S| {
                let (permits, control) = (Arc::new(Semaphore::new(1)), Control::default());
                Subscription { lane: lane.clone(), prefetch: 1, permits, control }
            };
            let consumer = Consumer {
                settings: self.settings.clone(),
                topology: self.topology.clone(),
                name: "test".into(),
                subscriptions: sources.iter().map(subscribe).collect(),
                paused: watch::channel(false).1,
            };
            let (sender, deliveries) = mpsc::unbounded_channel();
            let handle = move |delivery| {
                let _ = sender.send(delivery);
                std::future::ready(())
            };
            tokio::spawn(async move { consumer.run(&Nobody, CancellationToken::new(), handle).await });
            deliveries
        }
    }

    async fn next<S>(deliveries: &mut mpsc::UnboundedReceiver<Delivery<S>>) -> Delivery<S> {
        timeout(DEADLINE, deliveries.recv()).await.unwrap().unwrap()
    }

    /// The message is not even a command: what cannot be read must be answered for all the same.
    #[tokio::test]
    async fn a_delivery_whose_handling_always_panics_goes_through_quarantine_to_people() {
        let broker = Broker::start().await;
        let publisher = broker.publisher().await;
        let lanes = [Lane::New(0), Lane::Quarantine];
        let mut deliveries = broker.consume(&lanes);
        let mut dead_letters = broker.consume(&[DeadLetterQueue::Poison]);
        let body = Bytes::from_static(b"no command");
        let headers = Headers::new("place").traceparent(Some("00-a"));
        let outgoing = Outgoing { destination: Destination::Lane(Lane::New(0)), headers, body: body.clone() };
        publisher.publish(&outgoing).await.unwrap();

        for lane in lanes {
            let delivery = next(&mut deliveries).await;
            assert_eq!(delivery.lane, lane);
            let place: Result<(), String> = caught(async { panic!("always") }).await;
            let answer = answer(&lane, &delivery.headers, &delivery.body, &place.unwrap_err());
            publisher.publish(&answer).await.unwrap();
            delivery.ack();
        }
        let letter = next(&mut dead_letters).await;
        assert_eq!(letter.body, body);
        assert_eq!(letter.headers.get("dead_letter_id"), Some(body_id(&body).as_str()));
        assert_eq!(letter.headers.get("traceparent"), Some("00-a"));
        assert!(letter.headers.get("reason").unwrap().starts_with("handling it panicked"));
        letter.ack();
    }
}
