//! `orderfleet doctor` as a process: nothing on a healthy fleet, and each fault that is planted by its name. Every test of
//! `planted` plants at least one: `cargo test --test doctor planted -- --list` counts them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod scene;

use std::time::{Duration, Instant};

use orderfleet_messaging::{Destination, Headers, Outgoing};
use orderfleet_native::{MongoSet, MongoSetOptions, TempFolder};
use scene::{Scene, json, stderr, stdout};
use serde_json::Value;

/// What AMQP does not tell: unknown on every fleet without the management API.
const NOT_VISIBLE: [&str; 4] = ["consumer timeout", "queue replicas", "bindings", "leftovers"];

/// Verdicts by check, and the exit code.
struct Report {
    findings: Vec<Value>,
    code: Option<i32>,
}

impl Report {
    fn finding(&self, check: &str) -> &Value {
        let found = self.findings.iter().find(|finding| finding["name"] == check);
        found.unwrap_or_else(|| panic!("no check {check} in {:#?}", self.findings))
    }

    fn text(&self, check: &str, field: &str) -> &str {
        self.finding(check)[field].as_str().unwrap()
    }

    fn verdict(&self, check: &str) -> &str {
        self.text(check, "verdict")
    }

    /// The named checks have these verdicts, every other one is fine, but for what is not visible and what this machine (whose
    /// disk may be nearly full) and its database of one member are warned of; and whatever is not fine says what to do.
    fn assert_only(&self, expected: &[(&str, &str)]) {
        let [ill, wanted] = self.ill_and_wanted(expected);
        assert_eq!(ill, wanted, "{:#?}", self.findings);
        for (check, _) in ill {
            assert!(!self.text(check, "fix").is_empty(), "{check}");
        }
        let has_error = expected.iter().any(|(_, verdict)| *verdict == "error");
        assert_eq!(self.code, Some(i32::from(has_error)));
    }

    fn ill_and_wanted<'a>(&'a self, expected: &[(&'a str, &'a str)]) -> [Vec<(&'a str, &'a str)>; 2] {
        let is_expected = |check: &str| expected.iter().any(|(name, _)| *name == check);
        let is_disk = |check: &str| check != "database resources" || self.text(check, "fix").contains("disk");
        let here = ["members", "open files", "database resources"]
            .into_iter()
            .filter(|check| self.verdict(check) == "warning" && is_disk(check));
        let here = here.map(|check| (check, "warning")).chain(self.of_a_router());
        let not_visible = NOT_VISIBLE.map(|check| (check, "unknown"));
        let besides = here.chain(not_visible).filter(|(check, _)| !is_expected(check));
        let mut wanted: Vec<_> = expected.iter().copied().chain(besides).collect();
        let names = self.findings.iter().map(|finding| finding["name"].as_str().unwrap());
        let mut ill: Vec<_> = names.map(|check| (check, self.verdict(check))).collect();
        ill.retain(|(_, verdict)| *verdict != "ok");
        wanted.sort_unstable();
        ill.sort_unstable();
        [ill, wanted]
    }

    /// What a router does not tell, and that nothing shards the collections here: `make test-sharded`.
    fn of_a_router(&self) -> Vec<(&'static str, &'static str)> {
        if self.text("database", "found").contains("router") {
            vec![("members", "unknown"), ("shard key", "warning")]
        } else {
            Vec::new()
        }
    }
}

async fn examine(scene: &Scene) -> Report {
    let output = scene.run("doctor --output json").await;
    assert!(!stdout(&output).contains("s3cret") && !stderr(&output).contains("s3cret"));
    Report { findings: json(&output).as_array().unwrap().clone(), code: output.status.code() }
}

/// Examines until only these are ill: a server needs its time to notice, and a busy queue may not tell what it holds.
async fn eventually(scene: &Scene, expected: &[(&str, &str)]) -> Report {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let report = examine(scene).await;
        let [ill, wanted] = report.ill_and_wanted(expected);
        if ill == wanted || Instant::now() >= deadline {
            report.assert_only(expected);
            return report;
        }
    }
}

async fn healthy() -> Scene {
    let scene = Scene::new().await;
    scene.declare().await;
    scene.prepare().await;
    scene
}

