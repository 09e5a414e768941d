//! How long calls to the database take. Kept by whatever recorder the process has installed; without one by nobody.

use std::{
    collections::HashMap,
    sync::{LazyLock, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use metrics::Histogram;
use mongodb::error::ErrorKind;

use crate::StoreError;

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

/// A call has ended.
pub(crate) fn called<T>(operation: &'static str, result: &Result<T, StoreError>, took: Duration) {
    let outcome = outcome(result);
    let known = HANDLES.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(handles) = known.get(operation) {
        return record(operation, outcome, handles, took);
    }
    drop(known);
    let mut known = HANDLES.write().unwrap_or_else(PoisonError::into_inner);
    record(operation, outcome, known.entry(operation).or_default(), took);
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
