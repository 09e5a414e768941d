//! The sandbox's own evidence: what its three services did, and what they were told to do wrong.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde_json::{Value, json};

/// The services, in the order of the saga's steps.
pub const SERVICES: [&str; 3] = ["inventory", "fulfilment", "accounting"];

/// How often a step of an order took effect and was undone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Effects of a do.
    pub done: u32,
    /// Effects of an undo.
    pub undone: u32,
}

/// What all ledgers say, by service and order.
#[derive(Debug, Default)]
pub struct Effects(BTreeMap<(&'static str, String), Count>);

/// A running sandbox.
#[derive(Debug, Clone)]
pub struct Sandbox {
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
}

impl Sandbox {
    /// Adds a fault rule.
    ///
    /// # Panics
    /// When the sandbox does not take it.
    pub async fn fault(&self, rule: Value) {
        let answer = self.http.post(format!("{}/faults", self.url)).json(&rule).send().await.unwrap();
        assert!(answer.status().is_success(), "{rule}: {}", answer.text().await.unwrap());
    }

    /// Takes all fault rules back.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn heal(&self) {
        self.http.delete(format!("{}/faults", self.url)).send().await.unwrap();
    }

    /// Whether every fault rule in force has fired as often as it may, or at least once where there is no limit.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn faults_have_fired(&self) -> bool {
        let rules = self.get("/faults").await;
        let fired = |rule: &Value| rule["fired"].as_u64() >= Some(rule["times"].as_u64().unwrap_or(1));
        rules.as_array().unwrap().iter().all(fired)
    }

    /// Reads JSON back.
    ///
    /// # Panics
    /// When there is no answer, or it is no JSON.
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        answer.json().await.unwrap()
    }

    /// Reads a service's ledger, line by line.
    ///
    /// # Panics
    /// When there is no answer, or a line is no JSON.
    pub async fn ledger(&self, service: &str) -> Vec<Value> {
        let answer = self.http.get(format!("{}/{service}/ledger", self.url)).send().await.unwrap();
        answer.text().await.unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Sends a do again that a service has had before, under the newest fence it knows: a request that was long on its way.
    /// Returns the answer's status.
    ///
    /// # Panics
    /// When the service has had none for this order, or there is no answer.
    pub async fn late_do(&self, service: &str, order_id: &str, account: &str, order: &Value) -> u16 {
        let mut calls = self.ledger(service).await;
        calls.retain(|call| call["order_id"] == order_id);
        let first = calls.iter().find(|call| call["verb"] == "do").unwrap();
        let (instance, key) = (first["instance"].as_str().unwrap(), first["key"].as_str().unwrap());
        let fence = calls.iter().filter_map(|call| call["fence"].as_u64()).max().unwrap();
        let body = json!({
            "order_id": order_id, "gen": first["gen"], "step": service, "account": account, "order": order
        });
        let request = self.http.put(format!("{}/{service}/steps/{instance}", self.url));
        let request = request.header("Idempotency-Key", key).header("Orderfleet-Fence", fence);
        request.json(&body).send().await.unwrap().status().as_u16()
    }

    /// Reads all ledgers.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn effects(&self) -> Effects {
        let mut effects = Effects::default();
        for service in SERVICES {
            for line in self.ledger(service).await {
                effects.count(service, &line);
            }
        }
        effects
    }

    /// Checks that each of these orders has one effect at every service, no other order has a net effect anywhere, and
    /// none was done or undone twice.
    ///
    /// # Panics
    /// When that is not so.
    pub async fn assert_done(&self, ids: &[String]) {
        let effects = self.effects().await;
        for id in ids {
            for service in SERVICES {
                let count = effects.of(service, id);
                assert_eq!(count, Count { done: 1, undone: 0 }, "order {id} at {service}");
            }
        }
        let wrong = effects
            .0
            .iter()
            .find(|((_, id), count)| !ids.contains(id) && (count.done != count.undone || count.done > 1));
        assert_eq!(wrong, None, "an order that is not done has an effect");
    }

    /// What the shop's accounts owe in GBP. Debits and credits must be equal on the way.
    ///
    /// # Panics
    /// When the books do not balance.
    pub async fn receivable(&self) -> Decimal {
        let totals = &self.get("/accounting/accounts").await["totals"];
        assert_eq!(totals["GBP"]["debits"], totals["GBP"]["credits"], "the books balance");
        let summary = self.get("/accounting/summary").await;
        summary["receivable"]["GBP"].as_str().map_or(Decimal::ZERO, |sum| sum.parse().unwrap())
    }
}

impl Effects {
    /// What became of an order at a service.
    #[must_use]
    pub fn of(&self, service: &'static str, id: &str) -> Count {
        self.0.get(&(service, id.to_owned())).copied().unwrap_or_default()
    }

    /// How many orders a service has a net effect of.
    #[must_use]
    pub fn net(&self, service: &str) -> usize {
        self.0.iter().filter(|((at, _), count)| *at == service && count.done > count.undone).count()
    }

    fn count(&mut self, service: &'static str, line: &Value) {
        let id = line["order_id"].as_str().unwrap().to_owned();
        let count = self.0.entry((service, id)).or_default();
        match (line["outcome"].as_str(), line["verb"].as_str()) {
            (Some("effect"), Some("do")) => count.done += 1,
            (Some("effect"), Some("undo")) => count.undone += 1,
            _ => {}
        }
    }
}
