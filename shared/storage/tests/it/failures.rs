//! A server that fails in known ways: what is unknown must never pass for applied, nor for refused.

use std::time::{Duration, Instant};

use mongodb::{
    Client,
    bson::{Document, doc},
};
use orderfleet_domain::saga::{Note, StoreReply};
use orderfleet_native::{Mongo, MongoOptions, Signal, TempFolder};
use orderfleet_storage::{DatabaseSettings, Store, StoreError};

use crate::support::{Fixture, account, order_id};

const COMMANDS: [&str; 4] = ["insert", "findAndModify", "update", "find"];

/// A server of the test's own: its faults would hit others.
async fn in_own_server(test: impl AsyncFnOnce(&Fixture, &mut Mongo)) {
    let folder = TempFolder::new().unwrap();
    let mut server = Mongo::start(folder.path(), MongoOptions::default()).await.unwrap();
    // The driver would wait for the server to push a change of its state, and a simulated fault is none.
    let uri = format!("{}&serverMonitoringMode=poll&heartbeatFrequencyMS=500", server.uri());
    let settings = DatabaseSettings { uri, timeout_ms: 2_000, ..DatabaseSettings::default() };
    let fixture = Fixture::new(settings).await;
    test(&fixture, &mut server).await;
    server.kill().await.unwrap();
}

fn key(what: &str) -> String {
    what.replace(' ', "-")
}

/// Answers of every kind of write, asked at once, on a document that all of them would be applied to.
async fn all_writes(db: &Fixture, key: &str) -> [(&'static str, StoreReply); 4] {
    let (first, id, new) = (db.first(), order_id(key), order_id(&format!("{key}-new")));
    let (claim, write) = (db.go_on("w1"), db.write(&first, |next| next.cur = 1));
    let (insert, claim, write, note) = tokio::join!(
        db.insert(&new, &first),
        db.store.claim(&id, &claim),
        db.store.write(&id, &write),
        db.store.note(&id, &Note::Cancel),
    );
    [("insert", insert), ("claim", claim.0), ("write", write), ("note", note)]
}

async fn fail(db: &Fixture, mode: Document, fault: Document) {
    let mut data = doc! { "failCommands": COMMANDS.to_vec(), "appName": "storage-test" };
    data.extend(fault);
    let command = doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data };
    let admin = Client::with_uri_str(&db.settings.uri).await.unwrap().database("admin");
    admin.run_command(command).await.unwrap();
}

#[tokio::test]
async fn what_the_server_cannot_vouch_for_is_unknown() {
    in_own_server(async |db, _| {
        let concern = |code: i32, name: &str| doc! { "writeConcernError": { "code": code, "codeName": name, "errmsg": "x" } };
        let faults = [
            ("write-concern timeout", concern(64, "WriteConcernFailed")),
            ("stepped down while waiting", concern(189, "PrimarySteppedDown")),
            ("closed connection", doc! { "closeConnection": true }),
            ("not primary", doc! { "errorCode": 10_107 }),
            ("interrupted", doc! { "errorCode": 11_601 }),
            ("shutting down", doc! { "errorCode": 91 }),
            ("time is up", doc! { "errorCode": 50 }),
            ("not authorised", doc! { "errorCode": 13 }),
            ("bad value", doc! { "errorCode": 2 }),
        ];
        for (what, _) in &faults {
            db.given(&key(what), &db.first()).await;
        }
        for (what, fault) in faults {
            let key = key(what);
            fail(db, doc! { "times": 1_000 }, fault.clone()).await;
            let is_applied = fault.contains_key("writeConcernError");
            for (call, reply) in all_writes(db, &key).await {
                // One that is sent once more, alone, may meet itself: the claim that follows makes sure of it.
                let meets_itself = call == "insert" && is_applied && reply == StoreReply::Exists;
                assert!(reply == StoreReply::Unknown || meets_itself, "{call}: {what}: {reply:?}");
            }
            if !is_applied {
                let (order_id, account) = (order_id(&key), account());
                let reads =
                    tokio::join!(db.store.read(&order_id), db.store.find_for_account(&order_id, &account));
                assert!(matches!(reads, (StoreReply::Unknown, Err(_))), "{what}: {reads:?}");
                let is_refusal = reads.1.is_err_and(|error| error.is_refusal());
                assert_eq!(is_refusal, what == "not authorised", "{what}");
            }
            fail_off(db).await;
        }
    })
    .await;
}

#[tokio::test]
async fn one_lost_connection_is_bridged_by_the_driver() {
    in_own_server(async |db, _| {
        db.given("a", &db.first()).await;
        fail(db, doc! { "times": 1 }, doc! { "closeConnection": true }).await;
        assert_eq!(db.insert(&order_id("b"), &db.first()).await, StoreReply::Applied);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_hangs_is_unknown_in_time_and_found_again_afterwards() {
    in_own_server(async |db, server| {
        db.given("a", &db.first()).await;
        server.signal(Signal::Stop);
        let begun = Instant::now();
        let reply = db.store.read(&order_id("a")).await;
        let ping = db.store.ping().await;
        server.signal(Signal::Continue);
        assert_eq!(reply, StoreReply::Unknown);
        assert!(matches!(ping, Err(StoreError::Timeout { .. } | StoreError::Call { .. })), "{ping:?}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());

        let deadline = Instant::now() + Duration::from_secs(30);
        while db.store.ping().await.is_err() {
            assert!(Instant::now() < deadline, "found again");
        }
        assert!(matches!(db.store.read(&order_id("a")).await, StoreReply::Found(Some(_))));
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_reported_without_the_password() {
    let settings = DatabaseSettings {
        uri: "mongodb://fleet:hunter2@127.0.0.1:1/?replicaSet=rs0".into(),
        ..DatabaseSettings::default()
    };
    let error = Store::connect(&settings, "storage-test").await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }) && !error.is_lasting(), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");

    let settings = DatabaseSettings { uri: "mongodb://fleet:hunter2@:x/".into(), ..settings };
    let error = Store::connect(&settings, "storage-test").await.unwrap_err();
    assert!(matches!(error, StoreError::Uri(_)) && error.is_lasting(), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}

async fn fail_off(db: &Fixture) {
    let admin = Client::with_uri_str(&db.settings.uri).await.unwrap().database("admin");
    admin.run_command(doc! { "configureFailPoint": "failCommand", "mode": "off" }).await.unwrap();
}
