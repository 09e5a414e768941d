//! The role `park`: dead letters end in the database, none lost and none twice, and what crashed workers is held.

use std::collections::BTreeMap;

use jiff::Timestamp;
use mongodb::bson::{Document, doc};
use orderfleet_domain::{Command, CommandKind, Decision};
use orderfleet_tests::{Count, Fleet, Plan, order, order_of, until, until_equal};
use serde_json::{Value, json};

use crate::poison::{command, noise};

const POISON: &str = "orders.dead.poison";
const HELD: &str = "orders.dead.held";
/// 128 + SIGKILL.
const KILLED: i32 = 137;

fn plan() -> Plan {
    Plan { roles: Plan::ALL_ROLES, steps: "attempts_max = 1\nquick_retries = 0", ..Plan::default() }
}

fn text<'a>(letter: &'a Document, field: &str) -> &'a str {
    letter.get_str(field).unwrap()
}

/// Waits until the message that an order waited with has found the hold and is parked, too.
async fn until_parked_again(fleet: &Fleet, id: &str) {
    until_equal("queues of the order's dead letters", vec![HELD.to_owned(), POISON.to_owned()], async || {
        let letters = fleet.dead_letters().await.into_values();
        let own = letters.filter(|letter| letter.get_str("order_id").is_ok_and(|of| of == id));
        let mut queues: Vec<_> = own.map(|letter| text(&letter, "queue").to_owned()).collect();
        queues.sort();
        queues
    })
    .await;
}

/// What a person reads off the order's document to decide about its hold.
async fn hold_of(fleet: &Fleet, id: &str) -> String {
    let orders = fleet.mongodb().await.collection::<Document>("orders");
    let order = orders.find_one(doc! { "_id": id }).await.unwrap().unwrap();
    order.get_document("hold").unwrap().get_str("id").unwrap().to_owned()
}

/// Sends a person's decision to try again.
async fn release(fleet: &Fleet, id: &str, key: &str) {
    let kind = CommandKind::Resolve {
        hold: hold_of(fleet, id).await,
        decision: Decision::Release,
        reason: "a new build".into(),
    };
    let release = Command { fp: None, kind, ..Command::decode(command(key).as_bytes()).unwrap() };
    fleet.broker().await.publish("orders.replay", &release.encode()).await;
}

#[tokio::test]
async fn every_kind_of_dead_letter_ends_in_the_database() {
    let mut fleet = Fleet::start_as(Plan { producers: 2, ..plan() }).await;
    let garbage = noise(200);
    fleet.broker().await.publish("orders.new.0", &garbage).await;

    let done = fleet.client.accept("done", &order()).await;
    fleet.client.until_ended(&done, "DONE").await;
    let other = fleet.client.try_post(1, "done", &order_of("OTHER", 1, "1")).await.unwrap();
    assert_eq!(other.status, 202, "{}", other.text);

    fleet.sandbox.fault(json!({ "service": "accounting", "error_rate": 1.0 })).await;
    let failed = fleet.client.accept("failed", &order()).await;
    fleet.client.until_ended(&failed, "UNDONE").await;
    fleet.sandbox.heal().await;
    fleet.sandbox.fault(json!({ "service": "fulfilment", "refuse": true })).await;
    fleet.sandbox.fault(json!({ "service": "inventory", "refuse": true, "verb": "undo" })).await;
    let held = fleet.client.accept("held", &order()).await;
    fleet.client.until_ended(&held, "HELD").await;

    until_equal("dead letters", 4, async || fleet.dead_letters().await.len()).await;
    fleet.settle(&[]).await;
    let letters = fleet.dead_letters().await;
    let by_queue: BTreeMap<_, _> = letters.values().map(|letter| (text(letter, "queue"), letter)).collect();
    let queues = ["orders.dead.accounting", "orders.dead.conflict", "orders.dead.held", POISON];
    assert_eq!(by_queue.keys().copied().collect::<Vec<_>>(), queues);
    for letter in letters.values() {
        assert!(!text(letter, "reason").is_empty(), "{letter}");
        assert_eq!(letter.get_i64("seen").unwrap(), 1, "{letter}");
    }
    assert_eq!(by_queue[POISON].get_binary_generic("body").unwrap(), &garbage);
    assert!(!by_queue[POISON].contains_key("order_id"));
    for (queue, id) in queues.into_iter().zip([&failed, &done, &held]) {
        let letter = by_queue[queue];
        assert!(text(letter, "_id").starts_with(&format!("{id}.")), "{letter}");
        assert_eq!((text(letter, "order_id"), text(letter, "account")), (id.as_str(), "demo"));
        let body = letter.get_binary_generic("body").unwrap();
        let command = Command::decode(body).unwrap();
        assert_eq!((command.order_id.as_str(), command.kind.as_str()), (id.as_str(), text(letter, "kind")));
    }
}

