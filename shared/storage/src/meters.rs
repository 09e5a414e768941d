//! How long calls to the database take. Kept by whatever recorder the process has installed; without one by nobody.

use std::{
    collections::HashMap,
    sync::{LazyLock, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use metrics::{Gauge, Histogram};
use mongodb::error::ErrorKind;

use crate::{
    StoreError,
    group::{Answer, Kind},
};

/// `refused`: the server has answered with an error, such as a key that is there already; `failed`: it has not answered.
const OUTCOMES: [&str; 4] = ["ok", "refused", "failed", "timeout"];

/// By operation and outcome, made when they first happen. As many as there are names of operations in this crate.
type Handles = HashMap<&'static str, [OnceLock<Histogram>; OUTCOMES.len()]>;

static HANDLES: LazyLock<RwLock<Handles>> = LazyLock::new(|| {
    metrics::describe_histogram!(
        "orderfleet_database_seconds",
        "Calls to the database, the wait for a connection included"
    );
    RwLock::default()
});

static CALLS: LazyLock<Gauge> = LazyLock::new(|| {
    metrics::describe_gauge!("orderfleet_database_calls", "Calls to the database that have no answer yet");
    metrics::gauge!("orderfleet_database_calls")
});

/// Of inserts and of writes: of workers alone.
static WAITING: LazyLock<[Gauge; 2]> = LazyLock::new(|| {
    metrics::describe_gauge!("orderfleet_group_waiting", "Orders that wait for the write of a group");
    ["insert", "write"].map(|operation| metrics::gauge!("orderfleet_group_waiting", "operation" => operation))
});

/// One of the things a gauge counts.
pub(crate) struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.increment(1);
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// A call has no answer for as long as this exists.
pub(crate) fn call_in_flight() -> Counted {
    Counted::new(&CALLS)
}

/// An order waits for the write of a group for as long as this exists.
pub(crate) fn in_group(kind: Kind) -> Counted {
    Counted::new(&WAITING[usize::from(kind == Kind::Write)])
}

/// A call has ended.
pub(crate) fn called<T>(operation: &'static str, result: &Result<T, StoreError>, took: Duration) {
    ended(operation, outcome(result), took);
}

/// An order's write in a group has ended; not so one that goes alone now, and is measured there.
pub(crate) fn answered(operation: &'static str, answer: Answer, took: Duration) {
    match answer {
        Answer::Applied | Answer::NoMatch => ended(operation, 0, took),
        Answer::Exists => ended(operation, 1, took),
        Answer::Alone => {}
    }
}

fn ended(operation: &'static str, outcome: usize, took: Duration) {
    let known = HANDLES.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(handles) = known.get(operation) {
        return record(operation, outcome, handles, took);
    }
    drop(known);
    let mut known = HANDLES.write().unwrap_or_else(PoisonError::into_inner);
    record(operation, outcome, known.entry(operation).or_default(), took);
}

/// So many writes of orders go to the database as one command.
pub(crate) fn grouped(operation: &'static str, members: usize) {
    static SIZES: LazyLock<()> = LazyLock::new(|| {
        metrics::describe_histogram!(
            "orderfleet_group_size",
            "Writes of orders in one command to the database"
        );
    });
    LazyLock::force(&SIZES);
    metrics::histogram!("orderfleet_group_size", "operation" => operation)
        .record(u32::try_from(members).unwrap_or(u32::MAX));
}

fn record(operation: &str, outcome: usize, handles: &[OnceLock<Histogram>], took: Duration) {
    let handle = handles[outcome].get_or_init(|| {
        let (operation, outcome) = (operation.replace(' ', "_"), OUTCOMES[outcome]);
        metrics::histogram!("orderfleet_database_seconds", "operation" => operation, "outcome" => outcome)
    });
    handle.record(took);
}

fn outcome<T>(result: &Result<T, StoreError>) -> usize {
    match result {
        Ok(_) => 0,
        Err(StoreError::Call { source, .. }) => match source.kind() {
            ErrorKind::Command(_)
            | ErrorKind::Write(_)
            | ErrorKind::InsertMany(_)
            | ErrorKind::BulkWrite(_) => 1,
            _ => 2,
        },
        Err(_) => 3,
    }
}
