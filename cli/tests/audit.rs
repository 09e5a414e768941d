//! `orderfleet audit` as a process, on a real broker and database, with logs and orders planted by the test.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod planted;

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use flate2::{Compression, write::GzEncoder};
use jiff::{SignedDuration, Timestamp};
use orderfleet_domain::saga::{DeadLetterQueue, Note, Phase, StoreReply};
use orderfleet_operations::log::{LogRange, OperatorLog};
use planted::{Planted, json, order_id, other_fp, quiet, stderr};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

const DEADLINE: Duration = Duration::from_secs(60);

fn hours_ago(hours: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(hours)
}

/// Orders of every kind; returns the lines about them.
async fn one_of_each(at: &Planted) -> Vec<String> {
    let then = hours_ago(3);
    for (key, phase, is_final) in
        [("done", Phase::Done, false), ("undone", Phase::Undone, false), ("final", Phase::Undone, true)]
    {
        at.order(key, |record| (record.phase, record.is_final) = (phase, is_final)).await;
    }
    at.order("held", |record| record.hold = Some(planted::hold())).await;
    at.order("running", |_| {}).await;
    at.order("contested", |_| {}).await;
    let conflict = Note::Conflict(other_fp(1));
    assert_eq!(at.store.note(&order_id("contested"), &conflict).await, StoreReply::Applied);
    at.letter("parked", DeadLetterQueue::Poison).await;

    let keys = ["done", "undone", "final", "held", "running", "parked", "lost"];
    let mut lines: Vec<_> = keys.iter().map(|key| at.line(key, then)).collect();
    lines.extend([1, 2].map(|body| at.line_of("contested", &other_fp(body), then)));
    lines.push(at.line("young", Timestamp::now()));
    lines
}

