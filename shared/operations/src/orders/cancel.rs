//! Cancelling an order as its customer could, with what will come of it said before.

use std::fmt;

use jiff::Timestamp;
use orderfleet_domain::{
    AccountId, Command, CommandKind, OrderId, Region,
    saga::{Lane, Phase, Record},
};
use orderfleet_messaging::Publisher;
use orderfleet_storage::Store;
use serde::Serialize;

use crate::{
    Operator,
    log::Act,
    orders::{OrdersError, ask::ask},
};

/// A cancel that was looked into and not yet asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CancelPlan {
    /// The order.
    pub order_id: OrderId,
    /// Whose it is.
    pub account: AccountId,
    /// What will come of it, as things stand.
    pub outlook: Outlook,
}

/// What a cancel leads to, by where the order stands. It may have moved on by the time a worker gets the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outlook {
    /// No worker has stored the order: the cancel waits up to 24 hours for it.
    WaitsForOrder,
    /// It is honoured before the last step, and what was done is undone.
    WillBeUndone,
    /// The last step may have been attempted: it is too late if that succeeds.
    PerhapsTooLate,
    /// It waits for a person; the cancel counts once that is decided.
    AfterHold,
    /// It is being undone; afterwards no further run may follow.
    UndoneForGood,
    /// It is undone already; no further run may follow from now on.
    NoFurtherRun,
    /// It is done.
    TooLate,
    /// It is undone for good already.
    UndoneAlready,
}

impl Outlook {
    fn of(record: &Record) -> Self {
        match (record.phase, &record.hold) {
            (Phase::Done, _) => Self::TooLate,
            (Phase::Undone, _) if record.is_final => Self::UndoneAlready,
            (Phase::Undone, _) => Self::NoFurtherRun,
            (_, Some(_)) => Self::AfterHold,
            (Phase::Comp, None) => Self::UndoneForGood,
            (Phase::Run, None) if record.hi >= record.pivot() => Self::PerhapsTooLate,
            (Phase::Run, None) => Self::WillBeUndone,
        }
    }

    /// Whether the order has ended in a way that a cancel changes nothing about.
    #[must_use]
    pub fn is_pointless(self) -> bool {
        matches!(self, Self::TooLate | Self::UndoneAlready)
    }
}

impl fmt::Display for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WaitsForOrder => "it is not stored yet: the cancel waits up to 24 hours for it",
            Self::WillBeUndone => "what was done of it will be undone, and it ends UNDONE for good",
            Self::PerhapsTooLate => "its last step may have been attempted: too late if that succeeds",
            Self::AfterHold => "it waits for a person: the cancel counts once that is decided",
            Self::UndoneForGood => "it is being undone already, and will end for good",
            Self::NoFurtherRun => "it is undone already: no further run may follow from now on",
            Self::TooLate => "it is DONE: too late to cancel",
            Self::UndoneAlready => "it is UNDONE for good already",
        })
    }
}

impl CancelPlan {
    /// Looks at the order. `account` has to be named only for one that is not stored yet.
    ///
    /// # Errors
    /// The database did not answer, the order is not that account's, or it is not stored and no account was named.
    pub async fn make(
        store: &Store,
        order_id: &OrderId,
        account: Option<&AccountId>,
    ) -> Result<Self, OrdersError> {
        let found = store.order_for_operator(order_id).await?;
        let (owner, outlook) = match (&found, account) {
            (Some(view), _) => (&view.account, Outlook::of(&view.record)),
            (None, Some(account)) => (account, Outlook::WaitsForOrder),
            (None, None) => return Err(OrdersError::NotStored(order_id.clone())),
        };
        let named = account.unwrap_or(owner);
        if named != owner || (found.is_none() && !may_belong_to(order_id, named)) {
            let (order_id, account) = (order_id.clone(), named.clone());
            return Err(OrdersError::NotOfAccount { order_id, account });
        }
        Ok(Self { order_id: order_id.clone(), account: owner.clone(), outlook })
    }

    /// Asks the workers to cancel: the same message as a customer's, published to `orders.retry`, confirmed, and recorded in
    /// the operator log before and after. A second call does no harm: the order has been asked to cancel already. A kill in
    /// between leaves an act without an end, and the message published or not: call it again.
    ///
    /// # Errors
    /// The act was not recorded, and nothing done; or the message was not confirmed, and may be queued.
    pub async fn carry_out(
        &self,
        store: &Store,
        publisher: &Publisher,
        who: &Operator,
        why: &str,
    ) -> Result<(), OrdersError> {
        let Self { order_id, account, .. } = self;
        let command = Command {
            order_id: order_id.clone(),
            account: account.clone(),
            generation: 1,
            fp: None,
            kind: CommandKind::Cancel { requested_at: Timestamp::now() },
        };
        let act = Act {
            who: who.clone(),
            what: "orders.cancel".into(),
            why: why.to_owned(),
            target: format!("order {order_id} of {account}"),
        };
        ask(store, publisher, &act, Lane::Retry, &command).await
    }
}

/// False is a proof; the region is that of the id itself.
fn may_belong_to(order_id: &OrderId, account: &AccountId) -> bool {
    let region: Option<Region> = order_id.as_str().split('-').next().and_then(|region| region.parse().ok());
    region.is_some_and(|region| order_id.may_belong_to(&region, account))
}

#[cfg(test)]
mod tests {
    use orderfleet_domain::saga::{Hold, Nonce, WorkerId};

    use super::*;

    fn record() -> Record {
        let steps = ["inventory", "fulfilment", "accounting"].map(|name| name.parse().unwrap()).to_vec();
        Record::first("0".repeat(66).parse().unwrap(), steps, WorkerId("w".into()), 0, Nonce(1))
    }

    #[test]
    fn what_a_cancel_leads_to_is_told_by_where_the_order_stands() {
        let first = record();
        let hold = Hold { id: "h".into(), step: first.steps[0].clone(), reason: "r".into(), at: 0 };
        let undone = Record { phase: Phase::Undone, ..record() };
        for (record, outlook) in [
            (Record { hi: 1, ..record() }, Outlook::WillBeUndone),
            (Record { hi: 2, ..record() }, Outlook::PerhapsTooLate),
            (Record { hold: Some(hold), ..record() }, Outlook::AfterHold),
            (Record { phase: Phase::Comp, ..record() }, Outlook::UndoneForGood),
            (undone.clone(), Outlook::NoFurtherRun),
            (Record { is_final: true, ..undone }, Outlook::UndoneAlready),
            (Record { phase: Phase::Done, ..first }, Outlook::TooLate),
        ] {
            assert_eq!(Outlook::of(&record), outlook);
            assert_eq!(
                outlook.is_pointless(),
                record.phase.is_terminal() && outlook != Outlook::NoFurtherRun
            );
        }
    }

    #[test]
    fn an_order_is_asked_for_in_the_name_of_its_own_account_alone() {
        let order_id = "eu1-vqhnbfvs-dw3nwqzm4jeqqutrep4bxjfyvskigkny".parse().unwrap();
        assert!(may_belong_to(&order_id, &"demo".parse().unwrap()));
        assert!(!may_belong_to(&order_id, &"other".parse().unwrap()));
    }
}
