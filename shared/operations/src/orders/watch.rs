//! Following orders until their runs have ended.

use std::collections::BTreeMap;

use orderfleet_domain::OrderId;
use orderfleet_storage::{ListedOrder, OrderStatus, Store, StoreError};

/// Most orders that one watch follows.
pub const WATCHED_MAX: usize = 1_000;

/// A number of orders and how they were when they were last looked at.
#[derive(Debug)]
pub struct Watch {
    store: Store,
    orders: BTreeMap<OrderId, Option<ListedOrder>>,
}

/// How many of the watched orders are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Watched {
    /// DONE or UNDONE.
    pub ended: usize,
    /// Waiting for a person: they will not end by themselves.
    pub held: usize,
    /// On their way.
    pub open: usize,
    /// Not stored yet.
    pub absent: usize,
}

impl Watch {
    /// Begins to watch orders, stored or not; an order that is named twice is watched once. Reads nothing yet.
    #[must_use]
    pub fn new(store: Store, ids: impl IntoIterator<Item = OrderId>) -> Self {
        Self { store, orders: ids.into_iter().map(|id| (id, None)).collect() }
    }

    /// Looks at the orders that have not ended, and returns those that a person would see a change of.
    ///
    /// # Errors
    /// The database did not answer; nothing is forgotten, look again.
    pub async fn look(&mut self) -> Result<Vec<ListedOrder>, StoreError> {
        let has_ended =
            |order: &Option<ListedOrder>| order.as_ref().is_some_and(|order| order.status.is_ended());
        let open: Vec<_> =
            self.orders.iter().filter(|(_, order)| !has_ended(order)).map(|(id, _)| id.clone()).collect();
        let mut changed = Vec::new();
        for batch in open.chunks(WATCHED_MAX) {
            for order in self.store.orders_by_id(batch).await? {
                let known = self.orders.insert(order.order_id.clone(), Some(order.clone())).flatten();
                if known.is_none_or(|known| differs(&known, &order)) {
                    changed.push(order);
                }
            }
        }
        Ok(changed)
    }

    /// How many are where, as last seen.
    #[must_use]
    pub fn count(&self) -> Watched {
        let mut watched = Watched::default();
        for order in self.orders.values() {
            let count = match order.as_ref().map(|order| order.status) {
                None => &mut watched.absent,
                Some(OrderStatus::Held) => &mut watched.held,
                Some(status) if status.is_ended() => &mut watched.ended,
                Some(_) => &mut watched.open,
            };
            *count += 1;
        }
        watched
    }
}

fn differs(known: &ListedOrder, now: &ListedOrder) -> bool {
    let place = |order: &ListedOrder| (order.status, order.generation, order.attempts, order.is_final);
    let note = |order: &ListedOrder| (order.cancel_requested, order.conflicts, order.waits > 0);
    place(known) != place(now)
        || note(known) != note(now)
        || known.step != now.step
        || known.hold.as_ref().map(|hold| &hold.id) != now.hold.as_ref().map(|hold| &hold.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orders::waiting::tests::{listed, time};

    #[test]
    fn only_what_a_person_would_see_is_a_change() {
        let known = listed();
        let same = ListedOrder { updated_at: time(9), due_at: Some(time(9)), owes: true, ..listed() };
        assert!(!differs(&known, &same));
        for now in [
            ListedOrder { attempts: 1, ..listed() },
            ListedOrder { status: OrderStatus::Done, ..listed() },
            ListedOrder { step: "accounting".parse().ok(), ..listed() },
            ListedOrder { cancel_requested: true, ..listed() },
        ] {
            assert!(differs(&known, &now), "{now:?}");
        }
    }
}
