//! What the checker judges by, as plain data: the clients' log, the services' ledgers, the database, queues and events.
//! Nothing in here is the fleet's own word about itself except what it stored and published.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use orderfleet_domain::{AccountId, Fingerprint, IdempotencyKey, Order, OrderId, Region};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::Value;

/// An order as one body under one key: what a 202 promises something about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Identity {
    /// The order's id.
    pub order_id: String,
    /// The body's fingerprint.
    pub fp: String,
}

/// What a client tried to order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// Account of the client.
    pub account: String,
    /// ISO 4217 code.
    pub currency: String,
    /// What the order comes to.
    pub total: Decimal,
    /// Units by SKU.
    pub units: BTreeMap<String, u64>,
    /// Whether it was answered 202 at least once.
    pub accepted: bool,
}

impl Attempt {
    /// What is to be expected of this body under this key, computed without asking the fleet.
    ///
    /// # Errors
    /// When it is no valid order, account, region or key.
    pub fn expect(account: &str, region: &str, key: &str, body: &Value) -> anyhow::Result<(Identity, Self)> {
        let order: Order = serde_json::from_value(body.clone()).context("not a valid order")?;
        let (account_id, region): (AccountId, Region) = (account.parse()?, region.parse()?);
        let key: IdempotencyKey = key.parse()?;
        let mut units = BTreeMap::new();
        for line in &order.lines {
            *units.entry(line.sku.as_str().to_owned()).or_default() += u64::from(line.quantity);
        }
        let identity = Identity {
            order_id: OrderId::derive(&region, &account_id, &key).to_string(),
            fp: Fingerprint::of(&order).as_str().to_owned(),
        };
        let attempt = Self {
            account: account.to_owned(),
            currency: body["currency"].as_str().unwrap_or_default().to_owned(),
            total: order.total().as_decimal(),
            units,
            accepted: false,
        };
        Ok((identity, attempt))
    }
}

/// What the clients know.
#[derive(Debug, Clone, Default)]
pub struct Clients {
    /// Everything that was posted.
    pub attempts: BTreeMap<Identity, Attempt>,
    /// Orders whose cancelling was asked for.
    pub cancels: BTreeSet<String>,
    /// Of these, the orders whose cancelling was answered 202.
    pub cancels_accepted: BTreeSet<String>,
    /// Ends that the query service has shown, by order: `DONE`, or `UNDONE` for good.
    pub shown: BTreeMap<String, BTreeSet<String>>,
    /// Answers that break the contract on their own, such as a 202 with another order's id.
    pub broken_answers: Vec<String>,
}

/// Where a call is to: one step of one run of one order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance {
    /// The order.
    pub order_id: String,
    /// The run.
    pub generation: u64,
    /// The step, which is also the service.
    pub step: String,
}

/// What one service's ledger says of a step instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// Effects of a do.
    pub done: u32,
    /// Dos that were refused.
    pub dos_refused: u32,
    /// Effects of an undo.
    pub undone: u32,
    /// Undos that were refused for good.
    pub undos_refused: u32,
}

impl Calls {
    /// What is left of it: 1 for done and not undone.
    #[must_use]
    pub fn net(self) -> i64 {
        i64::from(self.done) - i64::from(self.undone)
    }
}

/// All ledgers at one moment.
pub type Ledgers = BTreeMap<Instance, Calls>;

/// What the services hold in the end, by their own books.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Units reserved by SKU, without zeros.
    pub reserved: BTreeMap<String, u64>,
    /// Open shipments by order.
    pub shipments: BTreeMap<String, u64>,
    /// What accounts owe, by account and currency, without zeros.
    pub receivable: BTreeMap<(String, String), Decimal>,
    /// Currencies whose debits and credits differ.
    pub unbalanced: BTreeSet<String>,
}

