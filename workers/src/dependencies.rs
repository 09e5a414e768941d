//! Looks after the database and the broker: what readiness says of them, and when consuming pauses.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use orderfleet_messaging::{Observer, Publisher};
use orderfleet_runtime::admin::Health;
use orderfleet_storage::{AddressInUse, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const CHECK_EVERY: Duration = Duration::from_secs(1);
/// A check may take its own timeouts; without one for so long the process is stuck.
const CHECK_STALLS_AFTER: Duration = Duration::from_secs(60);
/// The consumer's supervisor looks after its session at least this often, a reconnect included.
const CONSUMER_STALLS_AFTER: Duration = Duration::from_secs(60);
/// A shorter absence of the database, such as an election, is waited for with the deliveries in hand.
const PAUSE_AFTER: Duration = Duration::from_secs(5);

/// Checks database and broker for as long as the process lives, and pauses consuming while the database is away: messages
/// that wait in their queues are charged no delivery for it, however long it takes. Where the database is away and its address
/// is another one by now, the process drains: whoever starts it again starts it with that.
pub(crate) async fn watch(
    (store, address): (Store, AddressInUse),
    publisher: Publisher,
    health: Arc<Health>,
    pause: watch::Sender<bool>,
    shutdown: CancellationToken,
) {
    let mut every = tokio::time::interval(CHECK_EVERY);
    let mut outage = Outage::default();
    loop {
        every.tick().await;
        let (database, broker) = tokio::join!(store.ping(), publisher.check());
        let must_pause = outage.on(Instant::now(), database.is_ok());
        pause.send_if_modified(|paused| std::mem::replace(paused, must_pause) != must_pause);
        match database {
            Ok(()) => health.ready("database"),
            Err(error) => {
                health.not_ready("database", error.to_string());
                if must_pause && !shutdown.is_cancelled() && address.is_outdated() {
                    tracing::error!(
                        "database.uri_file holds another address by now: ending, for a restart takes it over"
                    );
                    shutdown.cancel();
                }
            }
        }
        match broker {
            Ok(()) => health.ready("publisher"),
            Err(why) => health.not_ready("publisher", why),
        }
        health.beat("dependency checks", CHECK_STALLS_AFTER);
    }
}

/// Since when the database has not answered.
#[derive(Debug, Default)]
struct Outage {
    since: Option<Instant>,
}

impl Outage {
    /// Takes the result of a check and tells whether consuming has to pause.
    fn on(&mut self, now: Instant, answered: bool) -> bool {
        if answered {
            self.since = None;
            return false;
        }
        now.duration_since(*self.since.get_or_insert(now)) >= PAUSE_AFTER
    }
}

/// Tells the process's health, and the metrics, how a consumer is.
pub(crate) struct ConsumerHealth {
    health: Arc<Health>,
    part: &'static str,
}

impl ConsumerHealth {
    pub(crate) fn new(health: &Arc<Health>, part: &'static str) -> Self {
        Self { health: Arc::clone(health), part }
    }

    /// There is nothing for it to consume.
    pub(crate) fn idle(&self) {
        self.health.ready(self.part);
    }

    pub(crate) fn draining(&self) {
        self.health.not_ready(self.part, "draining");
        self.consuming(0);
    }

    /// Whether it takes what is new: 0 or 1.
    pub(crate) fn consuming(&self, consuming: u8) {
        metrics::gauge!("orderfleet_consuming", "consumer" => self.part).set(consuming);
    }
}

impl Observer for ConsumerHealth {
    fn subscribed(&self) {
        self.health.ready(self.part);
        self.consuming(1);
        self.alive();
    }

    fn paused(&self) {
        self.health.not_ready(self.part, "paused while the database is away");
        self.consuming(0);
        self.alive();
    }

    fn lost(&self, why: &str) {
        metrics::counter!("orderfleet_subscriptions_lost_total").increment(1);
        self.health.not_ready(self.part, why);
        self.consuming(0);
        self.alive();
    }

    fn alive(&self) {
        self.health.beat(self.part, CONSUMER_STALLS_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consuming_pauses_when_the_database_stays_away_and_resumes_with_its_first_answer() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        let just_before = start + PAUSE_AFTER - Duration::from_millis(1);
        assert!(!outage.on(start, false) && !outage.on(just_before, false));
        assert!(outage.on(start + PAUSE_AFTER, false));
        assert!(!outage.on(start + PAUSE_AFTER, true));
        assert!(!outage.on(start + 2 * PAUSE_AFTER, false), "a new absence has just begun");
    }

    #[test]
    fn absences_that_are_interrupted_are_not_added_up() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        for second in 0..60 {
            assert!(!outage.on(start + Duration::from_secs(second), second % 3 == 0));
        }
    }
}
