//! A replica set of three is whole when it is returned, survives its members, and can be led through proxies.

use std::net::SocketAddr;
use std::time::Duration;

use orderfleet_native::{MemberState, MongoSet, MongoSetOptions, Signal};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// State of a member that does not find itself in the set's configuration.
const REMOVED: i32 = 10;
const DEADLINE: Duration = Duration::from_secs(60);

async fn eventually_is(set: &MongoSet, member: usize, state: MemberState) {
    let deadline = Instant::now() + DEADLINE;
    while set.members().await[member].state != state {
        assert!(Instant::now() < deadline, "member {member} is {state} in time: {:?}", set.members().await);
        sleep(Duration::from_millis(20)).await;
    }
}

/// Passes bytes on to a port while its gate is open; closing the gate cuts what is connected.
struct Proxy {
    address: SocketAddr,
    gate: watch::Sender<bool>,
}

impl Proxy {
    async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("some port is free");
        let address = listener.local_addr().expect("it is bound");
        let (gate, open) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, port, open.clone()));
            }
        });
        Self { address, gate }
    }
}

async fn pass_on(mut client: TcpStream, port: u16, mut open: watch::Receiver<bool>) {
    if !*open.borrow() {
        return;
    }
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = open.wait_for(|open| !open) => {}
    }
}

#[tokio::test]
async fn a_set_is_whole_and_has_another_primary_after_a_step_down_and_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = MongoSet::start(dir.path(), MongoSetOptions::default()).await.unwrap();
    let first = set.until_primary_after(-1).await.unwrap();
    let uri = set.uri();
    assert_eq!(uri.matches("127.0.0.1:").count(), 3, "{uri}");

    let step_down = set.step_down().await.unwrap();
    assert_eq!(step_down.old.member, first.member);
    assert_ne!(step_down.new.member, first.member);
    assert!(step_down.new.term > first.term, "{step_down:?}");

    set.until_whole().await.unwrap();
    let killed = set.kill(step_down.new.member).await.unwrap();
    assert_eq!((killed.was.state, killed.status.code()), (MemberState::Primary, Some(128 + 9)));
    assert_eq!(set.members().await[killed.was.member].state, MemberState::Down);
    let third = set.until_primary_after(step_down.new.term).await.unwrap();
    assert_ne!(third.member, killed.was.member);

    let restarted = set.restart(killed.was.member).await.unwrap();
    assert_eq!(restarted.port, killed.was.port);
    let back = set.until_settled(killed.was.member).await.unwrap();
    assert_eq!((back.state, set.uri()), (MemberState::Secondary, uri));
    set.stop().await.unwrap();
    set.stop().await.expect("a second stop does nothing");
    assert_eq!(set.primary().await, None);
}

#[tokio::test]
async fn a_stopped_primary_is_replaced_and_rejoins_once_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = MongoSet::start(dir.path(), MongoSetOptions::default()).await.unwrap();
    let first = set.until_primary_after(-1).await.unwrap();
    let stopped = set.signal(first.member, Signal::Stop).await.unwrap();
    assert_eq!(stopped.state, MemberState::Silent);
    let second = set.until_primary_after(first.term).await.unwrap();
    assert_ne!(second.member, first.member);

    set.signal(first.member, Signal::Continue).await.unwrap();
    let members = set.until_whole().await.unwrap();
    assert!(members.iter().all(|member| member.term > first.term), "{members:?}");
}

#[tokio::test]
async fn members_and_drivers_reach_each_other_only_through_the_advertised_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = MongoSet::start_members(dir.path(), MongoSetOptions::default()).await.unwrap();
    assert!(set.members().await.iter().all(|member| member.state == MemberState::Unsettled(-1)));

    let [a, b, c] = set.ports();
    let proxies = [Proxy::before(a).await, Proxy::before(b).await, Proxy::before(c).await];
    let addresses = proxies.each_ref().map(|proxy| proxy.address);
    set.initiate(addresses).await.unwrap();
    for address in addresses {
        assert!(set.uri().contains(&address.to_string()), "{}", set.uri());
    }

    let cut_off = set.until_primary_after(-1).await.unwrap();
    proxies[cut_off.member].gate.send_replace(false);
    let successor = set.until_primary_after(cut_off.term).await.unwrap();
    assert_ne!(successor.member, cut_off.member, "the others cannot reach it");

    set.kill(cut_off.member).await.unwrap();
    set.restart(cut_off.member).await.unwrap();
    eventually_is(&set, cut_off.member, MemberState::Unsettled(REMOVED)).await;
    proxies[cut_off.member].gate.send_replace(true);
    set.until_whole().await.unwrap();
}

#[tokio::test]
async fn a_later_start_finds_the_set_and_its_addresses_can_be_changed() {
    let dir = tempfile::tempdir().unwrap();
    let mut set = MongoSet::start(dir.path(), MongoSetOptions::default()).await.unwrap();
    let (ports, term) = (set.ports(), set.until_primary_after(-1).await.unwrap().term);
    set.stop().await.unwrap();
    drop(set);

    let mut set = MongoSet::start_members(dir.path(), MongoSetOptions::default()).await.unwrap();
    assert_eq!(set.ports(), ports);
    let proxies =
        [Proxy::before(ports[0]).await, Proxy::before(ports[1]).await, Proxy::before(ports[2]).await];
    set.initiate(proxies.each_ref().map(|proxy| proxy.address)).await.unwrap();
    assert!(set.until_primary_after(-1).await.unwrap().term > term, "it is the same set, later");
}
