//! `orderfleet dlq`, as a process, against a real broker and database.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod desk;

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use desk::{CANARY, Desk, code, order_id, stderr, stdout};
use jiff::{SignedDuration, Timestamp};
use orderfleet_domain::failure::{Failure, FailureClass};
use orderfleet_domain::saga::DeadLetterQueue;
use orderfleet_domain::{Command, CommandKind};
use orderfleet_operations::log::{LogEntry, LogRange, OperatorLog};
use orderfleet_storage::{DeadLetter, How, Subject};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::timeout;

const NONE: i32 = 4;
const PLAN_CHANGED: i32 = 8;
const DEADLINE: Duration = Duration::from_secs(30);

/// Three that fail alike, and one that does not.
async fn desk() -> (Desk, Vec<String>) {
    let desk = Desk::new().await;
    let mut ids = Vec::new();
    for (key, answer, hours) in [("a", "503 Busy 1", 3), ("b", "503 Busy 22", 2), ("c", "503 busy 3", 0)] {
        ids.push(desk.failed(key, answer, SignedDuration::from_hours(hours)).await);
    }
    ids.push(desk.failed("d", "timeout", SignedDuration::from_mins(30)).await);
    (desk, ids)
}

fn lines(output: &Output) -> Vec<String> {
    stdout(output).lines().map(str::to_owned).collect()
}

async fn logged(desk: &Desk) -> Vec<LogEntry> {
    let mut entries = OperatorLog::new(desk.store.clone()).entries(LogRange::default());
    let mut found = Vec::new();
    while let Some(entry) = entries.next().await.unwrap() {
        found.push(entry);
    }
    found
}

#[tokio::test]
async fn failures_alike_are_one_row_of_the_statistics() {
    let (desk, _) = desk().await;
    let groups = desk.json(&["stats"]).await;
    let shown: Vec<_> =
        groups.as_array().unwrap().iter().map(|group| (&group["count"], &group["last_hour"])).collect();
    assert_eq!(shown, [(&json!(3), &json!(1)), (&json!(1), &json!(1))], "{groups:#}");
    assert_eq!(
        (&groups[0]["queue"], &groups[0]["first_build"]),
        (&json!("fulfilment"), &json!("0.1.0+test"))
    );

    assert_eq!(groups[0]["hour_before"], 0, "{groups:#}");
    let table = desk.run(&["stats", "--where", "age>1h"]).await;
    let rows = lines(&table);
    assert_eq!((rows.len(), code(&table)), (2, 0), "{rows:#?}");
    assert!(rows[0].starts_with("FINGERPRINT") && rows[0].ends_with("AGE"), "{rows:#?}");
    assert!(
        rows[1].starts_with(groups[0]["failure_fingerprint"].as_str().unwrap()) && rows[1].ends_with("3h"),
        "{rows:#?}"
    );
}

#[tokio::test]
async fn statistics_tell_what_is_not_parked_yet() {
    let desk = Desk::new().await;
    let unknown = desk.run(&["stats"]).await;
    assert_eq!(code(&unknown), NONE);
    assert!(stderr(&unknown).contains("the broker does not tell"), "{}", stderr(&unknown));
    desk.publish_poison().await;
    let waiting = desk.run(&["stats"]).await;
    assert_eq!(code(&waiting), NONE);
    let told = stderr(&waiting);
    assert!(told.contains("1 dead letter in ") && told.contains("orders.dead.poison, not parked"), "{told}");
    assert!(!told.contains("does not tell"), "{told}");
}

#[tokio::test]
async fn a_list_is_narrowed_by_a_filter_and_chained_by_ids() {
    let (desk, ids) = desk().await;
    let all = desk.run(&["list", "--ids-only"]).await;
    assert_eq!(lines(&all), [0, 1, 3, 2].map(|place| ids[place].as_str()), "oldest first");
    let some = desk.run(&["list", "--ids-only", "--where", "age>1h and account=demo", "--limit", "1"]).await;
    assert_eq!(lines(&some), [ids[0].as_str()]);
    assert!(stderr(&some).contains("1 of 2"), "{}", stderr(&some));
    let newest = desk.run(&["list", "--newest", "--limit", "1", "--output", "jsonl"]).await;
    let newest: Value = serde_json::from_str(&stdout(&newest)).unwrap();
    assert_eq!(
        (newest["id"].as_str(), &newest["class"]),
        (Some(ids[2].as_str()), &json!("attempts_exhausted"))
    );

    let file = desk.folder.path().join("ids");
    std::fs::write(&file, stdout(&some)).unwrap();
    let chained = desk.run(&["list", "--ids-only", "--ids", file.to_str().unwrap()]).await;
    assert_eq!(lines(&chained), lines(&some));

    let none = desk.run(&["list", "--where", "queue=poison", "--output", "json"]).await;
    assert_eq!((code(&none), stdout(&none).trim()), (NONE, "[]"));
}

