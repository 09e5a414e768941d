//! The fleet at one moment: its queues, workers, downstreams and database, as far as they can be seen; and whether anything
//! of it is still in flight.

mod drain;
mod queues;
mod workers;

use std::time::Duration;

use jiff::Timestamp;
use orderfleet_domain::saga::{DeadLetterQueue, Millis, Policy};
use orderfleet_messaging::{BrokerSettings, Counts, Inspector, Topology};
use orderfleet_storage::{
    AddressInUse, DatabaseSettings, LetterFilter, Pause, Store, StoreError, WorkerStatus, queue_word,
};
use serde::{Serialize, Serializer};
use tokio::time::{Instant, timeout};

pub use drain::{InFlight, until_drained};
pub use queues::QueueStatus;
pub use workers::{Circuits, STALE_AFTER, Worker};

/// Longest wait for the broker, be it for a connection or for what all queues hold.
const BROKER_TIMEOUT: Duration = Duration::from_secs(8);
/// What comes due within this time, in milliseconds, is work for workers that are here now: as long as the wait tier in which
/// orders wait for a service that is paused or away, so that workers do not come and go with it.
const COMING_MS: Millis = 30_000;

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
    /// Orders whose next try comes due within seconds, or just did.
    pub coming_due: Option<u64>,
    /// Orders that the next sweep brings back.
    pub to_bring_back: Option<u64>,
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
/// were lost, by the address of that moment; nothing is declared, and nothing changed.
#[derive(Debug)]
pub struct Watch {
    broker: BrokerSettings,
    database: DatabaseSettings,
    topology: Topology,
    policy: Policy,
    name: String,
    inspector: Option<Inspector>,
    store: Option<(Store, AddressInUse)>,
}

/// What is counted for people and alerts, and no decision needs. `None` is what the database does not tell in time.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// As [`DatabaseStatus::under_way`].
    pub under_way: Option<u64>,
    /// As [`DatabaseStatus::held`].
    pub held: Option<u64>,
    /// As [`DatabaseStatus::owing`].
    pub owing: Option<u64>,
    /// How many dead letters are open, by the last part of their queue's name.
    pub open_letters: Option<Vec<(String, u64)>>,
}

impl Tally {
    fn is_partial(&self) -> bool {
        let Self { under_way, held, owing, open_letters } = self;
        [under_way, held, owing].into_iter().any(Option::is_none) || open_letters.is_none()
    }
}

/// What was asked for, or why it cannot be seen.
type Seen<T> = Result<T, String>;

/// What a database that answers tells, each by itself.
struct Told {
    ping: Duration,
    now: Timestamp,
    workers: Seen<Vec<WorkerStatus>>,
    pauses: Seen<Vec<Pause>>,
    coming_due: Seen<u64>,
    to_bring_back: Seen<u64>,
    counts: Option<OrderCounts>,
}

/// What takes the longer the more orders and dead letters there are.
struct OrderCounts {
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

    /// Looks at everything once. What does not answer in its time is unseen; this never fails. It takes 15 s at most: the broker has
    /// 8 s, the database thrice the timeout of its settings, which is 5 s by default.
    pub async fn look(&mut self) -> FleetStatus {
        self.see(true).await
    }

    /// As [`Watch::look`] at queues, workers, pauses and what comes due or is to be brought back, which take as long whatever the
    /// database holds. Other counts are `None`, and nothing in `unseen` says so.
    pub async fn look_at_work(&mut self) -> FleetStatus {
        self.see(false).await
    }

    async fn see(&mut self, with_counts: bool) -> FleetStatus {
        let (counts, told) = tokio::join!(
            counts(&mut self.inspector, &self.broker, &self.topology, &self.name),
            told(&mut self.store, &self.database, &self.name, with_counts),
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
            let heard = see.or_none("workers", told.workers);
            status.workers = heard.map(|heard| workers::workers(heard, told.now));
            status.pauses = see.or_none("pauses", told.pauses);
            status.database = DatabaseStatus {
                reachable: true,
                ping_ms: u64::try_from(told.ping.as_millis()).ok(),
                coming_due: see.or_none("orders coming due", told.coming_due),
                to_bring_back: see.or_none("orders to bring back", told.to_bring_back),
                ..DatabaseStatus::default()
            };
            if let Some(counts) = told.counts {
                let database = &mut status.database;
                database.under_way = see.or_none("orders under way", counts.under_way);
                database.held = see.or_none("held orders", counts.held);
                database.owing = see.or_none("owed publishes", counts.owing);
                let oldest = see.or_none("the oldest due", counts.oldest_due);
                database.oldest_due = oldest.map(|at| at.map_or(OldestDue::Nothing, OldestDue::At));
                status.dead_letters = see.or_none("dead letters", counts.dead_letters);
            }
        }
        let (workers, pauses) = (status.workers.as_deref(), status.pauses.as_deref());
        status.queues = queues::queues(&self.topology, counts.as_deref(), workers, pauses);
        status.downstreams = workers::downstreams(&self.policy, workers, pauses);
        status.unseen = unseen;
        status
    }

    /// A glance at the broker alone, many times faster than a look: whether a queue that workers consume holds anything that
    /// nobody has. A queue that does not tell may.
    pub async fn glance(&mut self) -> bool {
        let inspector = inspector(&mut self.inspector, &self.broker, &self.topology, &self.name);
        let Ok(inspector) = in_time(inspector).await else {
            return true;
        };
        let holds_any = queues::hold_any(&inspector, &self.topology).await;
        self.inspector = Some(inspector);
        holds_any
    }

