//! `orderfleet doctor` as a process: nothing on a healthy fleet, and each of many planted faults by its name.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod scene;

use std::time::{Duration, Instant};

use orderfleet_domain::saga::{DeadLetterQueue, Lane};
use orderfleet_messaging::{Destination, Headers, Inspector, Item, Outgoing};
use orderfleet_native::{MongoSet, MongoSetOptions, RabbitMq, RabbitMqOptions, TempFolder};
use scene::{Scene, json, stderr, stdout};
use serde_json::Value;

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

    fn verdict(&self, check: &str) -> &str {
        self.finding(check)["verdict"].as_str().unwrap()
    }

    /// The named checks have these verdicts, every other one is fine, and whatever is not fine says what to do.
    fn assert_only(&self, expected: &[(&str, &str)]) {
        for (check, verdict) in expected {
            assert_eq!(self.verdict(check), *verdict, "{:#}", self.finding(check));
        }
        let others = self.findings.iter().filter(|finding| {
            let is_expected = |(check, _): &(&str, &str)| finding["name"] == *check;
            !["ok", "unknown"].contains(&finding["verdict"].as_str().unwrap())
                && !expected.iter().any(is_expected)
        });
        assert_eq!(others.collect::<Vec<_>>(), Vec::<&Value>::new());
        for finding in self.findings.iter().filter(|finding| finding["verdict"] != "ok") {
            assert!(finding["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{finding:#}");
        }
        let has_error = expected.iter().any(|(_, verdict)| *verdict == "error");
        assert_eq!(self.code, Some(i32::from(has_error)));
    }
}

async fn examine(scene: &Scene) -> Report {
    let output = scene.run("doctor --output json").await;
    assert!(!stdout(&output).contains("s3cret") && !stderr(&output).contains("s3cret"));
    Report { findings: json(&output).as_array().unwrap().clone(), code: output.status.code() }
}

/// A set of one member is warned of, and so may this machine's limits be.
fn here<'a>(expected: &[(&'a str, &'a str)], report: &'a Report) -> Vec<(&'a str, &'a str)> {
    let of_tests = ["members", "open files"].map(|check| (check, report.verdict(check)));
    expected
        .iter()
        .copied()
        .chain(of_tests.into_iter().filter(|(_, verdict)| *verdict == "warning"))
        .collect()
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
    let report = examine(&scene).await;
    assert_eq!(report.verdict("members"), "ok");
    report.assert_only(&here(&[], &report));
    let unknown = report.findings.iter().filter(|finding| finding["verdict"] == "unknown");
    let unknown: Vec<_> = unknown.map(|finding| finding["name"].as_str().unwrap()).collect();
    assert_eq!(unknown, ["consumer timeout", "bindings", "leftovers"]);
}

#[tokio::test]
async fn a_member_that_is_down_is_warned_of_and_without_a_majority_nothing_can_be_written() {
    let folder = TempFolder::new().unwrap();
    let mut scene = Scene::new().await;
    let mut set = MongoSet::start(folder.path(), MongoSetOptions::default()).await.unwrap();
    scene.database.uri = set.uri();
    scene.declare().await;
    scene.prepare().await;
    let primary = set.primary().await.unwrap().member;
    set.kill((primary + 1) % 3).await.unwrap();
    let report = eventually(&scene, "members", "warning").await;
    report.assert_only(&here(&[("members", "warning")], &report));
}

/// Examines until a check has this verdict: a server needs its time to notice.
async fn eventually(scene: &Scene, check: &str, verdict: &str) -> Report {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let report = examine(scene).await;
        if report.verdict(check) == verdict {
            return report;
        }
        assert!(Instant::now() < deadline, "{check} is not {verdict}: {:#?}", report.findings);
    }
}

#[tokio::test]
async fn faults_of_the_brokers_address_are_told_apart() {
    let mut scene = healthy().await;
    let (_, place) = scene.broker.url.rsplit_once('@').unwrap();
    let (wrong, down) = (format!("amqp://guest:s3cret-wrong@{place}"), "amqp://guest:s3cret@127.0.0.1:1/%2f");
    for (url, told) in [(wrong, "password"), (down.to_owned(), "start the broker")] {
        scene.broker.url = url;
        let report = examine(&scene).await;
        report.assert_only(&here(&[("broker", "error"), ("topology", "unknown")], &report));
        assert!(report.finding("broker")["fix"].as_str().unwrap().contains(told));
    }
}

