//! Faults that keep bytes from arriving: black holes and dropped replies.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Bench, assert_reset, assert_silent, hits, receive, receive_rest, send, soon};

#[tokio::test]
async fn a_black_hole_blocks_one_way_and_lets_all_of_it_pass_after_healing() {
    let bench = Bench::start().await;
    let (mut client, mut target) = bench.connect().await;

    bench.set_fault(r#"{"kind":"black_hole","direction":"up"}"#);
    send(&mut client, "first ").await;
    bench.until("the first bytes are withheld", |bench| bench.hits("black_hole") == hits(1, 6)).await;
    send(&mut client, "second").await;
    client.shutdown().await.unwrap();
    bench.until("all bytes are withheld", |bench| bench.hits("black_hole") == hits(1, 12)).await;
    send(&mut target, "unblocked").await;
    receive(&mut client, "unblocked").await;
    assert_silent(&target);

    bench.link.heal();
    assert_eq!(receive_rest(&mut target).await, "first second");
}

#[tokio::test]
async fn a_black_hole_both_ways_takes_new_connections_too() {
    let bench = Bench::start().await;
    bench.set_fault(r#"{"kind":"black_hole"}"#);
    let (mut client, mut target) = bench.connect().await;

    send(&mut client, "question").await;
    send(&mut target, "banner").await;
    bench.until("both are withheld", |bench| bench.hits("black_hole") == hits(1, 14)).await;
    assert_silent(&client);
    assert_silent(&target);

    bench.link.heal();
    receive(&mut target, "question").await;
    receive(&mut client, "banner").await;
}

#[tokio::test]
async fn a_black_hole_that_meets_no_traffic_has_hit_nothing() {
    let bench = Bench::start().await;
    let (mut client, mut target) = bench.connect().await;
    send(&mut client, "before").await;
    receive(&mut target, "before").await;

    bench.set_fault(r#"{"kind":"black_hole"}"#);
    bench.link.heal();
    send(&mut client, "after").await;
    receive(&mut target, "after").await;

    assert_eq!(bench.hits("black_hole"), hits(0, 0));
}

#[tokio::test]
async fn the_target_does_not_hear_that_a_client_behind_a_black_hole_is_gone() {
    let bench = Bench::start().await;
    let (client, mut target) = bench.connect().await;
    bench.set_fault(r#"{"kind":"black_hole","direction":"up"}"#);

    client.set_zero_linger().unwrap();
    drop(client);
    bench.until("the end is withheld", |bench| bench.hits("black_hole") == hits(1, 0)).await;
    // Bytes to a client that is gone fail in the proxy; the target must not hear of that either. The round
    // trip on another connection is there to give them time to fail.
    send(&mut target, "are you there?").await;
    let (mut other, mut other_target) = bench.connect().await;
    send(&mut other_target, "hello").await;
    receive(&mut other, "hello").await;
    assert_silent(&target);
    assert_eq!(bench.link.status().connections.live, 2);

    bench.link.heal();
    assert_reset(&mut target).await;
}

#[tokio::test]
async fn a_full_black_hole_slows_the_sender_down_and_loses_nothing() {
    const BYTES: usize = 32 * 1024 * 1024;
    let bench = Bench::start().await;
    let (mut client, mut target) = bench.connect().await;
    bench.set_fault(r#"{"kind":"black_hole"}"#);
    let sent: Vec<u8> = (0..BYTES).map(|position| u8::try_from(position % 251).unwrap()).collect();
    let expected = sent.clone();
    let sender = tokio::spawn(async move {
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
    });

    bench.until("it is full", |bench| bench.hits("black_hole").bytes >= 256 * 1024).await;
    assert!(bench.hits("black_hole").bytes <= 272 * 1024, "{:?}", bench.hits("black_hole"));
    assert!(!sender.is_finished());

    bench.link.heal();
    let mut received = Vec::with_capacity(BYTES);
    soon(target.read_to_end(&mut received)).await.unwrap();
    assert!(received == expected, "{} bytes of {BYTES}, or in another order", received.len());
    soon(sender).await.unwrap();
}

#[tokio::test]
async fn a_dropped_reply_is_never_seen_although_the_request_arrived() {
    let bench = Bench::start().await;
    let (mut client, mut target) = bench.connect().await;
    bench.set_fault(r#"{"kind":"drop_replies","close_after_ms":50}"#);

    send(&mut client, "pay").await;
    receive(&mut target, "pay").await;
    assert_eq!(bench.hits("drop_replies"), hits(0, 0));
    let began = Instant::now();
    send(&mut target, "paid").await;
    bench.until("the reply is thrown away", |bench| bench.hits("drop_replies") == hits(1, 4)).await;
    // A stream with a gap in it must not go on.
    bench.link.heal();

    assert_reset(&mut client).await;
    assert!(began.elapsed() >= Duration::from_millis(50));
    assert_reset(&mut target).await;
}

#[tokio::test]
async fn a_dropped_reply_hides_that_the_target_closed_after_it() {
    let bench = Bench::start().await;
    bench.set_fault(r#"{"kind":"drop_replies","close_after_ms":50}"#);
    let (mut client, mut target) = bench.connect().await;

    send(&mut client, "pay").await;
    receive(&mut target, "pay").await;
    send(&mut target, "paid").await;
    drop(target);

    assert_reset(&mut client).await;
    assert_eq!(bench.hits("drop_replies"), hits(1, 4));
}
