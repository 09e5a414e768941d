//! The operator log: one chain, whoever writes and whatever is lost on the way.

use futures_util::{TryStreamExt as _, future::join_all};
use jiff::Timestamp;
use mongodb::{
    Client,
    bson::{Document, doc},
};
use orderfleet_native::{Mongo, MongoOptions, TempFolder};
use orderfleet_storage::{ActPhase, DatabaseSettings, LogEntry, LogPage, LogRecord, Store};

use crate::support::{Fixture, in_database};

fn record(act: &str, phase: ActPhase) -> LogRecord {
    let [who, what, why, target] = ["jo", "orders.cancel", "asked by phone", "order a"].map(str::to_owned);
    let result = (phase == ActPhase::End).then(|| "done".to_owned());
    LogRecord { at: Timestamp::now(), who, what, why, target, phase, act: act.to_owned(), result }
}

const ALL: LogPage = LogPage { beyond: None, newest_first: false, since: None, limit: 10_000 };

async fn entries(store: &Store, page: LogPage) -> Vec<LogEntry> {
    store.log_page(&page).await.unwrap().into_iter().map(Result::unwrap).collect()
}

fn assert_one_chain(entries: &[LogEntry]) {
    let mut before = None;
    for (seq, entry) in (1..).zip(entries) {
        assert_eq!(entry.seq, seq);
        assert!(entry.is_intact() && entry.follows(before), "{entry:?}");
        before = Some(entry);
    }
}

#[tokio::test]
async fn many_writers_at_once_keep_one_chain() {
    in_database(async |db| {
        let other = Store::connect(&db.settings, "storage-test").await.unwrap();
        let acts: Vec<_> = (0..20).map(|number| format!("act-{number}")).collect();
        let appended = join_all(acts.iter().enumerate().map(|(number, act)| {
            let store = if number % 2 == 0 { &db.store } else { &other };
            async move {
                store.append_to_log(&record(act, ActPhase::Begin)).await.unwrap();
                store.append_to_log(&record(act, ActPhase::End)).await.unwrap()
            }
        }));
        let mut ends: Vec<_> = appended.await.into_iter().map(|entry| entry.record.act).collect();
        let stored = entries(&db.store, ALL).await;
        assert_eq!(stored.len(), 40);
        assert_one_chain(&stored);
        ends.sort();
        let mut acts = acts;
        acts.sort();
        assert_eq!(ends, acts);
    })
    .await;
}

#[tokio::test]
async fn an_entry_that_is_appended_again_is_there_once() {
    in_database(async |db| {
        let first = db.store.append_to_log(&record("a", ActPhase::Begin)).await.unwrap();
        let other = LogRecord { why: "another reason".into(), ..record("a", ActPhase::Begin) };
        assert_eq!(db.store.append_to_log(&other).await.unwrap(), first);
        assert_eq!(entries(&db.store, ALL).await, [first]);
        assert_eq!(db.store.logged("a", ActPhase::End).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_page_begins_where_the_last_one_ended() {
    in_database(async |db| {
        let mut all = Vec::new();
        for number in 0..5_i64 {
            let at = Timestamp::from_second(number).unwrap();
            let record = LogRecord { at, ..record(&format!("act-{number}"), ActPhase::Begin) };
            all.push(db.store.append_to_log(&record).await.unwrap());
        }
        let read = async |page| entries(&db.store, page).await;
        assert_eq!(read(LogPage { limit: 2, ..ALL }).await, all[..2]);
        assert_eq!(read(LogPage { beyond: Some(2), ..ALL }).await, all[2..]);
        let since = Some(Timestamp::from_second(3).unwrap());
        assert_eq!(read(LogPage { since, ..ALL }).await, all[3..]);
        all.reverse();
        let newest = LogPage { newest_first: true, ..ALL };
        assert_eq!(read(LogPage { limit: 2, ..newest }).await, all[..2]);
        assert_eq!(read(LogPage { beyond: Some(4), ..newest }).await, all[2..]);
    })
    .await;
}

#[tokio::test]
async fn what_somebody_put_into_the_collection_by_hand_is_told_and_stops_nobody() {
    in_database(async |db| {
        let first = db.store.append_to_log(&record("a", ActPhase::Begin)).await.unwrap();
        let log = db.database.collection::<Document>("operator_log");
        for alien in [doc! { "_id": 1.5, "act": "x" }, doc! { "_id": "zzz", "act": "y" }] {
            log.insert_one(alien).bypass_document_validation(true).await.unwrap();
        }
        let second = db.store.append_to_log(&record("a", ActPhase::End)).await.unwrap();
        assert!(second.follows(Some(&first)), "{second:?}");
        let page = db.store.log_page(&ALL).await.unwrap();
        let shown: Vec<_> = page.into_iter().map(|found| found.map_err(|bad| bad.id)).collect();
        assert_eq!(shown, [Ok(first), Err("1.5".into()), Ok(second), Err("\"zzz\"".into())]);
        assert_eq!(db.store.stranger_in_log().await.unwrap(), Some("\"zzz\"".into()));
    })
    .await;
}

#[tokio::test]
async fn the_database_refuses_what_is_no_entry() {
    in_database(async |db| {
        db.store.append_to_log(&record("a", ActPhase::Begin)).await.unwrap();
        let log = db.database.collection::<Document>("operator_log");
        let good = log.find_one(doc! {}).await.unwrap().unwrap();
        for (field, value) in [("_id", "2".into()), ("hash", "short".into()), ("phase", "middle".into())] {
            let mut bad = good.clone();
            bad.insert("_id", 2_i64);
            bad.insert("act", "b");
            bad.insert::<_, mongodb::bson::Bson>(field, value);
            log.insert_one(bad).await.unwrap_err();
        }
        assert_eq!(log.find(doc! {}).await.unwrap().try_collect::<Vec<_>>().await.unwrap(), [good]);
    })
    .await;
}

/// The server applies the insert and says that it does not know: as an answer that was lost on the way.
#[tokio::test]
async fn a_lost_answer_leaves_one_entry() {
    let folder = TempFolder::new().unwrap();
    let mut server = Mongo::start(folder.path(), MongoOptions::default()).await.unwrap();
    let settings = DatabaseSettings { uri: server.uri(), ..DatabaseSettings::default() };
    let db = Fixture::new(settings).await;
    let admin = Client::with_uri_str(&db.settings.uri).await.unwrap().database("admin");
    let lost = doc! { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "x" };
    let data = doc! { "failCommands": ["insert"], "appName": "storage-test", "writeConcernError": lost };
    let fault = doc! { "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": data };
    let count = |reply: Document| reply.get_i64("count").or_else(|_| reply.get_i32("count").map(i64::from));
    let before = count(admin.run_command(fault).await.unwrap()).unwrap();

    for phase in [ActPhase::Begin, ActPhase::End] {
        let appended = db.store.append_to_log(&record("a", phase)).await.unwrap();
        assert_eq!(appended.record.phase, phase);
    }
    let off = doc! { "configureFailPoint": "failCommand", "mode": "off" };
    let after = count(admin.run_command(off).await.unwrap()).unwrap();
    assert_eq!(after - before, 1, "an answer was lost");
    let stored = entries(&db.store, ALL).await;
    assert_eq!(stored.len(), 2);
    assert_one_chain(&stored);
    server.kill().await.unwrap();
}
