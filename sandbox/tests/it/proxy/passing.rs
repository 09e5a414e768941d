//! What a link does without a fault.

use orderfleet_sandbox::proxy::{Bytes, FaultProxy, LinkSpec, ProxyOptions};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::support::{Bench, assert_reset, hits, receive, receive_rest, send, soon};

#[tokio::test]
async fn bytes_pass_both_ways_and_are_counted() {
    let bench = Bench::start().await;
    let (mut client, mut target) = bench.connect().await;

    send(&mut client, "question").await;
    receive(&mut target, "question").await;
    send(&mut target, "answers").await;
    receive(&mut client, "answers").await;

    bench.until("both are counted", |bench| bench.link.status().bytes == Bytes { up: 8, down: 7 }).await;
    let status = bench.link.status();
    assert_eq!((status.connections.live, status.connections.accepted), (1, 1));
    assert!(status.hits.values().all(|hit| *hit == hits(0, 0)));
}

#[tokio::test]
async fn the_end_of_one_direction_passes_and_the_other_goes_on() {
    let bench = Bench::start().await;
    let (mut client, mut target) = bench.connect().await;

    send(&mut client, "last words").await;
    client.shutdown().await.unwrap();
    assert_eq!(receive_rest(&mut target).await, "last words");
    send(&mut target, "reply").await;
    target.shutdown().await.unwrap();

    assert_eq!(receive_rest(&mut client).await, "reply");
    bench.until("the connection is gone", |bench| bench.link.status().connections.live == 0).await;
}

#[tokio::test]
async fn a_reset_by_one_end_reaches_the_other() {
    let bench = Bench::start().await;
    let (client, mut target) = bench.connect().await;

    client.set_zero_linger().unwrap();
    drop(client);

    assert_reset(&mut target).await;
}

#[tokio::test]
async fn a_client_whose_target_is_away_is_reset_and_counted() {
    let bench = Bench::start().await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let spec = LinkSpec::on_free_port("away", gone.to_string());
    let proxy = FaultProxy::start(ProxyOptions::on_free_port(vec![spec])).await.unwrap();
    let link = proxy.link("away").unwrap();

    let mut client = soon(TcpStream::connect(link.address())).await.unwrap();

    assert_reset(&mut client).await;
    assert_eq!(link.status().connections.unreachable, 1);
    assert_eq!(bench.link.status().connections.unreachable, 0);
}

#[tokio::test]
async fn a_stopped_proxy_ends_its_connections_and_frees_its_ports() {
    let Bench { proxy, link, .. } = {
        let bench = Bench::start().await;
        let (mut client, mut target) = bench.connect().await;
        send(&mut client, "x").await;
        receive(&mut target, "x").await;
        bench
    };
    let control = proxy.control();

    soon(proxy.shutdown()).await;

    assert!(TcpStream::connect(link.address()).await.is_err());
    assert!(TcpStream::connect(control).await.is_err());
    assert_eq!(link.status().connections.live, 0);
}