#[tokio::test]
async fn every_acceptance_is_counted_once_by_what_became_of_it() {
    let at = quiet().await;
    let lines = one_of_each(&at).await;
    let (first, second) = lines.split_at(5);
    let torn = &lines[0][..60];
    let too_old = at.line("long ago", hours_ago(50));
    let first = at.file("a.log", format!("{}\n{torn}\n{}\n{too_old}\n", first.join("\n"), lines[0]));
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(second.join("\n").as_bytes()).unwrap();
    let second = at.file("b.log.1", gzip.finish().unwrap());

    let output = at.audit(&[&first, &second, "--since", "24h", "--output", "json"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let report = json(&output);
    let expected = serde_json::json!({
        "done": 1, "undone": 2, "held": 1, "in_flight": 1, "parked": 1, "conflict": 1, "unreadable": 0,
        "not_seen_yet": 1, "unaccounted": 1, "wrong": 1,
    });
    assert_eq!(report["balance"], expected);
    for (field, count) in [("accepted", 10), ("repeated", 1), ("outside", 1), ("malformed", 1)] {
        assert_eq!(report[field], count, "{field}");
    }
    assert_eq!(report["malformed_lines"][0]["line"], 6);
    assert_eq!(report["malformed_lines"][0]["log"], *first);
    assert_eq!(report["logs"][1]["lines"], 5);
    let blind: Vec<_> =
        report["cannot_see"].as_array().unwrap().iter().filter_map(|spot| spot.as_str()).collect();
    assert!(blind.iter().any(|spot| spot.contains("malformed")), "{blind:?}");
    assert!(blind.iter().any(|spot| spot.contains("producer")), "{blind:?}");

    let table = at.audit(&[&first, &second, "--since", "24h"]).await;
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("a.log:6 it is cut off"), "{table}");
    let first: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(first.join(" "), "accepted 10 1 accepted again, 1 outside the range");
}

#[tokio::test]
async fn each_class_can_be_listed_by_its_orders() {
    let at = quiet().await;
    let log = at.file("a.log", one_of_each(&at).await.join("\n"));
    for (class, keys) in [
        ("done", vec!["done"]),
        ("undone", vec!["undone", "final"]),
        ("held", vec!["held"]),
        ("parked", vec!["parked"]),
        ("conflict", vec!["contested"]),
        ("in_flight", vec!["running"]),
        ("not_seen_yet", vec!["young"]),
        ("unaccounted", vec!["lost"]),
        ("wrong", vec!["contested"]),
        ("unreadable", vec![]),
    ] {
        let output = at.audit(&[&log, "--list", class, "--output", "jsonl"]).await;
        let stdout = String::from_utf8(output.stdout.clone()).unwrap();
        let rows: Vec<serde_json::Value> =
            stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let ids: Vec<_> = rows.iter().map(|row| row["order_id"].as_str().unwrap()).collect();
        assert_eq!(ids, keys.iter().map(|key| order_id(key).to_string()).collect::<Vec<_>>(), "{class}");
        assert!(rows.iter().all(|row| row["standing"] == class), "{rows:?}");
        assert!(stderr(&output).contains("accepted"), "the summary is talk then");
    }
    let table = at.audit(&[&log, "--list", "undone"]).await.stdout;
    let table = String::from_utf8(table).unwrap();
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(
        table.starts_with("ORDER") && table.lines().all(|line| line.split_whitespace().count() == 6),
        "{table}"
    );
    assert_eq!(
        json(&at.audit(&[&log, "--list", "undone", "--output", "json"]).await).as_array().unwrap().len(),
        2
    );
    assert_eq!(
        json(&at.audit(&[&log, "--list", "unreadable", "--output", "json"]).await),
        serde_json::json!([])
    );
}

#[tokio::test]
async fn a_balance_without_a_gap_is_a_success() {
    let at = quiet().await;
    at.order("done", |record| record.phase = Phase::Done).await;
    let log = at.file("a.log", at.line("done", hours_ago(3)));
    let output = at.audit(&[&log, "--strict", "--output", "json"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let young = at.file("b.log", at.line("young", Timestamp::now()));
    assert_eq!(at.audit(&[&young]).await.status.code(), Some(0));
    assert_eq!(at.audit(&[&young, "--strict"]).await.status.code(), Some(3));
    let torn = at.file("c.log", format!("{}\n{{", at.line("done", hours_ago(3))));
    assert_eq!(at.audit(&[&torn]).await.status.code(), Some(0));
    assert_eq!(at.audit(&[&torn, "--strict"]).await.status.code(), Some(3));
}

#[tokio::test]
async fn a_log_without_an_acceptance_of_the_range_matches_nothing() {
    let at = quiet().await;
    let log = at.file("a.log", at.line("old", hours_ago(3)));
    assert_eq!(at.audit(&[&log, "--since", "1h"]).await.status.code(), Some(4));
    let output = at.audit(&["missing.log"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("missing.log") && stderr(&output).contains("next:"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test]
async fn a_log_can_come_by_standard_input() {
    let at = quiet().await;
    at.order("done", |record| record.phase = Phase::Done).await;
    let mut audit =
        at.command(&["-", "--output", "json"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = audit.stdin.take().unwrap();
    stdin.write_all(at.line("done", hours_ago(3)).as_bytes()).await.unwrap();
    drop(stdin);
    let output = audit.wait_with_output().await.unwrap();
    assert_eq!(json(&output)["balance"]["done"], 1);
}

#[tokio::test]
async fn an_order_in_a_queue_is_not_lost_and_one_that_is_taken_between_the_looks_is_found() {
    let at = Planted::new("busy").await;
    let log = at.file("a.log", at.line("queued", hours_ago(3)));
    at.queue("queued").await;
    let output = at.audit(&[&log, "--wait", "0s", "--strict", "--output", "json"]).await;
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let report = json(&output);
    assert_eq!(
        (&report["balance"]["not_seen_yet"], &report["balance"]["unaccounted"]),
        (&1.into(), &0.into())
    );
    assert_eq!(report["queues_waiting"][0]["ready"], 1, "{report}");

    // The first look at the database is over once the audit waits for the queue.
    let mut audit = at.command(&[&log, "--wait", "60s", "--output", "json"]);
    let mut audit = audit.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut talk = BufReader::new(audit.stderr.take().unwrap()).lines();
    let waits = async {
        while let Some(line) = talk.next_line().await.unwrap() {
            if line.contains("waiting to see") && line.contains("orders.new.0") {
                return;
            }
        }
        panic!("it ended without waiting for the queue");
    };
    tokio::time::timeout(DEADLINE, waits).await.unwrap();
    at.order("queued", |_| {}).await;
    at.take_one().await;
    let output = tokio::time::timeout(DEADLINE, audit.wait_with_output()).await.unwrap().unwrap();
    let report = json(&output);
    assert_eq!((&report["balance"]["in_flight"], &report["balance"]["unaccounted"]), (&1.into(), &0.into()));
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test]
async fn terminal_events_are_published_again_only_on_request_and_for_a_recorded_reason() {
    let at = quiet().await;
    let log = at.file("a.log", one_of_each(&at).await.join("\n"));
    let records = async || {
        let log = OperatorLog::new(at.store.clone());
        let (mut entries, mut records) = (log.entries(LogRange::default()), Vec::new());
        while let Some(entry) = entries.next().await.unwrap() {
            records.push(entry.record);
        }
        records
    };
    let planned = at.audit(&[&log, "--events", "--output", "json"]).await;
    let counts = |published| serde_json::json!({ "completed": 1, "cancelled": 1, "failed": 1, "published": published });
    assert_eq!(json(&planned)["events"], counts(0));
    assert_eq!(at.audit(&[&log, "--events", "--yes"]).await.status.code(), Some(2), "a reason is needed");
    assert!(records().await.is_empty());

    let published =
        at.audit(&[&log, "--events", "--yes", "--reason", "queue lost", "--output", "json"]).await;
    assert_eq!(json(&published)["events"], counts(3), "{}", stderr(&published));
    let records = records().await;
    let told: Vec<_> = records
        .iter()
        .map(|record| (record.who.as_str(), record.what.as_str(), record.why.as_str()))
        .collect();
    assert_eq!(told, [("tester", "audit.events", "queue lost"); 2]);
    assert!(records[1].result.as_ref().unwrap().contains("published 3 of 3"), "{records:?}");
}

#[tokio::test]
async fn without_a_database_the_audit_says_so() {
    let at = quiet().await;
    let log = at.file("a.log", at.line("any", hours_ago(3)));
    let output = at.audit(&[&log, "--set", "database.uri=mongodb://127.0.0.1:1/?replicaSet=rs0"]).await;
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
}

/// The worst case: no trace of any of them.
#[tokio::test]
#[ignore = "takes minutes: memory of a long log, run by hand"]
async fn a_million_lines_take_bounded_memory() {
    let at = quiet().await;
    let mut log = String::new();
    for number in 0..1_000_000 {
        log.push_str(&at.line(&number.to_string(), hours_ago(3)));
        log.push('\n');
    }
    let log = at.file("long.log", log);
    let mut audit = at.command(&[&log, "--output", "json"]);
    let mut audit = audit.stdout(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", audit.id().unwrap());
    let begun = std::time::Instant::now();
    let mut peak = String::new();
    while audit.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        peak = text.lines().find(|line| line.starts_with("VmHWM")).map_or(peak, str::to_owned);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let report = json(&audit.wait_with_output().await.unwrap());
    eprintln!("{peak} in {:.1} s", begun.elapsed().as_secs_f64());
    assert_eq!(report["balance"]["unaccounted"], 1_000_000);
    let kib: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 200 << 10, "{peak}");
}
