//! Looking at a broker names everything that differs and changes nothing; changing it loses no message.

use futures_util::StreamExt as _;
use lapin::{
    Channel,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use orderfleet_domain::saga::{Lane, Tier};
use orderfleet_messaging::{
    Binding, BrokerSettings, Counts, Found, InspectionError, Inspector, Item, Topology,
};
use orderfleet_native::RabbitMq;

use crate::support::{Fleet, OwnBroker, eventually, inventory, to_lane};

async fn inspector(fleet: &Fleet) -> Inspector {
    Inspector::connect(&fleet.settings, fleet.topology(), "test").await.unwrap()
}

/// As declared, but for another limit of the fresh orders' queue.
fn other_topology(fleet: &Fleet) -> Topology {
    let BrokerSettings { prefix, partitions, new_bytes_max, .. } = &fleet.settings;
    Topology::new(prefix, *partitions, new_bytes_max / 2, &[inventory()])
}

/// Declares a queue past the code that is tested: as it should be, but for one argument.
async fn declare_other(fleet: &Fleet, queue: &str, argument: &str, value: AMQPValue) {
    let channel = fleet.channel().await;
    let mut arguments = FieldTable::default();
    for (name, text) in fleet.topology().queue_arguments(queue).unwrap() {
        let value =
            text.parse().map_or_else(|_| AMQPValue::LongString(text.as_str().into()), AMQPValue::LongLongInt);
        arguments.insert(name.as_str().into(), value);
    }
    arguments.insert(argument.into(), value);
    channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
}

async fn declare_classic(fleet: &Fleet, queue: &str) {
    let channel = fleet.channel().await;
    let options = QueueDeclareOptions::durable();
    channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
}

fn found(looked: &[orderfleet_messaging::Looked], queue: &str) -> Found {
    looked.iter().find(|looked| looked.item == Item::Queue(queue.into())).unwrap().found.clone()
}

#[tokio::test]
async fn a_look_at_an_empty_broker_finds_everything_missing_and_declares_nothing() {
    let fleet = Fleet::new().await;
    let inspector = inspector(&fleet).await;
    for _ in 0..2 {
        let looked = inspector.look().await;
        assert_eq!(looked.len(), fleet.topology().queue_names().count() + 3 + Tier::ALL.len());
        assert!(looked.iter().all(|looked| looked.found == Found::Missing), "{looked:?}");
    }
    inspector.close().await;
}

#[tokio::test]
async fn a_look_names_every_difference_at_once_with_what_its_queue_holds() {
    let fleet = Fleet::new().await;
    let (retry, replay) = (fleet.queue(&Lane::Retry), fleet.queue(&Lane::Replay));
    declare_other(&fleet, &retry, "x-delivery-limit", AMQPValue::LongLongInt(7)).await;
    declare_classic(&fleet, &replay).await;
    let looked = inspector(&fleet).await.look().await;
    let Found::Different(difference) = found(&looked, &retry) else { panic!("{looked:?}") };
    assert_eq!(difference.argument.as_deref(), Some("x-delivery-limit"), "{difference:?}");
    assert_eq!((difference.declared.as_deref(), difference.current.as_deref()), (Some("20"), Some("7")));
    assert!(matches!(found(&looked, &replay), Found::Different(_)));
    assert_eq!(found(&looked, &fleet.queue(&Lane::Quarantine)), Found::Missing);

    let healthy = Fleet::new().await;
    let publisher = healthy.publisher().await;
    publisher.publish(&to_lane(Lane::Retry, "waiting")).await.unwrap();
    let looked = inspector(&healthy).await.look().await;
    assert!(looked.iter().all(|looked| looked.found == Found::Equal), "{looked:?}");
    let counts =
        looked.iter().find(|looked| looked.item.name() == healthy.queue(&Lane::Retry)).unwrap().counts;
    assert_eq!(counts, Some(Counts { ready: 1, consumers: 0 }));
}

#[tokio::test]
async fn what_is_missing_is_declared_and_bound_and_a_second_time_changes_nothing() {
    let fleet = Fleet::new().await;
    let inspector = inspector(&fleet).await;
    for _ in 0..2 {
        for looked in inspector.look().await {
            inspector.declare(&looked.item).await.unwrap();
        }
        for binding in fleet.topology().bindings() {
            inspector.bind(binding).await.unwrap();
        }
    }
    assert!(inspector.look().await.iter().all(|looked| looked.found == Found::Equal));
    fleet.publisher().await.publish(&to_lane(Lane::Retry, "routed")).await.unwrap();
    let undeclared = inspector.declare(&Item::Queue("no-such".into())).await.unwrap_err();
    assert!(matches!(undeclared, InspectionError::Undeclared(_)), "{undeclared:?}");
}

#[tokio::test]
async fn a_queue_with_messages_is_not_deleted_whatever_its_type_and_goes_on_getting_them() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    publisher.publish(&to_lane(Lane::Retry, "precious")).await.unwrap();
    let retry = fleet.queue(&Lane::Retry);
    let inspector = inspector(&fleet).await;
    let error = inspector.delete(&Item::Queue(retry.clone()), true).await.unwrap_err();
    assert!(matches!(error, InspectionError::InUse { .. }), "{error:?}");
    publisher.publish(&to_lane(Lane::Retry, "still bound")).await.unwrap();
    fleet.until_ready(&retry, 2).await;

    let other = Fleet::new().await;
    let replay = other.queue(&Lane::Replay);
    declare_classic(&other, &replay).await;
    publish_raw(&other.channel().await, &replay).await;
    other.until_ready(&replay, 1).await;
    let error = self::inspector(&other).await.delete(&Item::Queue(replay.clone()), true).await.unwrap_err();
    assert!(matches!(error, InspectionError::InUse { .. }), "{error:?}");
    assert_eq!(other.ready(&replay).await, 1);
}