async fn publish(scene: &Scene, destination: Destination) {
    let (headers, body) = (Headers::new("place"), "x".into());
    scene.declare().await.publish(&Outgoing { destination, headers, body }).await.unwrap();
}

#[tokio::test]
async fn nothing_is_found_on_a_healthy_fleet_with_three_database_members() {
    let folder = TempFolder::new().unwrap();
    let mut scene = Scene::new().await;
    let set = MongoSet::start(folder.path(), MongoSetOptions::default()).await.unwrap();
    scene.database.uri = set.uri();
    scene.declare().await;
    scene.prepare().await;
    let report = eventually(&scene, &[]).await;
    assert_eq!(report.verdict("members"), "ok");
}

mod planted {
    use jiff::{SignedDuration, Timestamp};
    use orderfleet_domain::saga::{DeadLetterQueue, Lane, Policy, StepSettings};
    use orderfleet_messaging::{Inspector, Item};
    use orderfleet_native::{RabbitMq, RabbitMqOptions};
    use orderfleet_operations::doctor::{self, Subject, Verdict, WorkerLimits};

    use super::*;
    use scene::mongo;

    /// Beside what is not visible anyway.
    const NEED_BROKER: [&str; 9] = [
        "broker version",
        "broker permissions",
        "broker alarms",
        "partitions",
        "queue type",
        "consumers",
        "dead letters",
        "quarantine",
        "topology",
    ];
    const NEED_DATABASE: [&str; 7] = [
        "database version",
        "clock",
        "write concern",
        "members",
        "collections",
        "shard key",
        "database resources",
    ];

    /// What cannot be looked at is unknown, and is not called well.
    fn and_unknown<'a>(error: &'a str, unknown: &[&'a str]) -> Vec<(&'a str, &'a str)> {
        let unknown = unknown.iter().map(|check| (*check, "unknown"));
        [(error, "error")].into_iter().chain(unknown).collect()
    }

    #[tokio::test]
    async fn a_broker_that_is_down() {
        let mut scene = healthy().await;
        scene.broker.url = "amqp://guest:s3cret@127.0.0.1:1/%2f".to_owned();
        let report = eventually(&scene, &and_unknown("broker", &NEED_BROKER)).await;
        assert!(report.text("broker", "fix").contains("start the broker"));
    }

    #[tokio::test]
    async fn a_broker_that_refuses_the_user() {
        let mut scene = healthy().await;
        let (_, place) = scene.broker.url.rsplit_once('@').unwrap();
        scene.broker.url = format!("amqp://guest:s3cret-wrong@{place}");
        let report = eventually(&scene, &and_unknown("broker", &NEED_BROKER)).await;
        assert!(report.text("broker", "fix").contains("password"));
    }

    #[tokio::test]
    async fn users_who_may_declare_and_not_publish_or_consume() {
        let folder = TempFolder::new().unwrap();
        let server = RabbitMq::start(folder.path(), RabbitMqOptions::default()).await.unwrap();
        let shared = Scene::new().await;
        let mut scene = Scene::at(&server.amqp_url(), &shared.database.uri).await;
        scene.declare().await;
        scene.prepare().await;
        server.rabbitmqctl(&["add_user", "limited", "s3cret"]).await.unwrap();
        let (_, place) = scene.broker.url.rsplit_once('@').unwrap();
        scene.broker.url = format!("amqp://limited:s3cret@{place}");
        let orders = scene.topology().own_prefix();

        let of_amq = [".*", r"^amq\.", r"^amq\."];
        let only_ours = [format!("^{orders}.*"), String::new(), String::new()];
        let no_queue = ("broker alarms", "unknown");
        for (rights, besides) in [(of_amq, None), (only_ours.each_ref().map(String::as_str), Some(no_queue))]
        {
            let arguments = [&["set_permissions", "-p", "/", "limited"], rights.as_slice()].concat();
            server.rabbitmqctl(&arguments).await.unwrap();
            let expected = [("broker permissions", "error")].into_iter().chain(besides);
            let report = eventually(&scene, &expected.collect::<Vec<_>>()).await;
            let found = report.text("broker permissions", "found");
            assert!(found.contains(&format!("publish to exchange {orders},")), "{found}");
            assert!(found.contains("ACCESS_REFUSED"), "{found}");
        }

        let report = examine(&scene).await;
        let fix: Vec<_> = report.text("broker permissions", "fix").split('\'').collect();
        let given = ["set_permissions", "-p", fix[1], fix[3], fix[5], fix[7], fix[9]];
        server.rabbitmqctl(&given).await.unwrap();
        eventually(&scene, &[no_queue]).await;
        let left = server.list_queues().await.unwrap();
        assert!(left.iter().all(|queue| queue.ready + queue.unacked == 0), "nothing was published: {left:?}");
    }

