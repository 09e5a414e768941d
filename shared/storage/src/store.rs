//! A connection to the database, and the limit on every call.

use std::{
    future::IntoFuture,
    sync::Arc,
    time::{Duration, Instant},
};

use mongodb::{
    Client, Collection, Database,
    bson::{RawDocumentBuf, doc},
};

use orderfleet_domain::{
    OrderId,
    saga::{Millis, Nonce},
};
use tracing::{Instrument as _, Span, field::Empty};

use crate::{
    StoreError,
    failure::is_duplicate,
    group::{Answer, Group, Kind},
    meters,
};

/// Name of the collection of orders.
pub(crate) const ORDERS: &str = "orders";
/// Name of the collection of dead letters.
pub(crate) const DEAD_LETTERS: &str = "dead_letters";
/// Name of the collection of replays.
pub(crate) const REPLAYS: &str = "replays";
/// Name of the collection of their items.
pub(crate) const REPLAY_ITEMS: &str = "replay_items";
/// Name of the collection of readings of dead letters that were begun.
pub(crate) const READINGS: &str = "dead_letter_readings";

/// The order documents and the dead letters. Cheap to clone; all clones share one pool of connections.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) database: Database,
    pub(crate) orders: Collection<RawDocumentBuf>,
    pub(crate) dead_letters: Collection<RawDocumentBuf>,
    pub(crate) replays: Collection<RawDocumentBuf>,
    pub(crate) replay_items: Collection<RawDocumentBuf>,
    pub(crate) readings: Collection<RawDocumentBuf>,
    pub(crate) inserts: Arc<Group>,
    pub(crate) writes: Arc<Group>,
    /// The driver has no timeout of its own for a whole call.
    pub(crate) timeout: Duration,
}

impl Store {
    pub(crate) fn new(client: &Client, name: &str, timeout: Duration) -> Self {
        let database = client.database(name);
        let (orders, dead_letters) = (database.collection(ORDERS), database.collection(DEAD_LETTERS));
        let (replays, replay_items) = (database.collection(REPLAYS), database.collection(REPLAY_ITEMS));
        let readings = database.collection(READINGS);
        let inserts = Group::new(Kind::Insert, &database, timeout);
        let writes = Group::new(Kind::Write, &database, timeout);
        Self { database, orders, dead_letters, replays, replay_items, readings, inserts, writes, timeout }
    }

    /// Asks the primary for a sign of life.
    ///
    /// # Errors
    /// There is no primary, or it did not answer in time.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.call("ping", self.database.run_command(doc! { "ping": 1 })).await.map(drop)
    }

    /// The time by the clock of the primary, or of the router: one for all workers, whatever their own say. The server tells it in
    /// its answer to `hello` (MongoDB manual, "hello", `localTime`).
    ///
    /// # Errors
    /// The database did not answer in time.
    pub async fn time(&self) -> Result<Millis, StoreError> {
        let asking = async {
            let hello = self.database.run_command(doc! { "hello": 1 }).await?;
            let time = hello.get_datetime("localTime").map_err(mongodb::error::Error::custom)?;
            Ok(time.timestamp_millis())
        };
        self.call("question for the time", asking).await
    }

    /// Writes to an order's document together with what others write just now.
    pub(crate) async fn in_a_group(
        &self,
        group: &Arc<Group>,
        order_id: &OrderId,
        nonce: Nonce,
        statement: RawDocumentBuf,
    ) -> Answer {
        let (started, span) = (Instant::now(), span(group.operation()));
        let answer = group.join(order_id.as_str(), nonce, statement).instrument(span).await;
        meters::answered(group.operation(), answer, started.elapsed());
        answer
    }

    /// Performs a call, for at most the time that the settings allow.
    pub(crate) async fn call<T>(
        &self,
        operation: &'static str,
        call: impl IntoFuture<Output = mongodb::error::Result<T>>,
    ) -> Result<T, StoreError> {
        let (started, span) = (Instant::now(), span(operation));
        let result = call_within(self.timeout, operation, call).instrument(span.clone()).await;
        meters::called(operation, &result, started.elapsed());
        // A key that is there already is an answer.
        if result.as_ref().is_err_and(|error| !is_duplicate(error)) {
            span.record("otel.status_code", "ERROR");
        }
        result
    }
}

/// Performs a call, for at most this time.
pub(crate) async fn call_within<T>(
    limit: Duration,
    operation: &'static str,
    call: impl IntoFuture<Output = mongodb::error::Result<T>>,
) -> Result<T, StoreError> {
    let _in_flight = meters::call_in_flight();
    match tokio::time::timeout(limit, call.into_future()).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(StoreError::Call { operation, source: error.into() }),
        Err(_) => Err(StoreError::Timeout { operation, after: limit }),
    }
}

/// A call within what is being done just now. What a process does by itself, such as its heartbeat, is in no trace.
fn span(operation: &'static str) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    tracing::info_span!(
        "call",
        otel.name = operation,
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = "mongodb",
        db.operation.name = operation,
    )
}
