//! What is done to the fleet so that its alerts fire, and how it is taken back.

use mongodb::bson::{Document, doc};
use orderfleet_domain::{Command, CommandKind, Fingerprint, Order, OrderId};
use orderfleet_native::Signal;
use orderfleet_tests::{Member, order, until};
use serde_json::{Value, json};

use crate::{rig::Rig, stand_in::StandIn};

const NEW: &str = "orders.new.0";
/// Every so many waits in a row an order raises an alarm.
const WAITS_ALARM: i32 = 20;
const LETTERS: usize = 15;
/// Of ten orders a second, each of which takes accounting 700 ms.
const UNDER_WAY: u64 = 4;
/// What a worker of another build tells that has panicked once.
const OTHER_BUILD: &str = "\
orderfleet_build_info{service=\"worker\",version=\"0.0.1\"} 1
orderfleet_panics_total{lane=\"retry\"} 1
";

/// What has to be ended or taken back for the small faults.
pub(crate) struct Small {
    producer: Member,
    held: OrderId,
    /// What the database's rules for orders were.
    rules: Document,
    _other_build: StandIn,
}

impl Rig {
    /// A service that is gone, one that fails at every undo, dead letters, a hold, a hold and a dead letter that the database
    /// refuses, a message of a newer build, an acceptance log on a full disk, and a worker of another build.
    pub(crate) async fn plant_small_faults(&mut self) -> Small {
        self.end_fulfilment().await;
        self.fleet.sandbox.fault(json!({ "service": "inventory", "verb": "undo", "error_rate": 1.0 })).await;
        let held = self.have_an_order_held().await;
        let rules = self.refuse_an_order_to_hold().await;
        self.refuse_dead_letters_of_orders("strict").await;
        let broker = self.fleet.broker().await;
        broker.publish("orders.dead.inventory", &encoded("refused", 1)).await;
        for number in 0..LETTERS {
            broker.publish(NEW, format!("no order {number}").as_bytes()).await;
        }
        broker.publish(NEW, &encoded("newer", 99)).await;
        let producer = self.accept_on_a_full_disk().await;
        let other_build = StandIn::start(OTHER_BUILD).await;
        self.further.push(("worker", other_build.address.clone()));
        self.scrape();
        self.have_an_order_waited_for_long().await;
        Small { producer, held, rules, _other_build: other_build }
    }

    pub(crate) async fn take_small_faults_back(&mut self, mut small: Small) {
        self.start_fulfilment().await;
        self.heal().await;
        self.refuse_dead_letters_of_orders("off").await;
        self.set_rules_for_orders(small.rules).await;
        self.further.clear();
        self.scrape();
        assert_eq!(small.producer.terminate().await, Some(0));
        let discard = ["orders", "resolve", small.held.as_str(), "--decision", "discard", "--yes"];
        self.cli(&[&discard[..], &["--reason", "the drill is over", "--wait"]].concat()).await;
        // What waits for a newer build would be met again every two minutes.
        self.fleet.broker().await.take_all("orders.wait.2m").await;
    }

    async fn end_fulfilment(&mut self) {
        let sandbox = self.fleet.others.iter_mut().rfind(|member| member.name() == "sandbox-2");
        sandbox.unwrap().kill().await;
    }

    /// The message of an order, as it comes to where messages go that crashed workers.
    async fn have_an_order_held(&self) -> OrderId {
        self.fleet.broker().await.publish("orders.dead.poison", &encoded("held", 1)).await;
        let id = command("held").order_id;
        self.fleet.client.until_ended(id.as_str(), "HELD").await;
        id
    }

    /// As before, but the database does not take this order, so that there is nothing to hold. Returns its rules so far.
    async fn refuse_an_order_to_hold(&self) -> Document {
        let find = doc! { "listCollections": 1, "filter": { "name": "orders" } };
        let found = self.fleet.mongodb().await.run_command(find).await.unwrap();
        let orders = found.get_document("cursor").unwrap().get_array("firstBatch").unwrap()[0].as_document();
        let options = orders.unwrap().get_document("options").unwrap();
        let rules = options.get_document("validator").unwrap().clone();
        let but_one = doc! { "_id": { "$ne": command("unheld").order_id.as_str() } };
        self.set_rules_for_orders(doc! { "$and": [rules.clone(), but_one] }).await;
        self.fleet.broker().await.publish("orders.dead.poison", &encoded("unheld", 1)).await;
        let refused = async || self.of_both_workers("orderfleet_holds_refused_total", "").await;
        until("the hold is refused", async || if refused().await > 0.0 { Ok(()) } else { Err("it is not") })
            .await;
        rules
    }

    async fn set_rules_for_orders(&self, rules: Document) {
        let change = doc! { "collMod": "orders", "validator": rules };
        self.fleet.mongodb().await.run_command(change).await.unwrap();
    }

    /// The database takes no dead letter that names its order.
    async fn refuse_dead_letters_of_orders(&self, level: &str) {
        let schema = doc! { "title": "a drill, version 99", "not": { "required": ["order_id"] } };
        let change = doc! {
            "collMod": "dead_letters",
            "validator": { "$jsonSchema": schema },
            "validationLevel": level,
        };
        self.fleet.mongodb().await.run_command(change).await.unwrap();
    }

    async fn accept_on_a_full_disk(&mut self) -> Member {
        let full = ["producer.acceptance_log=/dev/full"];
        let (producer, client, address) = self.fleet.start_producer_with("producer-full", &full, &[]).await;
        self.further.push(("producer", address));
        for number in 0..3 {
            client.accept(&format!("full-{number}"), &order()).await;
        }
        producer
    }

    /// Some ten minutes of waiting for fulfilment are put into the document of an order that waits for it.
    async fn have_an_order_waited_for_long(&self) {
        let orders = self.fleet.mongodb().await.collection::<Document>("orders");
        let waiting = doc! { "phase": "RUN", "cur": 1, "waits": { "$gte": 1 } };
        let long = doc! { "$set": { "waits": WAITS_ALARM - 1 } };
        until("an order waits for fulfilment", async || {
            let changed = orders.update_many(waiting.clone(), long.clone()).await.unwrap().modified_count;
            if changed > 0 { Ok(()) } else { Err("none does") }
        })
        .await;
    }

    /// The alarm comes while workers wait for accounting: what they publish afterwards is owed. Nothing new is accepted then, so
    /// that of a fleet which happens to be idle at that moment no order would owe anything.
    pub(crate) async fn alarm_over_orders_under_way(&self) {
        self.fleet.sandbox.fault(json!({ "service": "accounting", "latency_ms": 700 })).await;
        until("orders wait for accounting", async || {
            let in_hand = self.fleet.in_hand(0).await + self.fleet.in_hand(1).await;
            if in_hand >= UNDER_WAY { Ok(()) } else { Err(in_hand) }
        })
        .await;
        self.broker.set_memory_alarm(true).await.unwrap();
    }

    pub(crate) async fn take_alarm_back(&self) {
        self.broker.set_memory_alarm(false).await.unwrap();
        self.heal().await;
    }

    pub(crate) fn freeze_broker(&mut self, frozen: bool) {
        self.broker.signal(if frozen { Signal::Stop } else { Signal::Continue });
    }

    /// A database that hangs, and a queue that has lost its binding.
    pub(crate) async fn freeze_database_and_unbind(&mut self) {
        self.fleet.broker().await.unbind(NEW, "orders", "new.0").await;
        self.database.signal(Signal::Stop);
    }

    pub(crate) async fn thaw_database_and_bind(&mut self) {
        self.database.signal(Signal::Continue);
        self.fleet.broker().await.bind(NEW, "orders", "new.0").await;
    }

    /// Closes every connection to the broker, time and again.
    pub(crate) async fn close_connections(&self, times: usize) {
        for _ in 0..times {
            self.broker.close_all_connections("a drill").await.unwrap();
            until("both workers consume again", async || {
                let consuming = self.of_both_workers("orderfleet_consuming", "\"consumer\"").await;
                if consuming > 1.5 { Ok(()) } else { Err(consuming) }
            })
            .await;
        }
    }

    async fn of_both_workers(&self, metric: &str, label: &str) -> f64 {
        self.fleet.metric(0, metric, label).await + self.fleet.metric(1, metric, label).await
    }

    /// Stops the workers, and leaves a message in quarantine and one among the dead letters.
    pub(crate) async fn stop_workers(&mut self) {
        self.fleet.stop_workers().await;
        let broker = self.fleet.broker().await;
        broker.publish("orders.quarantine", &encoded("suspect", 1)).await;
        broker.publish("orders.dead.poison", b"left").await;
    }

    pub(crate) async fn start_workers(&mut self) {
        for _ in 0..2 {
            self.fleet.start_worker().await;
        }
        self.scrape();
    }
}

/// The command that a producer would publish for an order.
fn command(key: &str) -> Command {
    let order: Order = serde_json::from_value(order()).unwrap();
    let account = "demo".parse().unwrap();
    Command {
        order_id: OrderId::derive(&"eu1".parse().unwrap(), &account, &key.parse().unwrap()),
        account,
        generation: 1,
        fp: Some(Fingerprint::of(&order)),
        kind: CommandKind::Place { order: Box::new(order), accepted_at: jiff::Timestamp::now() },
    }
}

/// The same as bytes, of this version of messages.
fn encoded(key: &str, version: u32) -> Vec<u8> {
    let mut body: Value = serde_json::from_slice(&command(key).encode()).unwrap();
    body["v"] = version.into();
    body.to_string().into_bytes()
}