    #[tokio::test]
    async fn a_memory_alarm_and_nothing_of_the_fleet_is_blocked_by_looking() {
        let folder = TempFolder::new().unwrap();
        let server = RabbitMq::start(folder.path(), RabbitMqOptions::default()).await.unwrap();
        let shared = Scene::new().await;
        let scene = Scene::at(&server.amqp_url(), &shared.database.uri).await;
        scene.declare().await;
        scene.prepare().await;
        eventually(&scene, &[]).await;
        server.set_memory_alarm(true).await.unwrap();
        let report =
            eventually(&scene, &[("broker alarms", "error"), ("broker permissions", "unknown")]).await;
        assert!(report.text("broker alarms", "found").contains("memory"));
        server.set_memory_alarm(false).await.unwrap();
        eventually(&scene, &[]).await;
    }

    #[tokio::test]
    async fn a_queue_with_another_argument_and_one_that_is_missing() {
        let mut scene = healthy().await;
        scene.broker.new_bytes_max *= 2;
        scene.broker.partitions = 2;
        let report =
            eventually(&scene, &[("topology", "error"), ("consumers", "unknown"), ("queue type", "unknown")])
                .await;
        let found = report.text("topology", "found");
        assert!(found.contains("new.0 is different in x-max-length-bytes"), "{found}");
        assert!(found.contains("new.1 is missing"), "{found}");
    }

