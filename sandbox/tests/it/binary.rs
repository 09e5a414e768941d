//! The binary: what it prints, and how it ends.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

const DEADLINE: Duration = Duration::from_secs(20);

fn sandbox(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orderfleet-sandbox"));
    command.args(arguments).env("RUST_LOG", "info").stderr(Stdio::piped()).kill_on_drop(true);
    command
}

fn started() -> (Child, Lines<BufReader<ChildStderr>>) {
    let mut child = sandbox(&["--listen", "127.0.0.1:0"]).spawn().expect("the binary starts");
    let stderr = child.stderr.take().expect("stderr is piped");
    (child, BufReader::new(stderr).lines())
}

async fn stopped_by(signal: &str, child: &mut Child) -> ExitStatus {
    let pid = child.id().expect("it still runs").to_string();
    let sent = Command::new("kill").args([signal, &pid]).status().await.expect("kill runs");
    assert!(sent.success());
    tokio::time::timeout(DEADLINE, child.wait())
        .await
        .expect("it ends in time")
        .expect("it can be waited for")
}

#[tokio::test]
async fn it_prints_its_address_and_ends_cleanly_on_sigterm_and_sigint() {
    for signal in ["-TERM", "-INT"] {
        let (mut child, mut lines) = started();
        let line = tokio::time::timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap();
        let url = line.strip_prefix("sandbox listening on ").expect("the line names the address");

        let health = reqwest::get(format!("{url}/healthz")).await.unwrap();
        assert!(health.status().is_success());

        assert_eq!(stopped_by(signal, &mut child).await.code(), Some(0));
    }
}

#[tokio::test]
async fn a_wrong_flag_ends_it_with_an_error_that_names_the_field() {
    let output = sandbox(&["--fault", "inventory:latency_ms=soon"]).output().await.unwrap();

    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("latency_ms: invalid type: string \"soon\""), "{stderr}");
}