#[tokio::test]
async fn a_message_in_hand_is_use_also_after_its_consumer_was_cancelled() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    let retry = fleet.queue(&Lane::Retry);
    publisher.publish(&to_lane(Lane::Retry, "in hand")).await.unwrap();
    let channel = fleet.channel().await;
    let options = BasicConsumeOptions::default();
    let mut consumer = channel
        .basic_consume(retry.as_str().into(), "hand".into(), options, FieldTable::default())
        .await
        .unwrap();
    let delivery = consumer.next().await.unwrap().unwrap();
    channel.basic_cancel("hand".into(), BasicCancelOptions { nowait: false }).await.unwrap();

    let inspector = inspector(&fleet).await;
    let error = inspector.delete(&Item::Queue(retry.clone()), true).await.unwrap_err();
    assert!(matches!(error, InspectionError::InUse { .. }), "{error:?}");
    delivery.ack(BasicAckOptions::default()).await.unwrap();
    fleet.until_unconsumed(&retry).await;
    inspector.delete(&Item::Queue(retry.clone()), true).await.unwrap();
    assert_eq!(found(&inspector.look().await, &retry), Found::Missing);
}

/// Runs an Erlang expression about `Member`, the one member of a quorum queue.
async fn with_member(server: &RabbitMq, queue: &str, expression: &str) {
    let lookup = format!("rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{queue}\">>))");
    let found = format!("{{ok, Q}} = {lookup}, Member = amqqueue:get_pid(Q)");
    server.eval(&format!("{found}, {expression}, ok")).await.unwrap();
}

#[tokio::test]
async fn a_queue_that_does_not_answer_is_not_told_as_empty_and_is_not_deleted() {
    let OwnBroker { server, fleet, .. } = &OwnBroker::start().await;
    let publisher = fleet.publisher().await;
    let retry = fleet.queue(&Lane::Retry);
    publisher.publish(&to_lane(Lane::Retry, "precious")).await.unwrap();
    fleet.until_ready(&retry, 1).await;
    let (inspector, queue) = (inspector(fleet).await, Item::Queue(retry.clone()));

    with_member(server, &retry, "sys:suspend(Member)").await;
    let told = inspector.counts(&retry).await.unwrap_err();
    assert!(matches!(told, InspectionError::NoAnswer { .. }), "{told:?}");
    let error = inspector.delete(&queue, true).await.unwrap_err();
    assert!(matches!(error, InspectionError::NoAnswer { .. }), "{error:?}");
    with_member(server, &retry, "sys:resume(Member)").await;
    fleet.until_ready(&retry, 1).await;

    with_member(server, &retry, "ok = ra:stop_server(quorum_queues, Member)").await;
    let error = inspector.delete(&queue, true).await.unwrap_err();
    assert!(matches!(error, InspectionError::NoAnswer { .. } | InspectionError::Refused { .. }), "{error:?}");
    with_member(server, &retry, "ok = ra:restart_server(quorum_queues, Member)").await;
    fleet.until_ready(&retry, 1).await;
    publisher.publish(&to_lane(Lane::Retry, "still bound")).await.unwrap();
    fleet.until_ready(&retry, 2).await;
}

#[tokio::test]
async fn asking_what_is_allowed_publishes_consumes_and_unbinds_nothing() {
    let fleet = Fleet::new().await;
    let inspector = inspector(&fleet).await;
    assert_eq!(inspector.refusals().await.unwrap(), [], "of what is not there nothing is told");
    let publisher = fleet.publisher().await;
    publisher.publish(&to_lane(Lane::Retry, "waiting")).await.unwrap();
    fleet.until_ready(&fleet.queue(&Lane::Retry), 1).await;
    assert_eq!(inspector.refusals().await.unwrap(), []);
    for queue in fleet.topology().queue_names() {
        let ready = u32::from(queue == fleet.queue(&Lane::Retry));
        fleet.until_ready(queue, ready).await;
        fleet.until_unconsumed(queue).await;
    }
    publisher.publish(&to_lane(Lane::Retry, "still bound")).await.unwrap();
    fleet.until_ready(&fleet.queue(&Lane::Retry), 2).await;
}

