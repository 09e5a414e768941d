//! What a schedule starts from: the steps' settings, the messages a client may post, and the bounds.

use std::sync::Arc;

use orderfleet_domain::{
    Command, CommandKind, Fingerprint, Order, OrderId,
    saga::{Lane, Millis, Policy, StepSettings},
};
use serde::{Deserialize, Serialize};

use crate::{Budget, world::Message};

/// The bounds of a schedule, as they are kept with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Steps of the saga, 1 to 4.
    pub steps: u8,
    /// Charged attempts before an order is compensated.
    pub attempts_max: u32,
    /// Repeats at once before an attempt is charged.
    pub quick_retries: u32,
    /// Deliveries in hand at once.
    pub slots: u8,
    /// Time passes: waits take as long as they say, and deadlines count. Otherwise the clock stands still, leases run out
    /// when [`crate::Fault::Tick`] says so, and equal states are equal whenever they come about.
    pub timed: bool,
    /// The order was begun by another build, which calls all steps at once and was killed: every step is declared, its
    /// request is on its way, and none is recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begun: bool,
    /// Which properties count.
    #[serde(default, skip_serializing_if = "Judged::is_everything")]
    pub judged: Judged,
    /// What may go wrong.
    pub budget: Budget,
}

/// Which properties count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judged {
    /// All of them.
    #[default]
    Everything,
    /// Those that harm an order ([`crate::Property::is_outcome`]): a schedule goes on past a breach of a discipline, to see
    /// whether it leads to damage.
    Outcomes,
}

impl Judged {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
    fn is_everything(&self) -> bool {
        *self == Self::Everything
    }
}

/// A scope made ready.
#[derive(Debug, Clone)]
pub struct Setup {
    pub(crate) scope: Scope,
    pub(crate) policy: Policy,
    pub(crate) ours: Message,
    pub(crate) other: Message,
}

pub(crate) const LEASE_MS: Millis = 30_000;
const DEADLINE_S: u32 = 3_600;
const NAMES: [&str; 4] = ["inventory", "fulfilment", "accounting", "loyalty"];

impl Setup {
    /// Makes a scope ready.
    ///
    /// # Panics
    /// When it has no step or more than four.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        let steps = NAMES[..usize::from(scope.steps)].iter().map(|name| StepSettings {
            name: name.parse().expect("a good name"),
            url: "http://127.0.0.1/".into(),
            attempts_max: scope.attempts_max,
            quick_retries: scope.quick_retries,
            deadline_s: if scope.timed { DEADLINE_S } else { 2_592_000 },
            ..StepSettings::defaults().swap_remove(0)
        });
        let policy = Policy::new(steps.collect(), LEASE_MS).expect("good steps");
        Self { scope, policy, ours: place("ours"), other: place("other") }
    }

    pub(crate) fn order_id(&self) -> &OrderId {
        &self.ours.command.order_id
    }

    /// A message about our order.
    pub(crate) fn message(
        &self,
        generation: u32,
        fp: Option<Fingerprint>,
        kind: CommandKind,
        lane: Lane,
    ) -> Message {
        let Command { order_id, account, .. } = &*self.ours.command;
        let command = Command { order_id: order_id.clone(), account: account.clone(), generation, fp, kind };
        Message::fresh(Arc::new(command), lane)
    }
}

fn place(payment: &str) -> Message {
    let account = "demo".parse().expect("a good account");
    let order: Order = serde_json::from_value(serde_json::json!({
        "channel": "retail", "currency": "GBP", "payment_ref": payment, "ship_to": {},
        "lines": [{"sku": "A", "quantity": 1, "unit_price": "1"}]
    }))
    .expect("a good order");
    let command = Command {
        order_id: OrderId::derive(
            &"eu1".parse().expect("a good region"),
            &account,
            &"k".parse().expect("a good key"),
        ),
        account,
        generation: 1,
        fp: Some(Fingerprint::of(&order)),
        kind: CommandKind::Place { order: Box::new(order), accepted_at: jiff::Timestamp::UNIX_EPOCH },
    };
    Message::fresh(Arc::new(command), Lane::New(0))
}
