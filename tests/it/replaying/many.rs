//! A hundred thousand dead letters: how long looking at them takes, and how much memory.

use std::{fs, process::Stdio, time::Duration};

use mongodb::{
    Collection,
    bson::{Binary, DateTime, Document, doc, spec::BinarySubtype},
};
use orderfleet_domain::OrderId;
use orderfleet_tests::Fleet;
use tokio::{
    io::AsyncReadExt as _,
    time::{Instant, sleep},
};

use super::{CHOSEN, fleet_with_letters};
use crate::{
    operator::{JO, command},
    scenarios::long,
};

const LETTERS: usize = 100_000;
const INSERTED_AT_ONCE: usize = 1_000;
const MEMORY_MIB_MAX: u64 = 256;
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// An order that failed, and its dead letter, under another key.
fn another(order: &Document, letter: &Document, number: usize) -> (Document, Document) {
    let key = format!("many-{number}").parse().unwrap();
    let id = OrderId::derive(&"eu1".parse().unwrap(), &"demo".parse().unwrap(), &key);
    let (mut order, mut letter) = (order.clone(), letter.clone());
    let old = order.insert("_id", id.as_str()).unwrap().as_str().unwrap().to_owned();
    let letter_id = letter.get_str("_id").unwrap().replace(&old, id.as_str());
    let body = String::from_utf8(letter.get_binary_generic("body").unwrap().clone()).unwrap();
    let body =
        Binary { subtype: BinarySubtype::Generic, bytes: body.replace(&old, id.as_str()).into_bytes() };
    let seen = letter.get_datetime("first_seen").unwrap().timestamp_millis() - i64::try_from(number).unwrap();
    letter.extend(doc! {
        "_id": letter_id, "order_id": id.as_str(), "body": body, "first_seen": DateTime::from_millis(seen),
    });
    (order, letter)
}

async fn only(collection: &Collection<Document>) -> Document {
    collection.find_one(doc! {}).await.unwrap().unwrap()
}

async fn insert_many(fleet: &Fleet) {
    let database = fleet.mongodb().await;
    let (orders, letters) = (database.collection("orders"), database.collection("dead_letters"));
    let (order, letter) = (only(&orders).await, only(&letters).await);
    for first in (1..LETTERS).step_by(INSERTED_AT_ONCE) {
        let numbers = first..LETTERS.min(first + INSERTED_AT_ONCE);
        let (some_orders, some_letters): (Vec<_>, Vec<_>) =
            numbers.map(|number| another(&order, &letter, number)).unzip();
        orders.insert_many(some_orders).await.unwrap();
        letters.insert_many(some_letters).await.unwrap();
    }
}

/// Peak of a process's memory so far, in MiB; `None` when it is gone.
fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1_024)
}

/// Runs a command that must succeed; prints, and returns, what it took.
async fn measured(fleet: &Fleet, arguments: &[&str]) -> (String, u64) {
    let began = Instant::now();
    let mut command = command(fleet, JO, arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (pid, mut out) = (child.id().unwrap(), child.stdout.take().unwrap());
    let read = tokio::spawn(async move {
        let mut text = String::new();
        out.read_to_string(&mut text).await.unwrap();
        text
    });
    let mut most = 0;
    let status = loop {
        most = peak(pid).map_or(most, |peak| peak.max(most));
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => sleep(LOOK_EVERY).await,
        }
    };
    let seconds = began.elapsed().as_secs_f64();
    eprintln!("{LETTERS} dead letters, {}: {seconds:.1} s, {most} MiB", arguments.join(" "));
    assert!(status.success(), "{arguments:?}: {status}");
    (read.await.unwrap(), most)
}

#[tokio::test]
async fn a_hundred_thousand_dead_letters_take_little_memory_to_look_at() {
    if !long() {
        eprintln!("left out; ORDERFLEET_LONG=1 runs it");
        return;
    }
    let (mut case, _) = fleet_with_letters(1).await;
    case.fleet.until_drained(&[]).await;
    case.fleet.stop_workers().await;
    let fleet = &case.fleet;
    insert_many(fleet).await;
    for (arguments, told) in [
        (&["dlq", "stats"][..], LETTERS.to_string()),
        (&["dlq", "list", "--limit", "20"][..], "attempts_exhausted".to_owned()),
        (&CHOSEN[..], LETTERS.to_string()),
        (&["dlq", "list", "--ids-only", "--limit", "100000"][..], "eu1-".to_owned()),
    ] {
        let (shown, most) = measured(fleet, arguments).await;
        assert!(shown.contains(&told), "{arguments:?}: {}", &shown[..shown.len().min(1_000)]);
        assert!(most < MEMORY_MIB_MAX, "{arguments:?} took {most} MiB");
    }
}
