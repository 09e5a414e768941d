//! The fleet at one moment: its queues, workers, downstreams and database, as far as they can be seen; and whether anything
//! of it is still in flight.

mod drain;
mod queues;
mod workers;

use std::time::Duration;

use jiff::Timestamp;
use orderfleet_domain::saga::Policy;
use orderfleet_messaging::{BrokerSettings, Counts, Inspector, Topology};
use orderfleet_storage::{DatabaseSettings, LetterFilter, Pause, Store, StoreError, WorkerStatus};
use serde::{Serialize, Serializer};
use tokio::time::{Instant, timeout};

pub use drain::{InFlight, until_drained};
pub use queues::QueueStatus;
pub use workers::{Circuits, STALE_AFTER, Worker};

/// Longest wait for a connection to the broker, beyond what connecting takes by itself.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// What there is to see of a fleet at one moment. `None` is what could not be seen; why is in `unseen`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FleetStatus {
    /// When, by the clock of whoever looks.
    pub at: Timestamp,
    /// The queues, in the order of their declaration.
    pub queues: Vec<QueueStatus>,
    /// The workers, longest running first.
    pub workers: Option<Vec<Worker>>,
    /// The services of the steps, as the workers see them.
    pub downstreams: Vec<Circuits>,
    /// The database.
    pub database: DatabaseStatus,
    /// How many dead letters are open.
    pub dead_letters: Option<u64>,
    /// What is paused.
    pub pauses: Option<Vec<Pause>>,
    /// What could not be seen.
    pub unseen: Vec<Unseen>,
}

/// What is to see of the database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DatabaseStatus {
    /// Whether it answers.
    pub reachable: bool,
    /// How long an answer took, in milliseconds.
    pub ping_ms: Option<u64>,
    /// Orders under way, held ones among them.
    pub under_way: Option<u64>,
    /// Orders that wait for a person.
    pub held: Option<u64>,
    /// Orders that owe a publish.
    pub owing: Option<u64>,
    /// When the next try was due of the order that has waited longest.
    pub oldest_due: Option<OldestDue>,
}

/// When the next try was, or is, due of the order whose turn comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldestDue {
    /// No order waits for a next try.
    Nothing,
    /// Then.
    At(Timestamp),
}

impl Serialize for OldestDue {
    /// The time, or `none`: null is for what could not be seen.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nothing => serializer.serialize_str("none"),
            Self::At(at) => at.serialize(serializer),
        }
    }
}

/// Something that could not be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unseen {
    /// What.
    pub what: &'static str,
    /// Why.
    pub why: String,
}

/// A place to look at a fleet from, again and again. Connections are made when they are needed, and made again when they
/// were lost; nothing is declared, and nothing changed.
#[derive(Debug)]
pub struct Watch {
    broker: BrokerSettings,
    database: DatabaseSettings,
    topology: Topology,
    policy: Policy,
    name: String,
    inspector: Option<Inspector>,
    store: Option<Store>,
}

/// What was asked for, or why it cannot be seen.
type Seen<T> = Result<T, String>;

/// What a database that answers tells, each by itself.
struct Told {
    ping: Duration,
    now: Seen<Timestamp>,
    workers: Seen<Vec<WorkerStatus>>,
    pauses: Seen<Vec<Pause>>,
    under_way: Seen<u64>,
    held: Seen<u64>,
    owing: Seen<u64>,
    oldest_due: Seen<Option<Timestamp>>,
    dead_letters: Seen<u64>,
}

impl Watch {
    /// For the fleet of these settings. `name` shows in the lists of the broker and the database.
    #[must_use]
    pub fn new(
        broker: BrokerSettings,
        database: DatabaseSettings,
        topology: Topology,
        policy: Policy,
        name: &str,
    ) -> Self {
        Self { broker, database, topology, policy, name: name.to_owned(), inspector: None, store: None }
    }

