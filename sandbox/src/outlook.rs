//! What a do would be answered now, for those who look: by the order as the service last got it, and the rules in
//! force.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;

use crate::call::Refusal;
use crate::faults::{Faults, Foreseen};
use crate::order::DoRequest;
use crate::service::Effects;

const ORDERS_MAX: usize = 200_000;
/// Some 150 MB: an order can have 2,000 lines, and mostly has a few.
const LINES_MAX: usize = 2_000_000;

/// The outlook of a step instance that has no effect yet.
#[derive(Serialize)]
pub(crate) struct Outlook {
    #[serde(flatten)]
    answer: Answer,
    /// The run that the order is known from; without it the answer is that to orders in general.
    #[serde(rename = "gen", skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
}

#[derive(Serialize)]
#[serde(tag = "answer", rename_all = "lowercase")]
enum Answer {
    Done,
    Refused { code: String },
    Error,
}

impl Outlook {
    /// By the order, if the service knows it; none where the answer depends on an order that it does not know.
    pub(crate) fn of<E: Effects>(effects: &E, request: Option<&DoRequest>, faults: &Faults) -> Option<Self> {
        let judged = || request.map_or(Ok(()), |request| effects.judge(request).map(drop));
        let answer = match faults.foresee(E::NAME, request.map(|request| &request.order)) {
            Foreseen::DependsOnOrder => return None,
            Foreseen::Error => Answer::Error,
            Foreseen::Refused(refusal) => Answer::from(refusal),
            Foreseen::Nothing => judged().map_or_else(Answer::from, |()| Answer::Done),
        };
        Some(Self { answer, generation: request.map(|request| request.generation) })
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { code: refusal.code }
    }
}

/// The orders that a service was last asked to do, by order id: the newest 200,000, and fewer where they have many
/// lines. A restart forgets them.
#[derive(Default)]
pub(crate) struct KnownOrders {
    orders: HashMap<String, (u64, Arc<DoRequest>)>,
    /// Order ids by when they came last.
    ages: BTreeMap<u64, String>,
    calls: u64,
    lines: usize,
}

impl KnownOrders {
    /// Puts the order in the place of what was known under its id.
    pub(crate) fn learn(&mut self, order_id: &str, request: Arc<DoRequest>) {
        self.forget(order_id);
        self.calls += 1;
        self.lines += request.order.line_count();
        self.ages.insert(self.calls, order_id.to_owned());
        self.orders.insert(order_id.to_owned(), (self.calls, request));
        while self.orders.len() > ORDERS_MAX || self.lines > LINES_MAX {
            let Some((_, oldest)) = self.ages.pop_first() else { return };
            self.forget(&oldest);
        }
    }

    pub(crate) fn get(&self, order_id: &str) -> Option<&DoRequest> {
        self.orders.get(order_id).map(|(_, request)| &**request)
    }

    fn forget(&mut self, order_id: &str) {
        if let Some((age, request)) = self.orders.remove(order_id) {
            self.ages.remove(&age);
            self.lines -= request.order.line_count();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::call::StepInstance;

    fn request(order_id: &str, lines: usize) -> Arc<DoRequest> {
        let instance = StepInstance::parse(&format!("{order_id}.1.inventory")).unwrap();
        let line = json!({ "sku": "A", "quantity": 1, "unit_price": "1" });
        let body = json!({
            "order_id": order_id, "gen": 1, "step": "inventory", "account": "acme",
            "order": { "currency": "GBP", "lines": vec![line; lines] },
        });
        Arc::new(DoRequest::parse(body.to_string().as_bytes(), &instance).unwrap())
    }

    #[test]
    fn the_orders_that_came_longest_ago_are_forgotten_first() {
        let mut known = KnownOrders::default();
        let large = request("a-0", 2_000);
        for number in 0..1_000 {
            known.learn(&format!("a-{number}"), Arc::clone(&large));
        }
        known.learn("a-0", Arc::clone(&large));
        known.learn("b", request("b", 1));
        assert!(known.get("a-0").is_some() && known.get("b").is_some());
        assert!(known.get("a-1").is_none(), "the oldest made room");
        assert!(known.get("a-2").is_some());
        assert_eq!((known.orders.len(), known.ages.len(), known.lines), (1_000, 1_000, 999 * 2_000 + 1));
    }
}