#[tokio::test]
async fn a_worker_that_is_killed_while_it_parks_loses_none_and_doubles_none() {
    const LETTERS: usize = 500;
    let mut fleet = Fleet::start_as(Plan { workers: 0, ..plan() }).await;
    let broker = fleet.broker().await;
    let bodies: Vec<_> = (0..LETTERS).map(|number| format!("no command {number}").into_bytes()).collect();
    for body in &bodies {
        broker.publish(POISON, body).await;
    }
    let mut crashing = fleet.start_crashing_worker("crashing", "park.store.after", 100);
    assert_eq!(crashing.ended("is killed").await, Some(KILLED), "{}", crashing.log());
    let parked = fleet.dead_letters().await.len();
    assert!((1..LETTERS).contains(&parked), "{parked}");

    fleet.start_worker().await;
    until_equal("dead letters", LETTERS, async || fleet.dead_letters().await.len()).await;
    fleet.until_drained(&[]).await;
    fleet.stop_workers().await;
    assert_eq!(broker.depths().await, BTreeMap::new());
    let letters = fleet.dead_letters().await;
    let mut stored: Vec<_> =
        letters.values().map(|letter| letter.get_binary_generic("body").unwrap().clone()).collect();
    let mut posted = bodies;
    stored.sort();
    posted.sort();
    assert!(stored == posted, "each body is stored once");
}

#[tokio::test]
async fn an_order_whose_message_crashed_workers_is_held_until_a_person_releases_it() {
    let mut fleet = Fleet::start_as(Plan { steps: "quick_retries = 0", ..plan() }).await;
    fleet.sandbox.fault(json!({ "service": "fulfilment", "error_rate": 1.0 })).await;
    let id = fleet.client.accept("k1", &order()).await;
    let failed_once = |order: &Value| order["steps"][1]["attempts"].as_u64() >= Some(1);
    fleet.client.until_order(&id, "waits", failed_once).await;

    let broker = fleet.broker().await;
    broker.publish(POISON, command("k1").as_bytes()).await;
    let held = fleet.client.until_ended(&id, "HELD").await;
    assert_eq!(held["hold"]["step"], "fulfilment", "{held:#}");
    assert!(held["hold"]["reason"].as_str().unwrap().contains("crashed workers"), "{held:#}");

    // The message it waited with comes by, finds the hold, and is parked.
    fleet.sandbox.heal().await;
    until_parked_again(&fleet, &id).await;
    fleet.until_drained(&[]).await;
    let letters = fleet.dead_letters().await;
    assert!(letters.contains_key(&format!("{id}.{}", hold_of(&fleet, &id).await)), "{letters:#?}");
    assert_eq!(fleet.client.order(&id).await.json()["status"], "HELD");
    assert_eq!(fleet.sandbox.effects().await.of("accounting", &id), Count::default());

    release(&fleet, &id, "k1").await;
    fleet.client.until_order(&id, "is DONE", |order| order["status"] == "DONE").await;
    fleet.settle(&[]).await;
    fleet.sandbox.assert_done(&[id]).await;
}