/// The part of an order's document that says how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Fingerprint of the body that was inserted.
    pub fp: String,
    /// `RUN`, `COMP`, `DONE` or `UNDONE`.
    pub phase: String,
    /// The run it is in.
    pub generation: u64,
    /// No further run.
    pub is_final: bool,
    /// The step it stands at.
    pub cur: usize,
    /// Steps up to this one may have been called.
    pub hi: usize,
    /// Why its run was undone, in the fleet's word, such as `refused` or `attempts_exhausted`.
    pub cause: Option<String>,
    /// Its history says that a cancel came when it could not be honoured any more.
    pub cancel_too_late: bool,
    /// Id of the hold with which it waits for a person.
    pub hold: Option<String>,
    /// It owes a publish.
    pub owes: bool,
    /// Fingerprints of other bodies posted under its key.
    pub conflicts: BTreeSet<String>,
}

impl Stored {
    /// Whether it waits for a person.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.hold.is_some()
    }
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Parked {
    /// Its id: another arrival of the same dead letter has the same.
    pub id: String,
    /// The queue it came by, such as `orders.dead.conflict`.
    pub queue: String,
    /// The order and the fingerprint in it, where it can be read.
    pub about: Option<Identity>,
    /// The run in it, 0 where it cannot be read.
    pub generation: u64,
    /// The body as text.
    pub body: String,
}

/// A domain event as it was published.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Published {
    /// The order.
    pub order_id: String,
    /// The run.
    pub generation: u64,
    /// `order.completed`, `order.cancelled` or `order.failed`.
    pub kind: String,
    /// The event's id.
    pub id: String,
}

/// What operators asked for by message while orders were under way.
#[derive(Debug, Clone, Default)]
pub struct Requests {
    /// The highest run that was asked for, by order; it may have come or not.
    pub runs: BTreeMap<String, u64>,
    /// The highest run whose message was confirmed, by order: it must not vanish.
    pub runs_confirmed: BTreeMap<String, u64>,
    /// Holds that were to be released, by order.
    pub releases: BTreeMap<String, BTreeSet<String>>,
    /// Of these, the holds whose release was confirmed: none of them may last.
    pub releases_confirmed: BTreeMap<String, BTreeSet<String>>,
}

/// Everything the checker needs.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// What the clients know.
    pub clients: Clients,
    /// The ledgers after the queues had drained.
    pub ledgers: Ledgers,
    /// The ledgers some time later: undone must stay undone.
    pub ledgers_later: Ledgers,
    /// What the services hold.
    pub holdings: Holdings,
    /// The documents, by order id.
    pub stored: BTreeMap<String, Stored>,
    /// The dead letters.
    pub parked: Vec<Parked>,
    /// All events, in the order they came.
    pub events: Vec<Published>,
    /// Messages left in queues, which should all be empty.
    pub left_in_queues: BTreeMap<String, u32>,
    /// Bodies nobody can read that were put into a queue of orders on purpose, and whether the broker confirmed them: the
    /// others may have come or not.
    pub poison: BTreeMap<String, bool>,
    /// Articles over which workers abort.
    pub crashing: BTreeSet<String>,
    /// What operators asked for.
    pub asked: Requests,
    /// Processes of the fleet that ended although nobody had harmed them.
    pub exits: Vec<String>,
    /// Of a hundred executed orders that nobody refused or cancelled, so many have to be done at least: a fleet that undoes
    /// everything keeps its promise, and is of no use. 0 where orders are meant to fail.
    pub done_percent_min: usize,
}

impl Evidence {
    /// Whether workers abort over an order, by what was posted under its key.
    pub(super) fn crashes_workers(&self, order_id: &str) -> bool {
        let first = Identity { order_id: order_id.to_owned(), fp: String::new() };
        let posted = self.clients.attempts.range(first..).take_while(|(of, _)| of.order_id == order_id);
        posted.into_iter().any(|(_, attempt)| attempt.units.keys().any(|sku| self.crashing.contains(sku)))
    }
}