#[tokio::test]
async fn a_wrong_filter_is_a_mistake_in_the_command_line_and_shown_with_a_caret() {
    let desk = Desk::new().await;
    let wrong = desk.run(&["list", "--where", "step=a and ago>1h"]).await;
    let told = stderr(&wrong);
    assert_eq!((code(&wrong), stdout(&wrong).as_str()), (2, ""));
    assert!(told.contains("  step=a and ago>1h\n             ^^^"), "{told}");
}

#[tokio::test]
async fn a_letter_is_shown_without_personal_data_unless_a_reason_is_given() {
    let (desk, ids) = desk().await;
    for form in ["table", "json"] {
        let shown = desk.run(&["show", &ids[0], "--output", form]).await;
        assert_eq!(code(&shown), 0, "{}", stderr(&shown));
        let text = stdout(&shown);
        assert!(text.contains("503 Busy 1") && text.contains("IE") && !text.contains(CANARY), "{text}");
    }
    assert_eq!(logged(&desk).await.len(), 0);
    assert_eq!(code(&desk.run(&["show", &ids[0], "--reveal"]).await), 2, "without a reason");
    let revealed = desk.json(&["show", &ids[0], "--reveal", "--reason", "which address?"]).await;
    assert_eq!(revealed["revealed"]["body"]["command"]["order"]["ship_to"]["name"], CANARY, "{revealed:#}");
    let entries = logged(&desk).await;
    let record = &entries[0].record;
    assert_eq!(
        (record.who.as_str(), record.what.as_str(), record.why.as_str()),
        ("jo", "dlq.reveal", "which address?")
    );
    assert!(entries.len() == 2 && record.target.contains(&ids[0]), "{entries:#?}");
    let absent = desk.run(&["show", "absent"]).await;
    assert_eq!(code(&absent), NONE);
    assert!(stderr(&absent).contains("next:"), "{}", stderr(&absent));
}

#[tokio::test]
async fn peeking_counts_what_waits_and_takes_nothing_out() {
    let desk = Desk::new().await;
    desk.publish_poison().await;
    for _ in 0..2 {
        let peeked = desk.json(&["peek", "poison"]).await;
        assert_eq!((&peeked["waiting"], &peeked["parked"]), (&json!(1), &json!(0)), "{peeked}");
    }
    let (table, empty) = (desk.run(&["peek", "poison"]).await, desk.run(&["peek", "held"]).await);
    assert!(stderr(&table).contains("counted and not read"), "{}", stderr(&table));
    assert_eq!(code(&empty), NONE);
    let wrong = desk.run(&["peek", "fulfillment"]).await;
    assert!(code(&wrong) == 2 && stderr(&wrong).contains("inventory, fulfilment"), "{}", stderr(&wrong));
}