#[tokio::test]
async fn an_order_in_the_hands_of_a_worker_is_held_afterwards_and_others_are_parked_meanwhile() {
    let plan = Plan { steps: "timeout_ms = 4_000\nquick_retries = 0", ..plan() };
    let mut fleet = Fleet::start_as(plan).await;
    fleet.sandbox.fault(json!({ "service": "inventory", "hang": true })).await;
    let id = fleet.client.accept("k1", &order()).await;
    fleet.client.until_order(&id, "is stored", |order| order["status"] == "RUN").await;

    let broker = fleet.broker().await;
    broker.publish(POISON, command("k1").as_bytes()).await;
    broker.publish(POISON, b"garbage").await;
    until_equal("dead letters", 2, async || fleet.dead_letters().await.len()).await;
    until_equal("ready messages", 0, async || broker.depth(POISON).await).await;
    assert_eq!(fleet.client.order(&id).await.json()["status"], "RUN");
    fleet.client.until_ended(&id, "HELD").await;
    until_parked_again(&fleet, &id).await;
    fleet.sandbox.heal().await;
    fleet.settle(&[]).await;
    assert_eq!(fleet.client.order(&id).await.json()["status"], "HELD");
}

#[tokio::test]
async fn an_order_that_crashed_workers_before_it_was_stored_is_stored_held_and_done_once_released() {
    let mut fleet = Fleet::start_as(plan()).await;
    let posted = command("lost");
    let id = Command::decode(posted.as_bytes()).unwrap().order_id.to_string();
    let broker = fleet.broker().await;
    broker.publish(POISON, posted.as_bytes()).await;

    let held = fleet.client.until_order(&id, "is stored", |order| order["lines"] == 1).await;
    assert_eq!((&held["status"], &held["hold"]["step"]), (&json!("HELD"), &json!("inventory")), "{held:#}");
    assert_eq!(fleet.stranger.order(&id).await.status, 404);
    // Another copy, in the hands of a worker that knows nothing of it, does not begin the order.
    broker.publish("orders.new.0", posted.as_bytes()).await;
    until_parked_again(&fleet, &id).await;
    assert_eq!(fleet.sandbox.effects().await.of("inventory", &id), Count::default());

    release(&fleet, &id, "lost").await;
    fleet.client.until_order(&id, "is DONE", |order| order["status"] == "DONE").await;
    fleet.settle(&[]).await;
    fleet.sandbox.assert_done(&[id]).await;
}

