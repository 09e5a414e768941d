//! The control API, and the binary's command line.

use std::process::Stdio;

use orderfleet_sandbox::proxy::{FaultProxy, LinkSpec, ProxyOptions};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::support::{Bench, DEADLINE, assert_reset, receive, send, soon};
use crate::support::answer;

impl Bench {
    async fn control(&self, method: Method, path: &str, body: &str) -> (StatusCode, Value) {
        let url = format!("http://{}{path}", self.proxy.control());
        answer(reqwest::Client::new().request(method, url).timeout(DEADLINE).body(body.to_owned())).await
    }
}

#[tokio::test]
async fn a_link_is_listed_with_its_fault_and_the_evidence() {
    let bench = Bench::start().await;
    let (mut client, mut target) = bench.connect().await;
    send(&mut client, "four").await;
    receive(&mut target, "four").await;
    let fault = r#"{"kind":"black_hole","direction":"down"}"#;

    let (status, set) = bench.control(Method::PUT, "/links/shop/fault", fault).await;
    assert_eq!(status, StatusCode::OK, "{set}");
    send(&mut target, "gone").await;
    bench.until("it is withheld", |bench| bench.hits("black_hole").bytes == 4).await;

    let listed = bench.control(Method::GET, "/links", "").await.1;
    let none = json!({ "connections": 0, "bytes": 0 });
    let expected = json!([{
        "name": "shop", "listen": bench.link.address(), "target": bench.link.target(),
        "fault": { "kind": "black_hole", "direction": "down" },
        "connections": { "live": 1, "accepted": 1, "unreachable": 0 },
        "bytes": { "up": 4, "down": 0 },
        "hits": {
            "reset": none, "black_hole": { "connections": 1, "bytes": 4 }, "delay": none,
            "half_close": none, "drop_replies": none, "trickle": none,
        },
    }]);
    assert_eq!(listed, expected);

    assert_eq!(bench.control(Method::DELETE, "/links/shop/fault", "").await.1["fault"], Value::Null);
    receive(&mut client, "gone").await;
    bench.control(Method::POST, "/links/shop/reset", "").await;
    assert_reset(&mut client).await;
    assert_eq!(bench.control(Method::GET, "/links/shop", "").await.1["hits"]["reset"]["connections"], 1);
}

#[tokio::test]
async fn a_wrong_fault_is_refused_and_changes_nothing() {
    let bench = Bench::start().await;
    let cases = [
        ("", "EOF while parsing"),
        (r#"{"kind":"blackhole"}"#, "unknown variant `blackhole`, expected one of `reset`, `black_hole`"),
        (r#"{"kind":"reset","direction":"up"}"#, "unknown field `direction`"),
        (r#"{"kind":"black_hole","direction":"left"}"#, "unknown variant `left`, expected one of `up`"),
        (r#"{"kind":"half_close"}"#, "missing field `direction`"),
        (r#"{"kind":"delay","delay":5}"#, "unknown field `delay`, expected `delay_ms`"),
        (r#"{"kind":"delay","delay_ms":600001}"#, "delay_ms: must be at most 600000"),
        (r#"{"kind":"drop_replies","close_after_ms":600001}"#, "close_after_ms: must be at most 600000"),
        (r#"{"kind":"trickle","bytes_per_s":0}"#, "invalid value: integer `0`"),
    ];
    for (fault, problem) in cases {
        let (status, body) = bench.control(Method::PUT, "/links/shop/fault", fault).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{fault}: {body}");
        assert!(body["error"].as_str().unwrap().contains(problem), "{fault}: {body}");
    }
    assert_eq!(bench.link.status().fault, None);
}

#[tokio::test]
async fn an_unknown_link_or_path_is_not_found() {
    let bench = Bench::start().await;
    for (method, path) in
        [(Method::PUT, "/links/shoe/fault"), (Method::POST, "/links/shoe/reset"), (Method::GET, "/link")]
    {
        assert_eq!(bench.control(method, path, "").await.0, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(bench.control(Method::GET, "/healthz", "").await, (StatusCode::OK, json!({ "status": "ok" })));
}

#[tokio::test]
async fn two_links_of_one_name_and_a_control_api_for_everybody_are_refused() {
    let link = || LinkSpec::on_free_port("shop", "127.0.0.1:1");
    let twice = ProxyOptions::on_free_port(vec![link(), link()]);
    let error = FaultProxy::start(twice).await.err().expect("the start fails");
    assert_eq!(error.to_string(), "there are two links shop");

    let exposed = ProxyOptions { links: vec![link()], control: "0.0.0.0:0".parse().unwrap() };
    let error = FaultProxy::start(exposed).await.err().expect("the start fails");
    assert!(error.to_string().starts_with("the control API must listen on the loopback interface"));
}

#[test]
fn a_wrong_link_is_named() {
    let cases = [
        ("broker", "write NAME=LISTEN=TARGET"),
        ("a b=0=127.0.0.1:1", "NAME must be"),
        ("broker=localhost=127.0.0.1:1", "LISTEN must be"),
        ("broker=0=127.0.0.1", "TARGET must be host:port"),
        ("broker=0=127.0.0.1:0", "TARGET must be host:port"),
    ];
    for (text, problem) in cases {
        let error = text.parse::<LinkSpec>().unwrap_err().to_string();
        assert!(error.starts_with(problem), "{text}: {error}");
    }
}

#[tokio::test]
async fn the_binary_prints_where_each_link_listens_and_ends_cleanly() {
    let bench = Bench::start().await;
    let target = bench.link.address();
    let mut child = Command::new(env!("CARGO_BIN_EXE_orderfleet-fault-proxy"))
        .args(["--control", "127.0.0.1:0", "--link", &format!("a=0={target}")])
        .args(["--link", &format!("b=127.0.0.1:0={target}")])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut line = async || soon(lines.next_line()).await.unwrap().unwrap();
    let a = line().await;
    let b = line().await;
    let control = line().await;

    assert!(a.starts_with("link a listening on 127.0.0.1:"), "{a}");
    assert!(b.starts_with("link b listening on 127.0.0.1:"), "{b}");
    let url = control.strip_prefix("fault proxy control on ").unwrap();
    let listed: Value = reqwest::get(format!("{url}/links")).await.unwrap().json().await.unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2);

    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    assert_eq!(soon(child.wait()).await.unwrap().code(), Some(0));
}
