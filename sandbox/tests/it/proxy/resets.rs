//! Faults that break connections for good: reset, and closing one half.

use super::support::{Bench, assert_reset, assert_silent, hits, receive, receive_rest, send};

#[tokio::test]
async fn a_reset_breaks_live_and_new_connections_until_it_is_healed() {
    let bench = Bench::start().await;
    let (mut client, mut target) = bench.connect().await;

    bench.set_fault(r#"{"kind":"reset"}"#);
    assert_reset(&mut client).await;
    assert_reset(&mut target).await;
    assert_reset(&mut bench.dial().await).await;
    assert_eq!(bench.hits("reset"), hits(2, 0));

    bench.link.heal();
    let (mut client, mut target) = bench.connect().await;
    send(&mut client, "hello").await;
    receive(&mut target, "hello").await;
    assert_eq!(bench.hits("reset"), hits(2, 0));
}

#[tokio::test]
async fn a_reset_by_hand_breaks_what_is_live_once_and_leaves_the_fault() {
    let bench = Bench::start().await;
    bench.set_fault(r#"{"kind":"delay","delay_ms":1}"#);
    let (mut first, mut first_target) = bench.connect().await;
    let (mut second, _second_target) = bench.connect().await;

    bench.link.reset();
    for end in [&mut first, &mut first_target, &mut second] {
        assert_reset(end).await;
    }
    assert_eq!(bench.hits("reset"), hits(2, 0));

    let (mut client, mut target) = bench.connect().await;
    send(&mut client, "hello").await;
    receive(&mut target, "hello").await;
    assert_eq!(bench.link.status().fault.unwrap().kind(), "delay");
}

#[tokio::test]
async fn half_closed_up_the_target_reads_the_end_and_can_still_answer() {
    let bench = Bench::start().await;
    let (mut client, mut target) = bench.connect().await;
    send(&mut client, "before").await;
    receive(&mut target, "before").await;

    bench.set_fault(r#"{"kind":"half_close","direction":"up"}"#);
    assert_eq!(receive_rest(&mut target).await, "");
    assert_eq!(bench.hits("half_close"), hits(1, 0));
    send(&mut target, "still here").await;
    receive(&mut client, "still here").await;

    bench.link.heal();
    send(&mut client, "too late").await;
    bench.until("it is thrown away", |bench| bench.hits("half_close") == hits(1, 8)).await;
    assert_eq!(receive_rest(&mut target).await, "");
}

#[tokio::test]
async fn half_closed_down_the_client_reads_the_end_and_can_still_ask() {
    let bench = Bench::start().await;
    bench.set_fault(r#"{"kind":"half_close","direction":"down"}"#);
    let (mut client, mut target) = bench.connect().await;

    assert_eq!(receive_rest(&mut client).await, "");
    send(&mut client, "question").await;
    receive(&mut target, "question").await;
    send(&mut target, "answer").await;

    bench.until("the answer is thrown away", |bench| bench.hits("half_close") == hits(1, 6)).await;
    assert_silent(&target);
}
