//! The CLI in the hands of operators: run to its end, or left running.

use std::process::{Output, Stdio};

use orderfleet_tests::Fleet;
use serde_json::Value;
use tokio::process::{Child, Command};

/// Who acts where nobody else is named.
pub(crate) const JO: &str = "jo";

/// What a run of the CLI has printed.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The result, which is the only line of standard output.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{}{}", self.stdout, self.stderr);
        serde_json::from_str(&self.stdout).unwrap()
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// A command about this fleet.
pub(crate) fn command(fleet: &Fleet, who: &str, arguments: &[&str]) -> Command {
    let mut command = fleet.cli(&[arguments, &["--config", "orderfleet.toml"]].concat());
    command.env("ORDERFLEET_OPERATOR", who);
    command
}

/// Runs a command to its end.
pub(crate) async fn run_as(fleet: &Fleet, who: &str, arguments: &[&str]) -> Ran {
    command(fleet, who, arguments).output().await.unwrap().into()
}

/// As [`run_as`], by `jo`.
pub(crate) async fn run(fleet: &Fleet, arguments: &[&str]) -> Ran {
    run_as(fleet, JO, arguments).await
}

/// Runs a command that must succeed, and reads its result.
pub(crate) async fn read(fleet: &Fleet, arguments: &[&str]) -> Value {
    let ran = run(fleet, &[arguments, &["--output", "json"]].concat()).await;
    assert_eq!(ran.code, Some(0), "{arguments:?}: {}{}", ran.stdout, ran.stderr);
    ran.json()
}

/// Starts a command and leaves it running. Dropping it kills it.
pub(crate) fn begin(fleet: &Fleet, who: &str, arguments: &[&str]) -> Child {
    let mut command = command(fleet, who, arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Ctrl-C.
pub(crate) async fn interrupt(child: &Child) {
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
}
