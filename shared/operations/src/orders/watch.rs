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
    orders: BTreeMap<OrderId, Known>,
}

/// How an order was when it was last looked at.
#[derive(Debug)]
enum Known {
    Absent,
    Read(Box<ListedOrder>),
    Unreadable,
}

/// What a look at the orders has shown.
#[derive(Debug, Default)]
pub struct Seen {
    /// Those that a person would see a change of.
    pub changed: Vec<ListedOrder>,
    /// Those that this build turned out to be unable to read; they are not looked at again.
    pub unreadable: Vec<OrderId>,
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
    /// Beyond this build, which cannot tell how they stand.
    pub unreadable: usize,
}

impl Watch {
    /// Begins to watch orders, stored or not; an order that is named twice is watched once. Reads nothing yet.
    #[must_use]
    pub fn new(store: Store, ids: impl IntoIterator<Item = OrderId>) -> Self {
        Self { store, orders: ids.into_iter().map(|id| (id, Known::Absent)).collect() }
    }

    /// Looks at the orders that have not ended.
    ///
    /// # Errors
    /// The database did not answer; nothing is forgotten, look again.
    pub async fn look(&mut self) -> Result<Seen, StoreError> {
        let open: Vec<_> =
            self.orders.iter().filter(|(_, known)| known.is_open()).map(|(id, _)| id.clone()).collect();
        let mut seen = Seen::default();
        for batch in open.chunks(WATCHED_MAX) {
            let page = self.store.orders_by_id(batch).await?;
            for order in page.orders {
                let known = self.orders.insert(order.order_id.clone(), Known::Read(order.clone().into()));
                if !matches!(known, Some(Known::Read(known)) if !differs(&known, &order)) {
                    seen.changed.push(order);
                }
            }
            for id in page.unreadable.iter().filter_map(|id| id.parse::<OrderId>().ok()) {
                self.orders.insert(id.clone(), Known::Unreadable);
                seen.unreadable.push(id);
            }
        }
        Ok(seen)
    }

    /// How many are where, as last seen.
    #[must_use]
    pub fn count(&self) -> Watched {
        let mut watched = Watched::default();
        for known in self.orders.values() {
            let count = match known {
                Known::Absent => &mut watched.absent,
                Known::Unreadable => &mut watched.unreadable,
                Known::Read(order) if order.status == OrderStatus::Held => &mut watched.held,
                Known::Read(order) if order.status.is_ended() => &mut watched.ended,
                Known::Read(_) => &mut watched.open,
            };
            *count += 1;
        }
        watched
    }
}

impl Known {
    fn is_open(&self) -> bool {
        match self {
            Self::Absent => true,
            Self::Read(order) => !order.status.is_ended(),
            Self::Unreadable => false,
        }
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
