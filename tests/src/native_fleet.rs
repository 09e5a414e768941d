//! A whole fleet on this machine as `orderfleet up` runs it, with a broker and a database of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use reqwest::StatusCode;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{member, order};

/// From the call to the endpoints: a broker and a database start before.
const START_WITHIN: Duration = Duration::from_secs(180);
const STOP_WITHIN: Duration = Duration::from_secs(120);
const ORDER_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A running `orderfleet up`. Dropping it kills it, and with it what it runs.
#[derive(Debug)]
pub struct NativeFleet {
    process: Child,
    folder: PathBuf,
    http: reqwest::Client,
    endpoints: Value,
    key: String,
}

/// How long one order took, from the moment it was posted.
#[derive(Debug, Clone, Copy)]
pub struct Served {
    /// Until it was answered 202.
    pub accepted: Duration,
    /// Until a worker had stored it: it was consumed.
    pub consumed: Duration,
    /// Until it was DONE.
    pub done: Duration,
}

impl NativeFleet {
    /// Starts it in a folder with these flags, and waits until it is ready. What it says for people is in `up.log`.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn start(folder: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        let log = fs::File::create(folder.join("up.log")).context("up.log")?;
        let mut command = command(folder);
        command.arg("up").args(flags).args(["--output", "json"]).stdout(Stdio::piped()).stderr(log);
        let mut process = command.spawn().context("orderfleet up")?;
        let stdout = process.stdout.take().context("a pipe was asked for")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(START_WITHIN, lines.next_line()).await.context("not ready in time")??;
        let endpoints: Value = serde_json::from_str(&line.context("it ended; see up.log")?)?;
        let key_file = endpoints["api_key_file"].as_str().unwrap_or_default();
        let key = fs::read_to_string(key_file).context("the API key")?;
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build()?;
        Ok(Self { process, folder: folder.to_owned(), http, endpoints, key: key.trim().to_owned() })
    }

    /// What it says of its workers; null before it says anything.
    #[must_use]
    pub fn told(&self) -> Value {
        let text = fs::read(self.folder.join(".orderfleet/workers.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Whether no worker is wanted, and none runs.
    #[must_use]
    pub fn has_none(&self) -> bool {
        let told = self.told();
        ["wanted", "ready", "starting", "stopping"].iter().all(|field| told[field] == 0)
    }

    /// Its lines about workers, such as `workers: 0 to 1 (1 ready)`.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub fn changes(&self) -> anyhow::Result<Vec<String>> {
        let log = fs::read_to_string(self.folder.join("up.log")).context("up.log")?;
        let lines = log.lines().filter_map(|line| line.strip_prefix("up: workers: "));
        Ok(lines.map(str::to_owned).collect())
    }

    /// Runs another command about this fleet, with its output in the background.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(&self.folder);
        command.args(arguments);
        command
    }

    /// What a command prints as JSON, and its exit code.
    ///
    /// # Errors
    /// It cannot be run or prints something else.
    pub async fn cli(&self, arguments: &[&str]) -> anyhow::Result<(Option<i32>, Value)> {
        let output = self.command(arguments).args(["--output", "json"]).output().await?;
        let value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))?;
        Ok((output.status.code(), value))
    }

    /// Posts an order and follows it to its end.
    ///
    /// # Errors
    /// It is not accepted, or not DONE within a minute.
    pub async fn serve_one(&self, key: &str) -> anyhow::Result<Served> {
        let url = |name: &str| self.endpoints[name].as_str().unwrap_or_default().to_owned();
        let begun = Instant::now();
        let request = self.http.post(format!("{}/v1/orders", url("producer_url"))).bearer_auth(&self.key);
        let answer = request.header("Idempotency-Key", key).json(&order()).send().await?;
        ensure!(answer.status() == StatusCode::ACCEPTED, "{}", answer.text().await?);
        let accepted = begun.elapsed();
        let body: Value = answer.json().await?;
        let id = body["order_id"].as_str().context("a 202 names the order")?;
        let status = format!("{}/v1/orders/{id}", url("query_url"));
        let mut consumed = None;
        loop {
            let answer = self.http.get(&status).bearer_auth(&self.key).send().await?;
            if answer.status() == StatusCode::OK {
                let consumed = *consumed.get_or_insert_with(|| begun.elapsed());
                let order: Value = answer.json().await?;
                if order["status"] == "DONE" {
                    return Ok(Served { accepted, consumed, done: begun.elapsed() });
                }
            }
            ensure!(begun.elapsed() < ORDER_WITHIN, "{id} was not done in time");
            sleep(LOOK_EVERY).await;
        }
    }

    /// SIGINT, as by Ctrl-C, and waits for its end. Returns its last word on what its workers have cost, where it scales them.
    ///
    /// # Errors
    /// It does not end in time, or not in order.
    pub async fn stop(mut self) -> anyhow::Result<Option<String>> {
        let pid = self.process.id().context("it runs")?.to_string();
        Command::new("kill").args(["-INT", &pid]).status().await?;
        let ended = timeout(STOP_WITHIN, self.process.wait()).await.context("no end in time")??;
        ensure!(ended.code() == Some(0), "it ended with {ended}; see up.log");
        let log = fs::read_to_string(self.folder.join("up.log")).context("up.log")?;
        let usage = log.lines().rev().find(|line| line.contains("worker-seconds"));
        Ok(usage.map(|line| line.trim_start_matches("up: ").to_owned()))
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::from(member::command("orderfleet"));
    command.current_dir(folder).kill_on_drop(true).env("ORDERFLEET_OPERATOR", "jo");
    command
}
