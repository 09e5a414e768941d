//! A link to the broker that fails while many publish: publishing heals with it, and the broker is spared a storm of
//! connections.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use orderfleet_domain::saga::Lane;
use orderfleet_messaging::{PublishError, Publisher};
use orderfleet_sandbox::proxy::{Direction, Fault};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::support::{DEADLINE, Faulty, eventually, to_lane};

const PUBLISHERS: usize = 64;
/// As in a web server that answers for its client: nobody waits longer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
/// Between the tries of one publisher.
const PAUSE: Duration = Duration::from_millis(100);
const FAULT: Duration = Duration::from_secs(5);
/// The longest pause between two tries to connect, and the time to connect on a busy machine.
const RECOVERY: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_recovers_from_a_black_hole() {
    recovers_from(Fault::BlackHole { direction: Direction::Both }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_recovers_from_resets() {
    recovers_from(Fault::Reset {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_recovers_from_a_half_close_towards_the_broker() {
    recovers_from(Fault::HalfClose { direction: Direction::Up }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_recovers_from_a_half_close_towards_the_publisher() {
    recovers_from(Fault::HalfClose { direction: Direction::Down }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_recovers_from_replies_that_are_dropped() {
    recovers_from(Fault::DropReplies { close_after_ms: 1_000 }).await;
}

/// On this link everything takes longer than a request may: connecting, the topology, and opening a channel.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_link_is_connected_once_and_used() {
    let faulty = Faulty::new().await;
    let publisher = faulty.fleet.publisher().await;
    let before = faulty.opened();
    faulty.link().set_fault(Fault::Delay { delay_ms: 1_200 });
    faulty.link().reset();
    let crowd = Crowd::start(&publisher);
    crowd.until_confirmed(1, Duration::from_secs(60)).await;
    // Whoever has once found a connection and a channel keeps both.
    crowd.until_confirmed(2 * PUBLISHERS as u64, Duration::from_secs(60)).await;
    assert_eq!(faulty.opened() - before, 1);
}

/// As when the broker's machine is gone: no socket says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_answers_nothing_is_given_up_and_made_again() {
    let mut faulty = Faulty::new().await;
    faulty.fleet.settings.confirm_timeout_ms = 60_000;
    let publisher = faulty.fleet.publisher().await;
    let message = to_lane(Lane::Retry, "an order");
    publisher.publish(&message).await.unwrap();
    let before = faulty.opened();
    faulty.link().set_fault(Fault::BlackHole { direction: Direction::Both });
    let told = timeout(DEADLINE, publisher.publish(&message)).await.expect("an end in time").unwrap_err();
    assert!(matches!(&told, PublishError::Unknown(why) if why.contains("no answer")), "{told}");

    eventually("a new connection", async || (faulty.opened() > before).then_some(())).await;
    faulty.link().heal();
    eventually("a confirm", async || publisher.publish(&message).await.ok()).await;
    assert_eq!(faulty.opened() - before, 1);
}

#[tokio::test]
async fn while_there_is_no_connection_publishing_fails_at_once_and_says_why() {
    let faulty = Faulty::new().await;
    let publisher = faulty.fleet.publisher().await;
    faulty.link().set_fault(Fault::Reset {});
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    loop {
        let asked = Instant::now();
        let error = publisher.publish(&to_lane(Lane::Retry, "too early")).await.unwrap_err();
        if let PublishError::NotSent(why) = &error
            && why.contains("cannot connect to RabbitMQ")
            && asked.elapsed() < PAUSE
        {
            break;
        }
        assert!(asked < deadline, "{error} after {:?}", asked.elapsed());
    }
}

/// Many publish; the link fails for a while and is healed: then they soon publish as before.
async fn recovers_from(fault: Fault) {
    let mut faulty = Faulty::new().await;
    faulty.fleet.settings.confirm_timeout_ms = 1_500;
    let publisher = faulty.fleet.publisher().await;
    let crowd = Crowd::start(&publisher);
    crowd.until_confirmed(PUBLISHERS as u64, RECOVERY).await;

    let (opened, began) = (faulty.opened(), Instant::now());
    faulty.link().set_fault(fault);
    sleep(FAULT).await;
    faulty.link().heal();
    // Enough that they cannot come from what was under way.
    crowd.until_confirmed(crowd.confirmed() + 10 * PUBLISHERS as u64, RECOVERY).await;

    let (opened, seconds) = (faulty.opened() - opened, began.elapsed().as_secs());
    assert!(opened <= 3 * seconds + 3, "{opened} connections in {seconds} s");
}

/// Clients that publish one message after the other, and wait a moment where it failed.
struct Crowd {
    confirmed: Arc<AtomicU64>,
    _publishing: JoinSet<()>,
}

impl Crowd {
    fn start(publisher: &Publisher) -> Self {
        let confirmed = Arc::new(AtomicU64::new(0));
        let publishing = (0..PUBLISHERS).map(|_| publish(publisher.clone(), Arc::clone(&confirmed)));
        Self { confirmed: Arc::clone(&confirmed), _publishing: publishing.collect() }
    }

    fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::Relaxed)
    }

    async fn until_confirmed(&self, count: u64, within: Duration) {
        let deadline = Instant::now() + within;
        while self.confirmed() < count {
            assert!(Instant::now() < deadline, "{} of {count} confirmed in {within:?}", self.confirmed());
            sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn publish(publisher: Publisher, confirmed: Arc<AtomicU64>) {
    let message = to_lane(Lane::Retry, "again and again");
    loop {
        match timeout(REQUEST_TIMEOUT, publisher.publish(&message)).await {
            Ok(Ok(())) => confirmed.fetch_add(1, Ordering::Relaxed),
            _ => {
                sleep(PAUSE).await;
                continue;
            }
        };
    }
}