    /// Counts orders and dead letters, one kind after the other. Of many the database reads each, which may take half a minute: not
    /// for every look.
    pub async fn tally(&mut self) -> Tally {
        let Ok(store) = store(&mut self.store, &self.database, &self.name).await else {
            return Tally::default();
        };
        let tally = Tally {
            under_way: store.count_under_way().await.ok(),
            held: store.count_held().await.ok(),
            owing: store.count_owing().await.ok(),
            open_letters: open_letters(store, &self.policy).await,
        };
        if tally.is_partial() {
            leave_outdated(&mut self.store);
        }
        tally
    }
}

async fn open_letters(store: &Store, policy: &Policy) -> Option<Vec<(String, u64)>> {
    let steps = policy.step_names().into_iter().map(DeadLetterQueue::Step);
    let others = [DeadLetterQueue::Poison, DeadLetterQueue::Held, DeadLetterQueue::Conflict];
    let mut counted = Vec::new();
    for queue in steps.chain(others) {
        counted.push((queue_word(&queue).to_owned(), store.count_open_letters(&queue).await.ok()?));
    }
    Some(counted)
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
    in_time(counts_of_all(kept, broker, topology, name)).await
}

async fn in_time<T>(asking: impl Future<Output = Seen<T>>) -> Seen<T> {
    let late = || Err(format!("the broker did not answer within {} s", BROKER_TIMEOUT.as_secs()));
    timeout(BROKER_TIMEOUT, asking).await.unwrap_or_else(|_| late())
}

async fn counts_of_all(
    kept: &mut Option<Inspector>,
    broker: &BrokerSettings,
    topology: &Topology,
    name: &str,
) -> Seen<Vec<Option<Counts>>> {
    let inspector = inspector(kept, broker, topology, name).await?;
    let counted = queues::counts(&inspector, topology).await;
    if counted.iter().all(Option::is_none) {
        inspector.close().await;
        return Err("the broker does not tell what any queue holds".into());
    }
    *kept = Some(inspector);
    Ok(counted)
}

/// The connection that is kept, or a new one.
async fn inspector(
    kept: &mut Option<Inspector>,
    broker: &BrokerSettings,
    topology: &Topology,
    name: &str,
) -> Seen<Inspector> {
    match kept.take() {
        Some(inspector) => Ok(inspector),
        None => connect(broker, topology, name).await,
    }
}

async fn connect(broker: &BrokerSettings, topology: &Topology, name: &str) -> Seen<Inspector> {
    let connected = Inspector::connect(broker, topology.clone(), name).await;
    connected.map_err(|error| error.told_without_secrets(broker))
}

async fn store<'a>(
    kept: &'a mut Option<(Store, AddressInUse)>,
    database: &DatabaseSettings,
    name: &str,
) -> Seen<&'a Store> {
    match kept {
        Some((store, _)) => Ok(store),
        None => {
            let address = AddressInUse::now(database);
            let store = seen(Store::connect(database, name).await)?;
            Ok(&kept.insert((store, address)).0)
        }
    }
}

/// The driver keeps the password it was given: the next look comes with that of the file.
fn leave_outdated(kept: &mut Option<(Store, AddressInUse)>) {
    if kept.as_ref().is_some_and(|(_, address)| address.is_outdated()) {
        *kept = None;
    }
}

async fn told(
    kept: &mut Option<(Store, AddressInUse)>,
    database: &DatabaseSettings,
    name: &str,
    with_counts: bool,
) -> Seen<Told> {
    let store = store(kept, database, name).await?;
    let begun = Instant::now();
    if let Err(error) = store.ping().await {
        leave_outdated(kept);
        return Err(chain(&error));
    }
    let ping = begun.elapsed();
    // Everything is judged by the database's clock: that of whoever looks may be wrong.
    let millis = seen(store.time().await)?;
    let now = Timestamp::from_millisecond(millis).map_err(|error| chain(&error))?;
    let counting = async { if with_counts { Some(order_counts(store).await) } else { None } };
    let (workers, pauses, coming_due, to_bring_back, counts) = tokio::join!(
        store.workers(),
        store.pauses(millis),
        store.coming_due(COMING_MS),
        store.to_bring_back(),
        counting,
    );
    Ok(Told {
        ping,
        now,
        workers: seen(workers),
        pauses: seen(pauses),
        coming_due: seen(coming_due),
        to_bring_back: seen(to_bring_back),
        counts,
    })
}

async fn order_counts(store: &Store) -> OrderCounts {
    let open = LetterFilter::default();
    let (under_way, held, owing, oldest_due, dead_letters) = tokio::join!(
        store.count_under_way(),
        store.count_held(),
        store.count_owing(),
        store.oldest_due(),
        store.count_letters(&open),
    );
    OrderCounts {
        under_way: seen(under_way),
        held: seen(held),
        owing: seen(owing),
        oldest_due: seen(oldest_due),
        dead_letters: seen(dead_letters),
    }
}

fn seen<T>(answer: Result<T, StoreError>) -> Seen<T> {
    answer.map_err(|error| chain(&error))
}

/// An error with its causes. Those of the database tell no documents and no credentials.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