#[tokio::test]
async fn a_database_that_is_down_and_one_that_nobody_has_prepared_are_errors() {
    let mut scene = Scene::new().await;
    scene.declare().await;
    let report = examine(&scene).await;
    report.assert_only(&here(&[("collections", "error")], &report));
    scene.database.uri = "mongodb://u:s3cret@127.0.0.1:1/?replicaSet=rs0".to_owned();
    let report = examine(&scene).await;
    let members = ("members", "unknown");
    assert_eq!(report.verdict("members"), members.1);
    report.assert_only(&here(&[("database", "error"), members], &report));
}

#[tokio::test]
async fn a_queue_with_another_argument_and_one_that_is_missing_are_both_named() {
    let mut scene = healthy().await;
    scene.broker.new_bytes_max *= 2;
    scene.broker.partitions = 2;
    let report = examine(&scene).await;
    report.assert_only(&here(&[("topology", "error")], &report));
    let found = report.finding("topology")["found"].as_str().unwrap();
    assert!(found.contains("new.0 is different in x-max-length-bytes"), "{found}");
    assert!(found.contains("new.1 is missing"), "{found}");
}

#[tokio::test]
async fn messages_that_nobody_consumes_and_dead_letters_that_nobody_takes_are_told() {
    let scene = healthy().await;
    publish(&scene, Destination::Lane(Lane::Retry)).await;
    publish(&scene, Destination::DeadLetter(DeadLetterQueue::Held)).await;
    publish(&scene, Destination::Lane(Lane::Quarantine)).await;
    let report = examine(&scene).await;
    let expected = [("consumers", "error"), ("dead letters", "warning"), ("quarantine", "warning")];
    report.assert_only(&here(&expected, &report));
    let found = report.finding("consumers")["found"].as_str().unwrap();
    assert!(found.contains("orders.retry has 1 messages"), "{found}");
}

#[tokio::test]
async fn a_memory_alarm_is_seen_and_nothing_of_the_fleet_is_blocked_by_looking() {
    let folder = TempFolder::new().unwrap();
    let server = RabbitMq::start(folder.path(), RabbitMqOptions::default()).await.unwrap();
    let shared = Scene::new().await;
    let scene = Scene::at(&server.amqp_url(), &shared.database.uri).await;
    scene.declare().await;
    scene.prepare().await;
    let report = examine(&scene).await;
    report.assert_only(&here(&[], &report));
    server.set_memory_alarm(true).await.unwrap();
    let report = eventually(&scene, "broker alarms", "error").await;
    report.assert_only(&here(&[("broker alarms", "error")], &report));
    assert!(report.finding("broker alarms")["found"].as_str().unwrap().contains("memory"));
    server.set_memory_alarm(false).await.unwrap();
    let report = eventually(&scene, "broker alarms", "ok").await;
    report.assert_only(&here(&[], &report));
}

#[tokio::test]
async fn services_that_are_down_elsewhere_or_not_what_they_should_be_are_errors() {
    let mut scene = healthy().await;
    let all = ["inventory", "fulfilment", "accounting"].map(|step| format!("downstream {step}"));
    let expected: Vec<_> = all.iter().map(|check| (check.as_str(), "error")).collect();
    for (service, told) in [("wrong", "404"), ("odd", "state none")] {
        scene.service = service;
        let report = examine(&scene).await;
        report.assert_only(&here(&expected, &report));
        assert!(report.finding(&all[0])["found"].as_str().unwrap().contains(told));
    }
    scene.services = "127.0.0.1:1".parse().unwrap();
    let report = examine(&scene).await;
    report.assert_only(&here(&expected, &report));
    assert!(report.finding(&all[0])["found"].as_str().unwrap().contains("cannot be reached"));
}

#[tokio::test]
async fn settings_that_cannot_be_read_and_steps_that_cannot_be_worked_with_are_errors() {
    let scene = healthy().await;
    for (set, check) in [("broker.prefetsch=1", "settings"), ("broker.partitions=0", "broker")] {
        let output = scene.run(&format!("doctor --output json --set {set}")).await;
        let findings = json(&output).as_array().unwrap().clone();
        let report = Report { findings, code: output.status.code() };
        assert_eq!((report.verdict(check), report.code), ("error", Some(1)), "{set}");
    }
}

#[tokio::test]
async fn the_table_has_a_line_for_each_check_and_a_fix_for_each_fault() {
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
