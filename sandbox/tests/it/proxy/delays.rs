//! Faults that make bytes late: delay and trickle.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use super::support::{Bench, hits, receive, receive_rest, send};

#[tokio::test]
async fn a_delay_holds_each_way_and_keeps_the_order() {
    let bench = Bench::start().await;
    let (mut client, mut target) = bench.connect().await;
    bench.set_fault(r#"{"kind":"delay","delay_ms":60}"#);

    let began = Instant::now();
    for part in ["one ", "two ", "three"] {
        send(&mut client, part).await;
    }
    receive(&mut target, "one two three").await;
    assert!(began.elapsed() >= Duration::from_millis(60));
    send(&mut target, "answer").await;
    receive(&mut client, "answer").await;

    assert!(began.elapsed() >= Duration::from_millis(120));
    bench.until("all bytes are counted", |bench| bench.hits("delay") == hits(1, 19)).await;
}

#[tokio::test]
async fn a_delay_holds_for_the_end_of_the_stream_too() {
    let bench = Bench::start().await;
    let (mut client, mut target) = bench.connect().await;
    bench.set_fault(r#"{"kind":"delay","delay_ms":60}"#);

    let began = Instant::now();
    client.shutdown().await.unwrap();

    assert_eq!(receive_rest(&mut target).await, "");
    assert!(began.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn healing_lets_go_of_what_a_long_delay_holds() {
    let bench = Bench::start().await;
    let (mut client, mut target) = bench.connect().await;
    bench.set_fault(r#"{"kind":"delay","delay_ms":600000}"#);
    send(&mut client, "late").await;

    bench.link.heal();

    receive(&mut target, "late").await;
}

#[tokio::test]
async fn a_trickle_passes_everything_at_its_rate() {
    let bench = Bench::start().await;
    let (mut client, mut target) = bench.connect().await;
    bench.set_fault(r#"{"kind":"trickle","bytes_per_s":100}"#);

    let began = Instant::now();
    send(&mut client, "0123456789abcdefghijklmnopqrst").await;
    receive(&mut target, "0123456789abcdefghijklmnopqrst").await;

    // Thirty bytes are six pieces with five pauses of 50 ms between them.
    assert!(began.elapsed() >= Duration::from_millis(250));
    bench.until("all bytes are counted", |bench| bench.hits("trickle") == hits(1, 30)).await;
}