#[tokio::test]
async fn an_empty_quorum_queue_is_deleted_only_on_somebodys_word_and_a_classic_one_without() {
    let fleet = Fleet::new().await;
    let (retry, replay) = (fleet.queue(&Lane::Retry), fleet.queue(&Lane::Replay));
    declare_other(&fleet, &retry, "x-delivery-limit", AMQPValue::LongLongInt(7)).await;
    declare_classic(&fleet, &replay).await;
    let inspector = inspector(&fleet).await;
    let error = inspector.delete(&Item::Queue(retry.clone()), false).await.unwrap_err();
    assert!(matches!(error, InspectionError::Unguarded { .. }), "{error:?}");
    assert!(matches!(found(&inspector.look().await, &retry), Found::Different(_)), "nothing has changed");

    inspector.delete(&Item::Queue(replay.clone()), false).await.unwrap();
    let exchanges: Vec<_> =
        inspector.look().await.into_iter().filter(|it| it.item.kind() == "exchange").collect();
    for exchange in exchanges {
        inspector.declare(&exchange.item).await.unwrap();
    }
    inspector.delete(&Item::Queue(retry.clone()), true).await.unwrap();
    let looked = inspector.look().await;
    assert_eq!([found(&looked, &retry), found(&looked, &replay)], [Found::Missing, Found::Missing]);
}

#[tokio::test]
async fn an_exchange_that_others_have_bound_is_not_deleted_and_keeps_its_own_bindings() {
    let fleet = Fleet::new().await;
    let publisher = fleet.publisher().await;
    let inspector = inspector(&fleet).await;
    let exchange = format!("{}orders", fleet.settings.prefix);
    let stranger = fleet.queue(&Lane::Quarantine);
    let foreign = Binding { exchange: exchange.clone(), queue: stranger, routing_key: "foreign".into() };
    inspector.bind(&foreign).await.unwrap();
    let error = inspector.delete(&Item::Exchange(exchange), false).await.unwrap_err();
    assert!(matches!(error, InspectionError::InUse { .. }), "{error:?}");
    publisher.publish(&to_lane(Lane::Retry, "still bound")).await.unwrap();
}

#[tokio::test]
async fn a_broker_with_other_settings_is_seen_as_different_where_they_matter() {
    let fleet = Fleet::new().await;
    fleet.publisher().await;
    let inspector = Inspector::connect(&fleet.settings, other_topology(&fleet), "test").await.unwrap();
    let looked = inspector.look().await;
    let different: Vec<_> = looked.iter().filter(|looked| looked.found != Found::Equal).collect();
    assert_eq!(different.len(), 1, "{different:?}");
    assert_eq!(different[0].item.name(), fleet.queue(&Lane::New(0)));
    let Found::Different(difference) = &different[0].found else { panic!("{different:?}") };
    assert_eq!(difference.argument.as_deref(), Some("x-max-length-bytes"));
}

#[tokio::test]
async fn a_probe_comes_back_and_the_version_is_told() {
    let OwnBroker { server, fleet, .. } = &OwnBroker::start().await;
    let inspector = inspector(fleet).await;
    assert_eq!(inspector.version().await.unwrap(), server.version().await.unwrap());
    let probe = inspector.probe().await.unwrap();
    assert!(probe.blocked.is_none() && probe.round_trip.is_some(), "{probe:?}");

    server.set_memory_alarm(true).await.unwrap();
    eventually("the alarm", async || inspector.probe().await.ok()?.blocked).await;
    server.set_memory_alarm(false).await.unwrap();
    eventually("no alarm", async || {
        let probe = inspector.probe().await.ok()?;
        (probe.blocked.is_none() && probe.round_trip.is_some()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn wrong_credentials_and_a_wrong_virtual_host_are_refusals_and_a_broker_that_is_down_is_none() {
    let fleet = Fleet::new().await;
    let (_, place) = fleet.settings.url.rsplit_once('@').unwrap();
    let (host, _) = place.split_once('/').unwrap();
    for (url, refused) in [
        (format!("amqp://guest:s3cret-wrong@{place}"), true),
        (format!("amqp://guest:guest@{host}/no-such-host"), true),
        ("amqp://guest:guest@127.0.0.1:1/%2f".to_owned(), false),
    ] {
        let settings = BrokerSettings { url, ..fleet.settings.clone() };
        let error = Inspector::connect(&settings, fleet.topology(), "test").await.unwrap_err();
        let told = error.told_without_secrets(&settings);
        assert_eq!(error.is_refusal(), refused, "{told}");
        assert!(!told.contains("s3cret"), "{told}");
    }
}

/// Past the code that is tested, by the default exchange.
async fn publish_raw(channel: &Channel, queue: &str) {
    let (options, properties) =
        (lapin::options::BasicPublishOptions::default(), lapin::BasicProperties::default());
    channel.basic_publish("".into(), queue.into(), options, b"x", properties).await.unwrap().await.unwrap();
}