#[tokio::test]
async fn discarding_is_planned_unless_told_to_and_recorded() {
    let (desk, ids) = desk().await;
    let chosen = ["discard", "--where", "age>1h"];
    let unnamed = desk.run(&["discard", "--yes", "--reason", "x"]).await;
    assert!(code(&unnamed) == 2 && stderr(&unnamed).contains("--all"), "{}", stderr(&unnamed));
    let planned = desk.json(&chosen).await;
    assert_eq!((&planned["count"], &planned["done"]), (&json!(2), &Value::Null), "{planned:#}");
    assert_eq!(desk.letter(&ids[0]).await.ended, None);
    assert_eq!(code(&desk.run(&[&chosen[..], &["--yes"]].concat()).await), 2, "without a reason");
    let plan = planned["plan"].as_str().unwrap();
    assert!(stderr(&desk.run(&chosen).await).contains(&format!("--yes --expect {plan} ")));
    let act = ["--yes", "--reason", "answered by phone", "--expect"];
    let changed = desk.run(&[&chosen[..], &act, &["3"]].concat()).await;
    assert_eq!(code(&changed), PLAN_CHANGED, "{}", stderr(&changed));
    let first = desk.json(&[&chosen[..], &["--limit", "1"]].concat()).await;
    assert_eq!((&first["count"], &first["groups"][0]["count"]), (&json!(1), &json!(1)), "{first:#}");
    let other = desk.run(&[&chosen[..], &act, &[first["plan"].as_str().unwrap()]].concat()).await;
    assert_eq!(code(&other), PLAN_CHANGED, "{}", stderr(&other));
    assert_eq!(logged(&desk).await.len(), 0);

    let done = desk.json(&[&chosen[..], &act, &[plan]].concat()).await;
    assert_eq!(done["done"]["discarded"], 2, "{done:#}");
    let ended = desk.letter(&ids[0]).await.ended.unwrap();
    assert_eq!(
        (ended.how, ended.by.as_str(), ended.why.as_str()),
        (How::Discarded, "jo", "answered by phone")
    );
    let entries = logged(&desk).await;
    assert_eq!(entries[0].record.what, "dlq.discard");
    assert!(entries[1].record.result.as_deref().unwrap().starts_with("2 discarded"), "{entries:#?}");
    assert_eq!(ended.job.as_deref(), Some(entries[0].record.act.as_str()));
    let again = desk.run(&[&chosen[..], &act, &["2"]].concat()).await;
    assert_eq!(code(&again), NONE, "{}", stderr(&again));
    let found = desk.run(&["list", "--where", "is:ended", "--ids-only"]).await;
    assert_eq!(lines(&found).len(), 2);
}

#[tokio::test]
async fn a_letter_in_other_hands_is_left_there() {
    let (desk, ids) = desk().await;
    let now = jiff::Timestamp::now().as_millisecond();
    desk.store.lease_letter(&ids[0], "another job", now, now + 600_000).await.unwrap();
    let done = desk.run(&["discard", "--all", "--yes", "--reason", "x", "--output", "json"]).await;
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&told["done"]["discarded"], &told["done"]["in_other_hands"]), (&json!(3), &json!(1)));
    assert_eq!(code(&done), 3);
    assert_eq!(desk.letter(&ids[0]).await.ended, None);
}

#[tokio::test]
async fn a_replay_is_planned_and_only_one_that_is_known_can_be_resumed() {
    let (desk, _) = desk().await;
    let unnamed = desk.run(&["replay"]).await;
    assert!(code(&unnamed) == 2 && stderr(&unnamed).contains("--all"), "{}", stderr(&unnamed));
    // No worker has stored their orders: the messages themselves would come back.
    let planned = desk.json(&["replay", "--all"]).await;
    assert_eq!(
        (&planned["count"], &planned["groups"][0]["course"]),
        (&json!(4), &json!("again")),
        "{planned:#}"
    );
    let changed = desk.run(&["replay", "--all", "--yes", "--reason", "x", "--expect", "3"]).await;
    assert_eq!(code(&changed), PLAN_CHANGED, "{}", stderr(&changed));
    assert_eq!(logged(&desk).await.len(), 0);
    for flag in ["--resume", "--results"] {
        let unknown = desk.run(&["replay", flag, "absent"]).await;
        assert!(code(&unknown) == NONE && stderr(&unknown).contains("next:"), "{}", stderr(&unknown));
        assert_eq!(
            code(&desk.run(&["replay", flag, "absent", "--forecast"]).await),
            2,
            "that would only look"
        );
    }
    assert_eq!(code(&desk.run(&["replay", "--all", "--yes"]).await), 2, "without a reason");
}

