//! A proxy with one link, and both ends of the connections through it.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use orderfleet_sandbox::proxy::{Fault, FaultProxy, Hits, Link, LinkSpec, ProxyOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// Far beyond what anything takes; a test that reaches it fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Bench {
    pub(crate) proxy: FaultProxy,
    pub(crate) link: Arc<Link>,
    target: TcpListener,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        let target = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let spec = LinkSpec::on_free_port("shop", target.local_addr().expect("it listens").to_string());
        let proxy =
            FaultProxy::start(ProxyOptions::on_free_port(vec![spec])).await.expect("the proxy starts");
        let link = Arc::clone(proxy.link("shop").expect("the link is there"));
        Self { proxy, link, target }
    }

    /// A connection through the link: the client's end and the target's.
    pub(crate) async fn connect(&self) -> (TcpStream, TcpStream) {
        let (client, target) = tokio::join!(self.dial(), soon(self.target.accept()));
        (client, target.expect("the target accepts").0)
    }

    /// A connection to the link, whether it gets on to the target or not.
    pub(crate) async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.link.address()).await.expect("the link accepts")
    }

    pub(crate) fn set_fault(&self, json: &str) {
        self.link.set_fault(Fault::from_json(json.as_bytes()).expect("the test's fault is right"));
    }

    pub(crate) fn hits(&self, kind: &str) -> Hits {
        self.link.status().hits[kind]
    }

    /// Waits until the link's status is as wanted.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !is_so(self) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        let outcome = timeout(DEADLINE, waiting).await;
        assert!(outcome.is_ok(), "waited in vain until {what}: {:?}", self.link.status());
    }
}

pub(crate) fn hits(connections: u64, bytes: u64) -> Hits {
    Hits { connections, bytes }
}

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("it happens in time")
}

pub(crate) async fn send(end: &mut TcpStream, text: &str) {
    soon(end.write_all(text.as_bytes())).await.expect("it can be sent");
}

pub(crate) async fn receive(end: &mut TcpStream, text: &str) {
    let mut received = vec![0; text.len()];
    soon(end.read_exact(&mut received)).await.expect("it arrives");
    assert_eq!(received, text.as_bytes());
}

/// Everything until the end of the stream.
pub(crate) async fn receive_rest(end: &mut TcpStream) -> String {
    let mut rest = String::new();
    soon(end.read_to_string(&mut rest)).await.expect("the stream ends");
    rest
}

/// That there is nothing to read, not even the end of the stream.
pub(crate) fn assert_silent(end: &TcpStream) {
    assert_eq!(end.try_read(&mut [0; 1]).expect_err("it is silent").kind(), ErrorKind::WouldBlock);
}

pub(crate) async fn assert_reset(end: &mut TcpStream) {
    let mut received = Vec::new();
    let outcome = soon(end.read_to_end(&mut received)).await;
    assert_eq!(outcome.expect_err("it is reset").kind(), ErrorKind::ConnectionReset);
    assert_eq!(received, b"");
}
