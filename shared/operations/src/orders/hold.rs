//! An order that waits for a person, and what he can decide.

use orderfleet_domain::{
    AccountId, Command, CommandKind, Decision, Fingerprint, OrderId,
    saga::{Lane, Phase},
};
use orderfleet_messaging::Publisher;
use orderfleet_storage::{ListedHold, ListedOrder, Store};
use serde::Serialize;

use crate::{
    Operator,
    log::Act,
    orders::{OrdersError, ask::ask},
};

/// An order and the hold it waits with. A decision names that very hold, so that it cannot hit a later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldOrder {
    /// The order.
    pub order_id: OrderId,
    /// Whose it is.
    pub account: AccountId,
    /// The run it is in.
    #[serde(rename = "gen")]
    pub generation: u32,
    /// RUN or COMP.
    pub phase: Phase,
    /// What it waits with.
    pub hold: ListedHold,
    /// The fingerprint of the order.
    pub fingerprint: Fingerprint,
}

impl HeldOrder {
    /// Reads the hold of an order.
    ///
    /// # Errors
    /// The database did not answer, the order is not stored, or nobody holds it.
    pub async fn read(store: &Store, order_id: &OrderId) -> Result<Self, OrdersError> {
        let found = store.order_for_operator(order_id).await?;
        let view = found.ok_or_else(|| OrdersError::NotStored(order_id.clone()))?;
        let ListedOrder { order_id, account, status, generation, phase, hold, .. } = ListedOrder::from(&view);
        match hold {
            None => Err(OrdersError::NotHeld { order_id, status }),
            Some(hold) => {
                Ok(Self { order_id, account, generation, phase, hold, fingerprint: view.record.fp })
            }
        }
    }

    /// What a decision leads to, for people.
    #[must_use]
    pub fn consequence(&self, decision: Decision) -> String {
        let step = &self.hold.step;
        match (decision, self.phase) {
            (Decision::Release, Phase::Comp) => format!("the undo of {step} is tried again"),
            (Decision::Release, _) => format!("{step} is tried again"),
            (Decision::Settle, Phase::Comp) => {
                format!("{step} counts as undone by hand; the steps before it are undone")
            }
            (Decision::Settle, _) => format!("{step} is tried again: nothing of it is to be undone yet"),
            (Decision::Discard, Phase::Comp) => {
                "it ends UNDONE for good; nothing more is undone, and whatever is left is dealt with by hand"
                    .into()
            }
            (Decision::Discard, _) => "its steps are undone, and it ends UNDONE for good".into(),
        }
    }

    /// Asks the workers to apply a decision to this hold, by a message into the lane of replays, confirmed, and recorded in
    /// the operator log before and after. Applied once: a second call, or another person's decision that comes later, meets a
    /// hold that is gone and changes nothing. A kill in between leaves an act without an end, and the message published or
    /// not: call it again.
    ///
    /// # Errors
    /// The act was not recorded, and nothing done; or the message was not confirmed, and may be queued.
    pub async fn resolve(
        &self,
        decision: Decision,
        store: &Store,
        publisher: &Publisher,
        who: &Operator,
        why: &str,
    ) -> Result<(), OrdersError> {
        let Self { order_id, account, generation, hold, fingerprint, .. } = self;
        let reason = format!("{why} ({who})");
        let command = Command {
            order_id: order_id.clone(),
            account: account.clone(),
            generation: *generation,
            fp: Some(fingerprint.clone()),
            kind: CommandKind::Resolve { hold: hold.id.clone(), decision, reason },
        };
        let act = Act {
            who: who.clone(),
            what: format!("orders.resolve.{}", word(decision)),
            why: why.to_owned(),
            target: format!("hold {} of order {order_id} of {account}", hold.id),
        };
        ask(store, publisher, &act, Lane::Replay, &command).await
    }

    /// Where the order stands once a decision about this hold was applied; `None` until then.
    ///
    /// # Errors
    /// The database did not answer, or the order is gone.
    pub async fn applied(&self, store: &Store) -> Result<Option<ListedOrder>, OrdersError> {
        let found = store.orders_by_id(std::slice::from_ref(&self.order_id)).await?.orders.pop();
        let order = found.ok_or_else(|| OrdersError::NotStored(self.order_id.clone()))?;
        let still_held = order.hold.as_ref().is_some_and(|hold| hold.id == self.hold.id);
        Ok((!still_held).then_some(order))
    }
}

fn word(decision: Decision) -> &'static str {
    match decision {
        Decision::Release => "release",
        Decision::Settle => "settle",
        Decision::Discard => "discard",
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn held(phase: Phase) -> HeldOrder {
        HeldOrder {
            order_id: "eu1-vqhnbfvs-dw3nwqzm4jeqqutrep4bxjfyvskigkny".parse().unwrap(),
            account: "demo".parse().unwrap(),
            generation: 1,
            phase,
            hold: ListedHold {
                id: "h".into(),
                step: "inventory".parse().unwrap(),
                reason: "in use".into(),
                at: Timestamp::UNIX_EPOCH,
            },
            fingerprint: "0".repeat(66).parse().unwrap(),
        }
    }

    #[test]
    fn what_a_decision_leads_to_is_told_by_which_way_the_order_goes() {
        for (phase, decision, told) in [
            (Phase::Run, Decision::Release, "inventory is tried again"),
            (Phase::Run, Decision::Settle, "nothing of it is to be undone yet"),
            (Phase::Run, Decision::Discard, "its steps are undone"),
            (Phase::Comp, Decision::Release, "the undo of inventory is tried again"),
            (Phase::Comp, Decision::Settle, "inventory counts as undone by hand"),
            (Phase::Comp, Decision::Discard, "nothing more is undone"),
        ] {
            let consequence = held(phase).consequence(decision);
            assert!(consequence.contains(told), "{phase:?} {decision:?}: {consequence}");
        }
    }
}
