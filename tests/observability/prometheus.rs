//! A real Prometheus that scrapes the fleet every second, and its HTTP API.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use orderfleet_native::{Launch, Ports, Process, last_lines};
use orderfleet_tests::until;
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::read;

/// Names a folder with `prometheus` and `promtool` in it.
const FOLDER_VARIABLE: &str = "ORDERFLEET_PROMETHEUS";
const SHIPPED_CONFIG: &str = "observability/prometheus/prometheus.yml";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
const RULES: &str = "rules.yml";

/// A running Prometheus. Dropping it kills it.
pub(crate) struct Prometheus {
    process: Process,
    pub(crate) api: Api,
    folder: PathBuf,
    jobs: Vec<String>,
}

/// What a Prometheus answers over HTTP.
#[derive(Clone)]
pub(crate) struct Api {
    url: Url,
    http: reqwest::Client,
}

/// An alerting or recording rule as Prometheus has it.
#[derive(Debug, Deserialize)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) query: String,
    /// `inactive`, `pending` or `firing`; empty for a recording rule.
    #[serde(default)]
    pub(crate) state: String,
    pub(crate) health: String,
    #[serde(default, rename = "lastError")]
    pub(crate) last_error: String,
}

/// What a query over a range of time found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) series: usize,
    /// That are numbers: a division of nothing by nothing shows nothing.
    pub(crate) samples: usize,
}

/// Where `prometheus` or `promtool` is: in the folder that `ORDERFLEET_PROMETHEUS` names, where `tools/setup.sh prometheus` has
/// unpacked Debian's package, or on PATH.
pub(crate) fn program(name: &str) -> PathBuf {
    let named = env::var_os(FOLDER_VARIABLE).map(PathBuf::from);
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    let unpacked = cache.map(|cache| cache.join("orderfleet/prometheus/usr/bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = named.into_iter().chain(unpacked).chain(env::split_paths(&path));
    let found = folders.map(|folder| folder.join(name)).find(|program| program.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is missing: run tools/setup.sh prometheus, or name its folder in {FOLDER_VARIABLE}")
    })
}

/// The jobs of the shipped configuration: ours scrapes the same, from other addresses.
fn shipped_jobs() -> Vec<String> {
    let config = read(SHIPPED_CONFIG);
    config.lines().filter_map(|line| line.trim().strip_prefix("- job_name: ")).map(str::to_owned).collect()
}

impl Prometheus {
    /// Starts it on these rules and waits until it answers. It scrapes nothing yet.
    pub(crate) async fn start(folder: &Path, rules: &str) -> Self {
        let jobs = shipped_jobs();
        fs::write(folder.join(RULES), rules).unwrap();
        fs::write(folder.join("prometheus.yml"), config(&jobs)).unwrap();
        let port = Ports::open(&folder.join("ports")).unwrap().take("prometheus").unwrap();
        let mut command = Command::new(program("prometheus"));
        command.current_dir(folder).args([
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            "--web.enable-lifecycle",
            "--log.level=warn",
            &format!("--web.listen-address=127.0.0.1:{port}"),
        ]);
        let log = folder.join("prometheus.log");
        let launch = Launch {
            name: "prometheus",
            command: &command,
            log: &log,
            lock: None,
            orphan_grace: Duration::ZERO,
        };
        let http = reqwest::Client::builder()
            .tls_certs_only([])
            .no_proxy()
            .timeout(REQUEST_TIMEOUT)
            .build()
            .unwrap();
        let api = Api { url: Url::parse(&format!("http://127.0.0.1:{port}")).unwrap(), http };
        let mut started =
            Self { process: Process::start(launch).unwrap(), api, folder: folder.to_owned(), jobs };
        started.scrape(&BTreeMap::new());
        started.until_ready().await;
        started
    }

    async fn until_ready(&mut self) {
        until("Prometheus is ready", async || {
            assert!(self.process.exited().unwrap().is_none(), "{}", last_lines(self.process.log(), 20));
            let answer = self.api.http.get(self.api.url.join("/-/ready").unwrap()).send().await;
            match answer {
                Ok(answer) if answer.status().is_success() => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Sets the addresses that each job scrapes; it notices within a second.
    pub(crate) fn scrape(&self, targets: &BTreeMap<String, Vec<String>>) {
        for job in targets.keys() {
            assert!(self.jobs.contains(job), "{SHIPPED_CONFIG} has no job {job}");
        }
        for job in &self.jobs {
            let addresses = targets.get(job).map_or(&[][..], Vec::as_slice);
            let file = self.folder.join(format!("{job}.json"));
            // Prometheus may look at any moment, and must not see half a file.
            let draft = file.with_extension("draft");
            fs::write(&draft, json!([{ "targets": addresses }]).to_string()).unwrap();
            fs::rename(draft, file).unwrap();
        }
    }

    /// Replaces the rules.
    pub(crate) async fn load_rules(&self, rules: &str) {
        fs::write(self.folder.join(RULES), rules).unwrap();
        let answer = self.api.http.post(self.api.url.join("/-/reload").unwrap()).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }
}

impl Api {
    /// Every rule, in the order of the file.
    pub(crate) async fn rules(&self) -> Vec<Rule> {
        let data = self.get("/api/v1/rules", &[]).await;
        let groups = data["groups"].as_array().unwrap().iter();
        let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
        rules.map(|rule| serde_json::from_value(rule.clone()).unwrap()).collect()
    }

    /// Evaluates an expression once a second from a moment until now.
    pub(crate) async fn range(&self, expression: &str, since: SystemTime) -> Found {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs().to_string();
        let (start, end) = (seconds(since), seconds(SystemTime::now()));
        let arguments = [("query", expression), ("start", &start), ("end", &end), ("step", "1")];
        let data = self.get("/api/v1/query_range", &arguments).await;
        let series = data["result"].as_array().unwrap();
        let samples = series.iter().flat_map(|one| one["values"].as_array().unwrap());
        Found { series: series.len(), samples: samples.filter(|sample| sample[1] != "NaN").count() }
    }

    /// How many targets are up, and how many there are.
    pub(crate) async fn targets(&self) -> (usize, usize) {
        let data = self.get("/api/v1/targets", &[("state", "active")]).await;
        let targets = data["activeTargets"].as_array().unwrap();
        (targets.iter().filter(|target| target["health"] == "up").count(), targets.len())
    }

    async fn get(&self, path: &str, arguments: &[(&str, &str)]) -> Value {
        let url = Url::parse_with_params(self.url.join(path).unwrap().as_str(), arguments).unwrap();
        let answer = self.http.get(url).send().await.unwrap().json::<Value>().await.unwrap();
        assert_eq!(answer["status"], "success", "{path} {arguments:?}: {answer}");
        answer["data"].clone()
    }
}

/// Every second instead of every quarter of a minute, and targets from files.
fn config(jobs: &[String]) -> String {
    let scrapes = jobs.iter().map(|job| {
        format!(
            "  - job_name: {job}\n    file_sd_configs:\n      - files: [{job}.json]\n        refresh_interval: 1s\n"
        )
    });
    let head = "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  evaluation_interval: 1s\n";
    format!("{head}rule_files: [{RULES}]\nscrape_configs:\n{}", scrapes.collect::<String>())
}
