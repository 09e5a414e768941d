//! A running service with a database of its own and keys for two accounts.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use orderfleet_domain::{
    Fingerprint, Order, OrderId,
    saga::{Nonce, Record, StoreReply, WorkerId},
};
use orderfleet_native::TempFolder;
use orderfleet_runtime::keys;
use orderfleet_storage::{DatabaseSettings, Store};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(30);

/// The service, ended when dropped.
pub(crate) struct Service {
    pub(crate) database: DatabaseSettings,
    pub(crate) key: String,
    pub(crate) foreign_key: String,
    url: String,
    admin_url: String,
    http: Client,
    child: Child,
    _folder: TempFolder,
}

impl Service {
    /// Starts the service on a database of its own on the server at `uri`.
    pub(crate) async fn start(uri: &str) -> Self {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let name = format!("query_test_{}_{number}", std::process::id());
        let database =
            DatabaseSettings { uri: uri.to_owned(), name, timeout_ms: 2_000, ..DatabaseSettings::default() };
        let folder = TempFolder::new().unwrap();
        let keys_file = folder.path().join("keys.toml");
        let key = keys::create(&keys_file, "demo", "eu1").unwrap();
        let foreign_key = keys::create(&keys_file, "other", "eu1").unwrap();
        let log = folder.path().join("log");
        let mut child = spawn(&database, &keys_file, &log);
        let [listen, admin_listen] = until_it_listens(&mut child, &log).await;
        let http = Client::builder().tls_certs_only([]).no_proxy().pool_max_idle_per_host(0).build().unwrap();
        Self {
            database,
            key,
            foreign_key,
            url: format!("http://{listen}"),
            admin_url: format!("http://{admin_listen}"),
            http,
            child,
            _folder: folder,
        }
    }

    pub(crate) async fn store(&self) -> Store {
        let store = Store::connect(&self.database, "query-test").await.unwrap();
        store.prepare().await.unwrap();
        store
    }

    pub(crate) async fn order(&self, order_id: &str, key: &str) -> Response {
        let request = self.http.get(format!("{}/v1/orders/{order_id}", self.url));
        request.bearer_auth(key).send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.http.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    pub(crate) async fn admin(&self, path: &str) -> Response {
        self.http.get(format!("{}{path}", self.admin_url)).send().await.unwrap()
    }

    /// Waits until `/readyz` on the admin port answers this.
    pub(crate) async fn until_ready_is(&mut self, status: StatusCode) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let answer = self.http.get(format!("{}/readyz", self.admin_url)).send().await;
            if answer.is_ok_and(|answer| answer.status() == status) {
                return;
            }
            assert_eq!(self.child.try_wait().unwrap(), None, "the service has ended");
            assert!(Instant::now() < deadline, "/readyz answers {status} in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks the service to end, and waits for its exit code.
    pub(crate) async fn terminate(&mut self) -> Option<i32> {
        let killed = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(killed.success());
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the service ends in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// On ports of the system's choice: a port that is looked up first may be taken before the service listens.
fn spawn(database: &DatabaseSettings, keys_file: &Path, log: &Path) -> Child {
    let set = [
        "query.listen=127.0.0.1:0".to_owned(),
        "query.admin_listen=127.0.0.1:0".to_owned(),
        format!("query.keys_file={}", keys_file.display()),
        format!("database.uri={}", database.uri),
        format!("database.name={}", database.name),
        format!("database.timeout_ms={}", database.timeout_ms),
    ];
    let log = File::create(log).unwrap();
    Command::new(env!("CARGO_BIN_EXE_orderfleet-query"))
        .args(set.iter().flat_map(|setting| ["--set", setting]))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// What the service logs about where it listens: for requests, and for operators.
async fn until_it_listens(child: &mut Child, log: &Path) -> [SocketAddr; 2] {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let text = fs::read_to_string(log).unwrap();
        if let Some(addresses) = text.lines().find_map(addresses) {
            return addresses;
        }
        assert_eq!(child.try_wait().unwrap(), None, "the service has ended:\n{text}");
        assert!(Instant::now() < deadline, "the service says in time where it listens:\n{text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn addresses(line: &str) -> Option<[SocketAddr; 2]> {
    let line: Value = serde_json::from_str(line).ok()?;
    let address = |field: &str| line.get(field)?.as_str()?.parse().ok();
    Some([address("listen")?, address("admin_listen")?])
}

pub(crate) fn order_id(account: &str, key: &str) -> OrderId {
    OrderId::derive(&"eu1".parse().unwrap(), &account.parse().unwrap(), &key.parse().unwrap())
}

pub(crate) fn order() -> Order {
    let text = r#"{"channel":"retail","currency":"GBP","payment_ref":"pay_1",
        "ship_to":{"name":"A. Person","line1":"1 Secret Road","country":"GB"},
        "lines":[{"sku":"85123A","quantity":6,"unit_price":"2.55"},{"sku":"71053","quantity":1,"unit_price":"0.001"}]}"#;
    serde_json::from_str(text).unwrap()
}

pub(crate) fn first() -> Record {
    let steps = ["inventory", "fulfilment", "accounting"].map(|name| name.parse().unwrap()).to_vec();
    Record::first(Fingerprint::of(&order()), steps, WorkerId("w1".into()), 0, Nonce(1))
}

/// Stores an order of the account `demo`.
pub(crate) async fn insert(store: &Store, key: &str, record: &Record) -> OrderId {
    let (id, accepted_at) = (order_id("demo", key), Timestamp::UNIX_EPOCH);
    let reply = store.insert(&id, &"demo".parse().unwrap(), &order(), accepted_at, record).await;
    assert_eq!(reply, StoreReply::Applied);
    id
}