    #[tokio::test]
    async fn a_missing_queue_has_a_line_in_the_table_and_its_fix_below() {
        let scene = healthy().await;
        let queue = scene.topology().queue(&Lane::Replay);
        let inspector = Inspector::connect(&scene.broker, scene.topology(), "test").await.unwrap();
        inspector.delete(&Item::Queue(queue.clone()), true).await.unwrap();
        let output = scene.run("doctor").await;
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.starts_with("CHECK"), "{text}");
        assert!(text.contains(&format!("queue {queue} is missing")), "{text}");
        assert!(text.contains("topology (error):\n  orderfleet topology plan"), "{text}");
    }

    #[tokio::test]
    async fn messages_that_nobody_consumes_unless_somebody_has_paused_them() {
        let scene = healthy().await;
        publish(&scene, Destination::Lane(Lane::Retry)).await;
        let report = eventually(&scene, &[("consumers", "error")]).await;
        let found = report.text("consumers", "found");
        assert!(found.contains("orders.retry has 1 messages"), "{found}");

        let paused = scene.run("fleet pause queue:retry --for 1h --reason updating").await;
        assert_eq!(paused.status.code(), Some(0), "{}", stderr(&paused));
        let report = eventually(&scene, &[("consumers", "warning")]).await;
        let found = report.text("consumers", "found");
        assert!(found.contains("tester has paused queue:retry until 20"), "{found}");
    }

    #[tokio::test]
    async fn dead_letters_that_nobody_takes_and_deliveries_in_quarantine() {
        let scene = healthy().await;
        publish(&scene, Destination::DeadLetter(DeadLetterQueue::Held)).await;
        publish(&scene, Destination::Lane(Lane::Quarantine)).await;
        let expected = [("consumers", "error"), ("dead letters", "warning"), ("quarantine", "warning")];
        eventually(&scene, &expected).await;
    }

    #[tokio::test]
    async fn orders_in_a_partition_that_the_settings_have_no_more() {
        let mut scene = healthy().await;
        scene.broker.partitions = 3;
        publish(&scene, Destination::Lane(Lane::New(2))).await;
        let left = scene.topology().queue(&Lane::New(2));
        scene.broker.partitions = 1;
        let report = eventually(&scene, &[("partitions", "error")]).await;
        let found = report.text("partitions", "found");
        assert!(found.contains(&format!("{left} has 1 messages")) && !found.contains("new.1"), "{found}");
    }

    #[tokio::test]
    async fn a_database_that_is_down() {
        let mut scene = healthy().await;
        scene.database.uri = "mongodb://u:s3cret@127.0.0.1:1/?replicaSet=rs0".to_owned();
        eventually(&scene, &and_unknown("database", &NEED_DATABASE)).await;
    }

    #[tokio::test]
    async fn a_database_that_nobody_has_prepared() {
        let scene = Scene::new().await;
        scene.declare().await;
        eventually(&scene, &[("collections", "error")]).await;
    }

    #[tokio::test]
    async fn an_index_that_somebody_has_dropped() {
        let scene = healthy().await;
        let drop = [("dropIndexes", "orders"), ("index", "sweep_due_1"), ("$db", &scene.database.name)];
        mongo::command(mongo::first_port(&scene.database.uri), &drop).await;
        let report = eventually(&scene, &[("collections", "error")]).await;
        let found = report.text("collections", "found");
        assert!(found.contains("sweep_due_1") && !found.contains("phase_1"), "{found}");
    }

    #[tokio::test]
    async fn a_clock_that_is_ahead() {
        let scene = healthy().await;
        let verdict = async |clock: fn() -> Timestamp| {
            let subject = Subject {
                broker: scene.broker.clone(),
                database: scene.database.clone(),
                steps: Ok(Policy::new(StepSettings::defaults(), 0).unwrap()),
                worker: WorkerLimits::default(),
                management: None,
                clock,
            };
            let findings = doctor::examine(&subject).await;
            findings.into_iter().find(|finding| finding.name == "clock").unwrap().verdict
        };
        assert_eq!(verdict(Timestamp::now).await, Verdict::Ok);
        assert_eq!(verdict(|| Timestamp::now() + SignedDuration::from_secs(10)).await, Verdict::Warning);
        assert_eq!(verdict(|| Timestamp::now() + SignedDuration::from_secs(40)).await, Verdict::Error);
    }

    #[tokio::test]
    async fn a_member_that_is_down_one_that_takes_no_writes_and_no_majority_at_all() {
        let folder = TempFolder::new().unwrap();
        let mut scene = Scene::new().await;
        let mut set = MongoSet::start(folder.path(), MongoSetOptions::default()).await.unwrap();
        scene.database.uri = set.uri();
        scene.declare().await;
        scene.prepare().await;
        let primary = set.primary().await.unwrap().member;
        let (down, lagging) = ((primary + 1) % 3, (primary + 2) % 3);
        set.kill(down).await.unwrap();
        eventually(&scene, &[("members", "warning")]).await;

        let stop = [("configureFailPoint", "stopReplProducer"), ("mode", "alwaysOn"), ("$db", "admin")];
        mongo::command(set.ports()[lagging], &stop).await;
        eventually(&scene, &[("members", "warning"), ("write concern", "error")]).await;

        set.kill(lagging).await.unwrap();
        eventually(&scene, &and_unknown("database", &NEED_DATABASE)).await;
    }

    #[tokio::test]
    async fn services_that_are_down_elsewhere_or_not_what_they_should_be() {
        let mut scene = healthy().await;
        let all = ["inventory", "fulfilment", "accounting"].map(|step| format!("downstream {step}"));
        let expected: Vec<_> = all.iter().map(|check| (check.as_str(), "error")).collect();
        for (service, told) in [("wrong", "404"), ("odd", "state none")] {
            scene.service = service;
            let report = eventually(&scene, &expected).await;
            assert!(report.text(&all[0], "found").contains(told));
        }
        scene.services = "127.0.0.1:1".parse().unwrap();
        let report = eventually(&scene, &expected).await;
        assert!(report.text(&all[0], "found").contains("cannot be reached"));
    }

    #[tokio::test]
    async fn settings_that_cannot_be_read_and_partitions_that_there_cannot_be() {
        let scene = healthy().await;
        for (set, check) in [("broker.prefetch=1", "settings"), ("broker.partitions=0", "broker")] {
            let output = scene.run(&format!("doctor --output json --set {set}")).await;
            let findings = json(&output).as_array().unwrap().clone();
            let report = Report { findings, code: output.status.code() };
            assert_eq!((report.verdict(check), report.code), ("error", Some(1)), "{set}");
        }
    }
}