    /// Looks at everything once. What does not answer in its time is unseen; this never fails.
    pub async fn look(&mut self) -> FleetStatus {
        let (counts, told) = tokio::join!(
            counts(&mut self.inspector, &self.broker, &self.topology, &self.name),
            told(&mut self.store, &self.database, &self.name),
        );
        let mut unseen = Vec::new();
        let mut see = Seeing(&mut unseen);
        let at = Timestamp::now();
        let counts = see.or_none("queues", counts);
        let database = see.or_none("database", told);
        let mut status = FleetStatus {
            at,
            queues: Vec::new(),
            workers: None,
            downstreams: Vec::new(),
            database: DatabaseStatus::default(),
            dead_letters: None,
            pauses: None,
            unseen: Vec::new(),
        };
        if let Some(told) = database {
            let now = see.or_none("the database's clock", told.now).unwrap_or(at);
            let heard = see.or_none("workers", told.workers);
            status.workers = heard.map(|heard| workers::workers(heard, now));
            status.pauses = see.or_none("pauses", told.pauses);
            status.dead_letters = see.or_none("dead letters", told.dead_letters);
            let oldest = see.or_none("the oldest due", told.oldest_due);
            status.database = DatabaseStatus {
                reachable: true,
                ping_ms: u64::try_from(told.ping.as_millis()).ok(),
                under_way: see.or_none("orders under way", told.under_way),
                held: see.or_none("held orders", told.held),
                owing: see.or_none("owed publishes", told.owing),
                oldest_due: oldest.map(|at| at.map_or(OldestDue::Nothing, OldestDue::At)),
            };
        }
        let (workers, pauses) = (status.workers.as_deref(), status.pauses.as_deref());
        status.queues = queues::queues(&self.topology, counts.as_deref(), workers, pauses);
        status.downstreams = workers::downstreams(&self.policy, workers, pauses);
        status.unseen = unseen;
        status
    }
}

impl FleetStatus {
    /// Queues with a consumer that says nothing of itself: a worker of a build that knows neither heartbeats nor pauses,
    /// or one that has just started. None where that cannot be seen.
    #[must_use]
    pub fn consumed_in_silence(&self) -> Vec<&str> {
        let is_silent = |queue: &&QueueStatus| {
            queue.consumers > Some(0) && queue.worked && queue.in_hand.is_none() && self.workers.is_some()
        };
        self.queues.iter().filter(is_silent).map(|queue| queue.queue.as_str()).collect()
    }
}

/// Notes what could not be seen.
struct Seeing<'a>(&'a mut Vec<Unseen>);

impl Seeing<'_> {
    fn or_none<T>(&mut self, what: &'static str, seen: Seen<T>) -> Option<T> {
        seen.map_err(|why| self.0.push(Unseen { what, why })).ok()
    }
}

/// What each declared queue holds, in the order of their declaration. One that does not answer is one that cannot be seen.
async fn counts(
    kept: &mut Option<Inspector>,
    broker: &BrokerSettings,
    topology: &Topology,
    name: &str,
) -> Seen<Vec<Option<Counts>>> {
    let inspector = match kept.take() {
        Some(inspector) => inspector,
        None => connect(broker, topology, name).await?,
    };
    let counted = queues::counts(&inspector, topology).await;
    if counted.iter().all(Option::is_none) {
        inspector.close().await;
        return Err("the broker does not tell what any queue holds".into());
    }
    *kept = Some(inspector);
    Ok(counted)
}

async fn connect(broker: &BrokerSettings, topology: &Topology, name: &str) -> Seen<Inspector> {
    let connecting = Inspector::connect(broker, topology.clone(), name);
    match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(inspector)) => Ok(inspector),
        Ok(Err(error)) => Err(error.told_without_secrets(broker)),
        Err(_) => Err(format!("the broker did not answer within {} s", CONNECT_TIMEOUT.as_secs())),
    }
}

async fn told(kept: &mut Option<Store>, database: &DatabaseSettings, name: &str) -> Seen<Told> {
    let store: &Store = match kept {
        Some(store) => store,
        None => kept.insert(seen(Store::connect(database, name).await)?),
    };
    let begun = Instant::now();
    seen(store.ping().await)?;
    let ping = begun.elapsed();
    let now = Timestamp::now().as_millisecond();
    let open = LetterFilter::default();
    let (server, workers, pauses, under_way, held, owing, oldest_due, dead_letters) = tokio::join!(
        store.server_state(),
        store.workers(),
        store.pauses(now),
        store.count_under_way(),
        store.count_held(),
        store.count_owing(),
        store.oldest_due(),
        store.count_letters(&open),
    );
    Ok(Told {
        ping,
        now: seen(server).map(|server| server.local_time),
        workers: seen(workers),
        pauses: seen(pauses),
        under_way: seen(under_way),
        held: seen(held),
        owing: seen(owing),
        oldest_due: seen(oldest_due),
        dead_letters: seen(dead_letters),
    })
}

fn seen<T>(answer: Result<T, StoreError>) -> Seen<T> {
    answer.map_err(|error| chain(&error))
}

/// An error with its causes. Those of the database tell no documents and no credentials.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
