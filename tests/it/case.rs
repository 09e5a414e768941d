//! A fleet whose orders are all known, so that the checker of the chaos runs can judge it.

use futures_util::{StreamExt as _, stream};
use orderfleet_tests::{
    Fleet, Plan,
    chaos::{self, Attempt, Clients, Evidence, Identity, Requests, Verdict},
};
use serde_json::Value;

const EVENTS: &str = "events.seen";
const POSTED_AT_ONCE: usize = 32;

/// A fleet, and what its clients know.
pub(crate) struct Case {
    pub(crate) fleet: Fleet,
    clients: Clients,
    /// Articles over which workers abort.
    pub(crate) crashing: Vec<String>,
    /// What operators asked for.
    pub(crate) asked: Requests,
}

impl Case {
    /// Starts a fleet that parks its dead letters, and keeps every event from now on.
    pub(crate) async fn start(plan: Plan) -> Self {
        let fleet = Fleet::start_as(Plan { roles: Plan::ALL_ROLES, ..plan }).await;
        fleet.broker().await.keep(EVENTS, "orders.events", "#").await;
        Self { fleet, clients: Clients::default(), crashing: Vec::new(), asked: Requests::default() }
    }

    /// Posts an order to the first producer, which must accept it.
    pub(crate) async fn place(&mut self, key: &str, body: &Value) -> String {
        let id = self.fleet.client.accept(key, body).await;
        self.note_accepted(key, body, &id);
        id
    }

    /// Posts many orders under the keys `<prefix>0`, `<prefix>1` and so on.
    pub(crate) async fn place_all(
        &mut self,
        prefix: &str,
        count: usize,
        body: impl Fn(usize) -> Value,
    ) -> Vec<String> {
        let orders: Vec<_> = (0..count).map(|number| (format!("{prefix}{number}"), body(number))).collect();
        let client = &self.fleet.client;
        let accepted = stream::iter(&orders).map(|(key, body)| client.accept(key, body));
        let ids: Vec<_> = accepted.buffered(POSTED_AT_ONCE).collect().await;
        for ((key, body), id) in orders.iter().zip(&ids) {
            self.note_accepted(key, body, id);
        }
        ids
    }

    /// Notes an order that was answered 202.
    pub(crate) fn note_accepted(&mut self, key: &str, body: &Value, id: &str) -> Identity {
        let (identity, mut attempt) = Attempt::expect("demo", "eu1", key, body).unwrap();
        assert_eq!(identity.order_id, id);
        attempt.accepted = true;
        self.clients.attempts.insert(identity.clone(), attempt);
        identity
    }

    /// Notes that an operator has had these orders run as often as this, by messages that were confirmed.
    pub(crate) fn asked_to_run(&mut self, ids: &[String], run: u64) {
        let runs = || ids.iter().map(|id| (id.clone(), run));
        self.asked.runs.extend(runs());
        self.asked.runs_confirmed.extend(runs());
    }

    /// Notes that these orders were cancelled, and that the cancels were accepted.
    pub(crate) fn cancelled(&mut self, ids: &[String]) {
        self.clients.cancels.extend(ids.iter().cloned());
        self.clients.cancels_accepted.extend(ids.iter().cloned());
    }

    /// Waits until the queues are empty, stops the workers, and judges what all have left behind.
    pub(crate) async fn judge(&mut self) -> Verdict {
        self.fleet.until_drained(&[]).await;
        let ledgers = chaos::ledgers(&self.fleet.sandbox).await;
        self.fleet.stop_workers().await;
        let (sandbox, database) = (&self.fleet.sandbox, self.fleet.mongodb().await);
        // A connection of its own, as the scenario may have closed all others.
        let broker = self.fleet.broker().await;
        let evidence = Evidence {
            clients: self.clients.clone(),
            ledgers,
            ledgers_later: chaos::ledgers(sandbox).await,
            holdings: chaos::holdings(sandbox).await.unwrap(),
            stored: chaos::stored(&database).await.unwrap(),
            left_in_queues: broker.depths().await,
            parked: chaos::dead_letters(&database).await.unwrap(),
            events: chaos::events(&broker, EVENTS).await,
            crashing: self.crashing.iter().cloned().collect(),
            asked: self.asked.clone(),
            ..Evidence::default()
        };
        broker.remove(EVENTS).await;
        chaos::judge(&evidence)
    }

    /// As [`Case::judge`], and nothing may be wrong: so many orders are done, and all others are held or conflicts.
    pub(crate) async fn assert_kept(&mut self, done: usize) -> Verdict {
        let verdict = self.judge().await;
        assert_eq!(verdict.violations, []);
        assert_eq!(verdict.counts.done, done, "{:?}", verdict.counts);
        verdict
    }
}
