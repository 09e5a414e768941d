//! What begins an order's way: orders posted, and messages published in the place of others.

use jiff::Timestamp;
use mongodb::{
    Collection,
    bson::{Document, doc},
};
use orderfleet_domain::{Command, CommandKind, Fingerprint, Order};
use orderfleet_tests::{
    chaos::{Attempt, Identity},
    order_of,
};
use serde_json::{Value, json};

use super::{life::Life, run::Run};

const POISON: &str = "orders.dead.poison";

impl Run {
    /// Begins the way once more; returns the order's id.
    pub(super) async fn feed(&mut self) -> String {
        match self.life {
            Life::Finishing => {
                let (key, body) = self.newest();
                self.accept(&key, &body).await.order_id
            }
            Life::Conflicting => self.post_another_body().await,
            Life::Sweeping => self.owe().await,
            Life::Replaying => self.run_again().await,
            Life::Parking => self.dead_letter().await,
            Life::Deferring => {
                // Twice, as a request of the worker that was killed before may still come and use one up.
                self.fleet.sandbox.heal().await;
                let errors = json!({ "service": "fulfilment", "error_rate": 1.0, "times": 2 });
                self.fleet.sandbox.fault(errors).await;
                self.post().await
            }
            _ => self.post().await,
        }
    }

    /// Posts one more order; returns its id.
    pub(super) async fn post(&mut self) -> String {
        let (key, body) = self.next_order();
        self.accept(&key, &body).await.order_id
    }

    pub(super) fn next_order(&mut self) -> (String, Value) {
        self.posted += 1;
        self.newest()
    }

    /// Key and body of the order posted last.
    pub(super) fn newest(&self) -> (String, Value) {
        (format!("k{:06}", self.posted), order_of("A", 1 + self.posted % 7, "1.05"))
    }

    pub(super) async fn accept(&mut self, key: &str, body: &Value) -> Identity {
        let (identity, mut attempt) = Attempt::expect("demo", "eu1", key, body).unwrap();
        assert_eq!(self.fleet.client.accept(key, body).await, identity.order_id);
        attempt.accepted = true;
        self.clients.attempts.insert(identity.clone(), attempt);
        identity
    }

    /// As from a producer that has not seen the first body.
    async fn post_another_body(&mut self) -> String {
        let (key, _) = self.newest();
        let body = order_of("OTHER", self.started + 1, "1.05");
        let (identity, mut attempt) = Attempt::expect("demo", "eu1", &key, &body).unwrap();
        attempt.accepted = true;
        self.clients.attempts.insert(identity.clone(), attempt);
        self.broker.publish("orders.new.0", &place(&identity.order_id, &body)).await;
        identity.order_id
    }

    /// As after an event that was not confirmed.
    async fn owe(&mut self) -> String {
        let order_id = self.ready[0].clone();
        let owes = doc! { "$set": { "evp": true, "sweeps": 0_i64, "sweep_due": null } };
        let updated = self.orders().await.update_one(doc! { "_id": &order_id }, owes).await.unwrap();
        assert_eq!(updated.matched_count, 1);
        order_id
    }

    /// As an operator does.
    async fn run_again(&mut self) -> String {
        let order_id = self.ready.pop().unwrap();
        self.asked.runs.insert(order_id.clone(), 2);
        self.asked.runs_confirmed.insert(order_id.clone(), 2);
        self.broker
            .publish("orders.replay", &message(&order_id, 2, None, CommandKind::Run { order: None }))
            .await;
        order_id
    }

    /// As from the broker, when an order that nobody has stored has crashed too many workers.
    async fn dead_letter(&mut self) -> String {
        let (key, body) = self.next_order();
        let (Identity { order_id, .. }, _) = Attempt::expect("demo", "eu1", &key, &body).unwrap();
        self.broker.publish(POISON, &place(&order_id, &body)).await;
        self.parked.push(order_id.clone());
        order_id
    }

    pub(super) async fn orders(&self) -> Collection<Document> {
        self.fleet.mongodb().await.collection("orders")
    }
}

fn place(order_id: &str, body: &Value) -> Vec<u8> {
    let order: Order = serde_json::from_value(body.clone()).unwrap();
    let fp = Some(Fingerprint::of(&order));
    message(
        order_id,
        1,
        fp,
        CommandKind::Place { order: Box::new(order), accepted_at: Timestamp::UNIX_EPOCH },
    )
}

pub(super) fn message(
    order_id: &str,
    generation: u32,
    fp: Option<Fingerprint>,
    kind: CommandKind,
) -> Vec<u8> {
    let (order_id, account) = (order_id.parse().unwrap(), "demo".parse().unwrap());
    Command { order_id, account, generation, fp, kind }.encode()
}