/// The letter of a cancel over which workers ended, of an order that nobody knows.
async fn park_cancel(desk: &Desk) -> String {
    let (order_id, account) = (order_id("a"), desk::account());
    let kind = CommandKind::Cancel { requested_at: Timestamp::UNIX_EPOCH };
    let subject = Subject { order_id: order_id.clone(), account: account.clone(), generation: 1 };
    let command = Command { order_id: order_id.clone(), account, generation: 1, fp: None, kind };
    let letter = DeadLetter {
        id: "c".into(),
        queue: DeadLetterQueue::Poison,
        subject: Some(subject),
        kind: "cancel".into(),
        reason: "crashed workers".into(),
        failure: Failure::new(None, FailureClass::Crashed, None, "crashed workers"),
        build: None,
        trace_id: None,
        attempts: Vec::new(),
        headers: Vec::new(),
        body: command.encode(),
    };
    assert!(desk.store.park(&letter, Timestamp::now().as_millisecond()).await.unwrap());
    format!("{order_id}.c")
}

#[tokio::test]
async fn a_cancel_is_done_once_it_is_published() {
    let desk = Desk::new().await;
    let id = park_cancel(&desk).await;
    // Declares the queues.
    desk.publish_poison().await;
    let replay = ["replay", "--all", "--yes", "--reason", "x", "--batch-timeout", "1s"];
    let done = desk.json(&replay).await;
    assert_eq!((&done["done"], &done["begun"]), (&json!(1), &json!(0)), "no worker has judged it: {done}");
    assert_eq!(desk.letter(&id).await.ended.unwrap().how, How::Replayed);
    let gone = desk.run(&[&replay[..], &["--expect", "1"]].concat()).await;
    assert_eq!(code(&gone), PLAN_CHANGED, "{}", stderr(&gone));
}

#[tokio::test]
async fn what_was_exported_can_be_imported_elsewhere() {
    let (desk, ids) = desk().await;
    assert_eq!(code(&desk.run(&["export", "letters.jsonl"]).await), 2, "it holds personal data");
    let one = ["export", "one.jsonl", "--limit", "1", "--reveal", "--reason", "moving"];
    assert_eq!(code(&desk.run(&one).await), 0);
    let one = std::fs::read_to_string(desk.folder.path().join("one.jsonl")).unwrap();
    assert!(one.lines().count() == 1 && one.contains(&ids[0]), "the oldest");
    let export = ["export", "letters.jsonl", "--reveal", "--reason", "moving"];
    let exported = desk.run(&export).await;
    assert_eq!(code(&exported), 0, "{}", stderr(&exported));
    let path = desk.folder.path().join("letters.jsonl");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 4);
    assert_eq!(code(&desk.run(&export).await), 1, "a file that is there is not overwritten");
    let none = ["export", "none.jsonl", "--where", "queue=poison", "--reveal", "--reason", "moving"];
    assert_eq!(code(&desk.run(&none).await), NONE);
    assert!(!desk.folder.path().join("none.jsonl").exists(), "an empty file would be left");

    let elsewhere = Desk::new().await;
    let path = path.to_str().unwrap();
    assert_eq!(elsewhere.json(&["import", path]).await["new"], 4);
    assert_eq!(code(&elsewhere.run(&["list"]).await), NONE, "it was only planned");
    for new in [4, 0] {
        let imported = elsewhere.json(&["import", path, "--yes", "--reason", "moving"]).await;
        assert_eq!(imported, json!({ "new": new, "known": 4 - new, "is_done": true }));
    }
    for id in &ids {
        assert_eq!(elsewhere.store.letter(id).await.unwrap(), desk.store.letter(id).await.unwrap());
    }
    let bad = elsewhere.folder.path().join("bad");
    std::fs::write(&bad, format!("\n{{\"name\":\"{CANARY}\"}}\n")).unwrap();
    let refused = elsewhere.run(&["import", bad.to_str().unwrap()]).await;
    let told = stderr(&refused);
    assert!(code(&refused) == 1 && told.contains("line 2") && !told.contains(CANARY), "{told}");
}

#[tokio::test]
async fn a_reason_that_is_none_or_too_long_is_a_mistake_in_the_command_line() {
    let desk = Desk::new().await;
    let long = "x".repeat(1_001);
    for command in
        ["replay --all --yes", "discard --all --yes", "edit x", "export --reveal", "show x --reveal"]
    {
        for reason in ["", " ", &long] {
            let arguments: Vec<_> = command.split(' ').chain(["--reason", reason]).collect();
            let refused = desk.run(&arguments).await;
            assert_eq!(code(&refused), 2, "{command}: {}", stderr(&refused));
            assert!(stderr(&refused).contains("1 to 1000 bytes"), "{command}: {}", stderr(&refused));
        }
    }
    assert_eq!(logged(&desk).await.len(), 0);
}

