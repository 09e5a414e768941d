//! The servers start, stop, crash, restart and never outlive the process that started them.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use orderfleet_native::{Error, Launch, Mongo, MongoOptions, Process, RabbitMq, RabbitMqOptions, Signal};
use tokio::time::{Instant, sleep};

const DEADLINE: Duration = Duration::from_secs(60);

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "in time: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn port_of(url: &str) -> u16 {
    let place = url.split("127.0.0.1:").nth(1).and_then(|rest| rest.split('/').next());
    place.and_then(|port| port.parse().ok()).expect("our URLs name a port on 127.0.0.1")
}

fn listens(url: &str) -> bool {
    TcpStream::connect(("127.0.0.1", port_of(url))).is_ok()
}

/// Ids of the processes that mention `folder` in their arguments or work in it, zombies left out.
fn processes_in(folder: &Path) -> Vec<String> {
    let concerns = |process: &PathBuf| {
        let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
        let works_there = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        works_there || String::from_utf8_lossy(&arguments).contains(&*folder.to_string_lossy())
    };
    let processes = fs::read_dir("/proc").expect("Linux has /proc").flatten().map(|entry| entry.path());
    let is_id = |path: &PathBuf| path.to_string_lossy().trim_start_matches("/proc/").parse::<u32>().is_ok();
    processes.filter(is_id).filter(concerns).map(|path| path.display().to_string()).collect()
}

#[tokio::test]
async fn a_broker_keeps_its_address_over_a_stop_and_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a folder with spaces");
    let mut broker = RabbitMq::start(&folder, RabbitMqOptions::default()).await.unwrap();
    let url = broker.amqp_url();
    assert!(listens(&url));
    assert!(broker.rabbitmqctl(&["list_queues"]).await.unwrap().contains("Listing queues"));
    let refused = broker.rabbitmqctl(&["no_such_command"]).await;
    assert!(matches!(refused, Err(Error::Command { .. })), "{refused:?}");

    broker.kill().await.unwrap();
    assert!(!listens(&url));
    broker.restart().await.unwrap();
    assert!(listens(&url) && broker.amqp_url() == url);

    broker.stop().await.unwrap();
    broker.stop().await.expect("a second stop does nothing");
    assert!(!listens(&url));
    eventually("nothing is left running", || processes_in(&folder).is_empty()).await;

    let broker = RabbitMq::start(&folder, RabbitMqOptions::default()).await.unwrap();
    assert_eq!(broker.amqp_url(), url, "a later start in the same folder");
}

#[tokio::test]
async fn a_database_keeps_its_address_over_a_stop_and_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = Mongo::start(dir.path(), MongoOptions::default()).await.unwrap();
    let uri = database.uri();
    assert!(listens(&uri));

    database.kill().await.unwrap();
    assert!(!listens(&uri));
    database.restart().await.unwrap();
    assert!(listens(&uri) && database.uri() == uri);

    database.stop().await.unwrap();
    database.stop().await.expect("a second stop does nothing");
    assert!(!listens(&uri));
}

#[tokio::test]
async fn a_database_moves_to_another_port_when_its_own_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = Mongo::start(dir.path(), MongoOptions::default()).await.unwrap();
    let uri = database.uri();
    database.stop().await.unwrap();

    let taken = TcpListener::bind(("127.0.0.1", port_of(&uri))).unwrap();
    std::thread::spawn(move || taken.incoming().for_each(drop));
    let moved = Mongo::start(dir.path(), MongoOptions::default()).await.unwrap();
    assert_ne!(moved.uri(), uri);
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("data")).unwrap();
    fs::write(dir.path().join("data/storage.bson"), "not a database").unwrap();
    let error = Mongo::start(dir.path(), MongoOptions::default()).await.unwrap_err();
    assert!(matches!(&error, Error::Ended { .. }), "{error:?}");
    assert!(error.to_string().contains("storage_engine_metadata"), "{error}");
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_is_killed_after_its_grace() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]);
    let launch =
        Launch { name: "stubborn", command: &command, log: &log, lock: None, orphan_grace: Duration::ZERO };
    let mut process = Process::start(launch).unwrap();
    eventually("it runs", || fs::read_to_string(&log).is_ok_and(|text| text.contains("ready"))).await;

    let status = process.stop(Duration::from_millis(200)).await.unwrap();
    assert_eq!(status.code(), Some(128 + 9));
    process.signal(Signal::Term);
}

/// The command under `with-services` prints its services and stays; then `with-services` is killed.
#[tokio::test]
async fn servers_and_their_folder_are_gone_after_the_parent_is_killed() {
    let temp = tempfile::tempdir().unwrap();
    let mut parent = Command::new(env!("CARGO_BIN_EXE_with-services"))
        .args(["sh", "-c", "echo \"$ORDERFLEET_AMQP_URL $ORDERFLEET_MONGODB_URI\"; exec cat"])
        .env("TMPDIR", temp.path())
        .env_remove("ORDERFLEET_AMQP_URL")
        .env_remove("ORDERFLEET_MONGODB_URI")
        .stdin(Stdio::piped())
        .stdout(fs::File::create(temp.path().join("urls")).unwrap())
        .spawn()
        .unwrap();
    let urls = || fs::read_to_string(temp.path().join("urls")).unwrap();
    eventually("services are up", || {
        assert_eq!(parent.try_wait().unwrap(), None, "with-services runs");
        urls().ends_with('\n')
    })
    .await;
    let urls = urls();
    let (amqp_url, mongodb_uri) = urls.trim().split_once(' ').unwrap();
    assert!(listens(amqp_url) && listens(mongodb_uri));
    assert!(!processes_in(temp.path()).is_empty());

    parent.kill().unwrap();
    parent.wait().unwrap();
    eventually("the servers are gone", || !listens(amqp_url) && !listens(mongodb_uri)).await;
    eventually("no process is left", || processes_in(temp.path()).is_empty()).await;
    let folders_left =
        || fs::read_dir(temp.path()).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count();
    eventually("the folder is removed", || folders_left() == 0).await;
}

#[test]
fn the_status_of_the_command_is_passed_on() {
    let run = |script: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_with-services"));
        command.args(["sh", "-c", script]);
        command.env("ORDERFLEET_AMQP_URL", "amqp://named").env("ORDERFLEET_MONGODB_URI", "mongodb://named");
        command.status().unwrap().code()
    };
    assert_eq!(run("test $ORDERFLEET_AMQP_URL = amqp://named && exit 7"), Some(7));
    assert_eq!(run("kill -KILL $$"), Some(137));
}