#[tokio::test]
async fn an_accepted_order_that_no_worker_can_read_is_shown_as_held() {
    let mut fleet = Fleet::start_as(plan()).await;
    let tampered = command("tampered").replace(r#""quantity":6"#, r#""quantity":7"#);
    let id = Command::decode(command("tampered").as_bytes()).unwrap().order_id;
    fleet.broker().await.publish("orders.new.0", tampered.as_bytes()).await;

    let held = fleet.client.until_ended(id.as_str(), "HELD").await;
    assert!(!held["hold"]["reason"].as_str().unwrap().is_empty(), "{held:#}");
    assert_eq!(held["order_id"], id.as_str());
    assert_eq!(fleet.stranger.order(id.as_str()).await.status, 404);
    fleet.settle(&[]).await;
    assert_eq!(fleet.stored("RUN").await, 0);
}

#[tokio::test]
async fn an_order_that_has_ended_has_its_event_published_again_for_a_message_that_crashed_workers() {
    let mut fleet = Fleet::start_as(plan()).await;
    let broker = fleet.broker().await;
    let events = broker.tap("orders.events", "#").await;
    let id = fleet.client.accept("k1", &order()).await;
    fleet.client.until_ended(&id, "DONE").await;
    let first = events.take(1).await.remove(0);

    let kind = CommandKind::Cancel { requested_at: Timestamp::UNIX_EPOCH };
    let cancel = Command { fp: None, kind, ..Command::decode(command("k1").as_bytes()).unwrap() };
    broker.publish(POISON, &cancel.encode()).await;
    let again = events.take(1).await.remove(0);
    assert_eq!((&again.routing_key, &again.body), (&first.routing_key, &first.body));
    fleet.settle(&[]).await;
    assert_eq!(fleet.client.order(&id).await.json()["status"], "DONE");
}

/// The database takes what is not read yet, and nothing that is.
async fn refuse_what_is_read(fleet: &Fleet, level: &str) {
    let schema = doc! { "title": "a test, version 99", "not": { "required": ["order_id"] } };
    let change = doc! {
        "collMod": "dead_letters",
        "validator": { "$jsonSchema": schema },
        "validationLevel": level,
    };
    fleet.mongodb().await.run_command(change).await.unwrap();
}

#[tokio::test]
async fn a_dead_letter_is_read_however_many_workers_shut_down_in_order_while_they_had_it() {
    let mut fleet = Fleet::start_as(plan()).await;
    refuse_what_is_read(&fleet, "strict").await;
    let broker = fleet.broker().await;
    broker.publish(POISON, command("k1").as_bytes()).await;
    for worker in 0..6 {
        until("the worker has the dead letter", async || {
            let tries = fleet.metric(worker, "orderfleet_parking_failed_total", "").await;
            if tries > 0.0 { Ok(()) } else { Err(tries) }
        })
        .await;
        fleet.stop_workers().await;
        broker.until_depth(POISON, 1).await;
        assert_eq!(fleet.dead_letters().await.len(), 0, "worker {worker}");
        let readings = fleet.mongodb().await.collection::<Document>("dead_letter_readings");
        assert_eq!(readings.count_documents(doc! {}).await.unwrap(), 0, "worker {worker}");
        fleet.start_worker().await;
    }
    refuse_what_is_read(&fleet, "off").await;
    let id = Command::decode(command("k1").as_bytes()).unwrap().order_id;
    fleet.client.until_ended(id.as_str(), "HELD").await;
    fleet.settle(&[]).await;
    let letters: Vec<_> = fleet.dead_letters().await.into_keys().collect();
    assert!(letters.len() == 1 && !letters[0].contains("unread"), "{letters:?}");
}

#[tokio::test]
async fn a_dead_letter_of_a_newer_build_waits_for_one() {
    let mut fleet = Fleet::start_as(plan()).await;
    let broker = fleet.broker().await;
    let newer = command("newer").replace(r#""v":1"#, r#""v":99"#);
    broker.publish(POISON, newer.as_bytes()).await;
    fleet.settle(&[("orders.wait.2m", 1)]).await;
    assert_eq!(fleet.dead_letters().await.len(), 0);
    assert_eq!(fleet.stored("RUN").await, 0, "it has not become an order");
    let waiting = broker.take_all("orders.wait.2m").await;
    assert_eq!(
        (waiting[0].routing_key.as_str(), waiting[0].body.as_slice()),
        ("dead.poison", newer.as_bytes())
    );
}

#[tokio::test]
async fn neither_a_message_nor_a_dead_letter_of_an_order_whose_document_is_newer_touches_it() {
    let mut fleet = Fleet::start_as(plan()).await;
    let id = fleet.client.accept("k1", &order()).await;
    fleet.client.until_ended(&id, "DONE").await;
    let orders = fleet.mongodb().await.collection::<Document>("orders");
    let newer = doc! { "$set": { "sv": 9_i64, "phase": "RUN" } };
    orders.update_one(doc! { "_id": &id }, newer).await.unwrap();
    let before = orders.find_one(doc! { "_id": &id }).await.unwrap();

    let calls = fleet.sandbox.effects().await;
    let broker = fleet.broker().await;
    for queue in ["orders.retry", POISON] {
        broker.publish(queue, command("k1").as_bytes()).await;
    }
    assert_eq!(fleet.client.cancel(&id).await.status, 202);
    broker.until_depth("orders.wait.2m", 3).await;
    fleet.settle(&[("orders.wait.2m", 3)]).await;
    assert_eq!(orders.find_one(doc! { "_id": &id }).await.unwrap(), before);
    assert_eq!(fleet.sandbox.effects().await.of("inventory", &id), calls.of("inventory", &id));
}