#[tokio::test]
async fn a_reader_of_the_list_who_has_seen_enough_ends_it_quietly() {
    let (desk, _) = desk().await;
    for form in ["table", "json", "jsonl"] {
        let mut command = desk.command(&["list", "--output", form]);
        let mut list = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(list.stdout.take());
        let ended = list.wait_with_output().await.unwrap();
        assert_eq!((code(&ended), stderr(&ended).as_str()), (0, ""), "{form}");
    }
}

#[tokio::test]
async fn a_broker_that_will_not_do_is_told_from_one_that_is_down() {
    let (desk, _) = desk().await;
    desk.publish_poison().await;
    let replay = ["replay", "--all", "--yes", "--reason", "x"];
    let wrong_login = desk.broker_url().replacen("guest:guest", "guest:s3cret", 1);
    for (url, expected, told) in [
        (wrong_login.as_str(), 5, "ACCESS_REFUSED"),
        ("amqp:guest:s3cret@", 1, "next:"),
        ("s3cret", 1, "next:"),
    ] {
        let began = Instant::now();
        let refused = desk.command(&replay).env("ORDERFLEET_AMQP_URL", url).output().await.unwrap();
        let text = stderr(&refused);
        assert_eq!(code(&refused), expected, "{url}: {text}");
        assert!(text.matches(told).count() == 1 && !text.contains("s3cret"), "{text}");
        assert!(began.elapsed() < Duration::from_secs(12), "nobody waits for what waiting cannot mend");
    }
    let drifted = desk.run(&[&replay[..], &["--set", "broker.new_bytes_max=4711"]].concat()).await;
    let text = stderr(&drifted);
    assert!(code(&drifted) == 1 && text.contains("next:  orderfleet topology plan"), "{text}");
    assert_eq!(logged(&desk).await.len(), 0);
}

#[tokio::test]
async fn a_database_that_lets_nobody_in_is_told_from_one_that_is_down() {
    let desk = Desk::new().await;
    let refused = desk.database_uri().replacen("mongodb://", "mongodb://jo:s3cret@", 1);
    let absent = "mongodb://127.0.0.1:1/?replicaSet=rs0&serverSelectionTimeoutMS=500";
    for (uri, expected) in [(refused.as_str(), 5), (absent, 6), ("s3cret", 1)] {
        let output = desk.command(&["list"]).env("ORDERFLEET_MONGODB_URI", uri).output().await.unwrap();
        let told = stderr(&output);
        assert_eq!(code(&output), expected, "{told}");
        assert!(told.contains("next:") && !told.contains("s3cret"), "{told}");
    }
}

#[tokio::test]
async fn new_letters_are_printed_as_they_come_each_once() {
    let (desk, _) = desk().await;
    let mut watch = desk.command(&["watch", "--output", "jsonl"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(watch.stdout.take().unwrap()).lines();
    // Parked until one is seen: the watch looks from its start on.
    let mut parked = Vec::new();
    let first = loop {
        let key = format!("new-{}", parked.len());
        parked.push(desk.failed(&key, "x", SignedDuration::ZERO).await);
        if let Ok(line) = timeout(Duration::from_secs(1), printed.next_line()).await {
            break line.unwrap().unwrap();
        }
        assert!(parked.len() < 30, "nothing was printed");
    };
    let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    let mut seen = vec![id(&first)];
    while seen.last() != parked.last() {
        seen.push(id(&timeout(DEADLINE, printed.next_line()).await.unwrap().unwrap().unwrap()));
    }
    assert!(parked.ends_with(&seen), "{seen:?} of {parked:?}");
    let last = desk.failed("last", "x", SignedDuration::ZERO).await;
    let line = timeout(DEADLINE, printed.next_line()).await.unwrap().unwrap().unwrap();
    assert_eq!(id(&line), last);
    assert!(last.starts_with(order_id("last").as_str()));
    watch.kill().await.unwrap();
}
