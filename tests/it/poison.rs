//! Messages that no worker can work with are parked with a reason, and the queue flows on.

use jiff::Timestamp;
use orderfleet_domain::{Command, CommandKind, Fingerprint, Order, OrderId};
use orderfleet_tests::{Fleet, order, order_of};

const QUEUE: &str = "orders.new.0";
const POISON: &str = "orders.dead.poison";

/// A message body as a producer publishes it.
pub(crate) fn command(key: &str) -> String {
    let order: Order = serde_json::from_value(order()).unwrap();
    let account = "demo".parse().unwrap();
    let command = Command {
        order_id: OrderId::derive(&"eu1".parse().unwrap(), &account, &key.parse().unwrap()),
        account,
        generation: 1,
        fp: Some(Fingerprint::of(&order)),
        kind: CommandKind::Place { order: Box::new(order), accepted_at: Timestamp::UNIX_EPOCH },
    };
    String::from_utf8(command.encode()).unwrap()
}

/// Bytes that look random and are the same in every run.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..length).map(step).collect()
}

#[tokio::test]
async fn poison_is_parked_with_a_reason_and_orders_around_it_are_done() {
    let mut fleet = Fleet::start().await;
    let broker = fleet.broker().await;
    let tampered = command("k").replace(r#""quantity":6"#, r#""quantity":7"#);
    let poison: [&[u8]; 6] = [
        &noise(200),
        b"",
        b"{}",
        br#"{"v":1,"order":"of another shape"}"#,
        &noise(1_000_000),
        tampered.as_bytes(),
    ];

    let mut ids = vec![fleet.client.accept("before", &order()).await];
    for body in poison {
        broker.publish(QUEUE, body).await;
    }
    ids.push(fleet.client.accept("after", &order()).await);
    fleet.client.until_done(&ids).await;
    let parked = u32::try_from(poison.len()).unwrap();
    fleet.settle(&[(POISON, parked)]).await;

    let mut parked = broker.take_all(POISON).await;
    for message in &parked {
        assert!(!message.headers["reason"].is_empty(), "{:?}", message.headers);
    }
    let mut bodies: Vec<_> = parked.drain(..).map(|message| message.body).collect();
    let mut posted: Vec<_> = poison.iter().map(|body| body.to_vec()).collect();
    bodies.sort();
    posted.sort();
    assert!(bodies == posted, "every body is parked as it came");
    fleet.sandbox.assert_done(&ids).await;
    assert_eq!(fleet.stored("DONE").await, 2);
}

#[tokio::test]
async fn a_message_of_a_newer_schema_waits_for_a_newer_build() {
    let mut fleet = Fleet::start().await;
    let broker = fleet.broker().await;
    let newer = command("newer").replace(r#""v":1"#, r#""v":99"#);
    broker.publish(QUEUE, newer.as_bytes()).await;
    let id = fleet.client.accept("k1", &order_of("A", 1, "1")).await;
    fleet.client.until_ended(&id, "DONE").await;
    fleet.settle(&[("orders.wait.2m", 1)]).await;
    assert_eq!(fleet.stored("RUN").await, 0, "it has not become an order");
}

#[tokio::test]
async fn a_message_published_by_hand_is_an_order_like_any_other() {
    let mut fleet = Fleet::start().await;
    let posted = command("by-hand");
    fleet.broker().await.publish(QUEUE, posted.as_bytes()).await;
    let id = fleet.client.accept("by-hand", &order()).await;
    fleet.client.until_ended(&id, "DONE").await;
    fleet.settle(&[]).await;
    fleet.sandbox.assert_done(&[id]).await;
}
