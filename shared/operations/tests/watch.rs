//! Looking at a fleet whose database gets another address.

use std::fs;

use orderfleet_domain::saga::{Policy, StepSettings};
use orderfleet_messaging::{BrokerSettings, Topology};
use orderfleet_native::{Mongo, MongoOptions, TempFolder};
use orderfleet_operations::fleet::Watch;
use orderfleet_storage::DatabaseSettings;

#[tokio::test]
async fn a_watch_goes_to_the_database_of_the_file_once_the_former_one_fails() {
    let (former, latter) = (TempFolder::new().unwrap(), TempFolder::new().unwrap());
    let mut before = Mongo::start(former.path(), MongoOptions::default()).await.unwrap();
    let after = Mongo::start(latter.path(), MongoOptions::default()).await.unwrap();
    let file = latter.path().join("uri");
    fs::write(&file, before.uri()).unwrap();
    let database = DatabaseSettings { uri_file: Some(file.clone()), ..DatabaseSettings::default() };
    let nowhere = BrokerSettings { url: "amqp://127.0.0.1:1".into(), ..BrokerSettings::default() };
    let policy = Policy::new(StepSettings::defaults(), 0).unwrap();
    let topology = Topology::new("t.", 1, 1_000, &policy.step_names());
    let mut counting =
        Watch::new(nowhere.clone(), database.clone(), topology.clone(), policy.clone(), "test");
    let mut watch = Watch::new(nowhere, database, topology, policy, "test");
    assert!(watch.look().await.database.reachable);
    assert_eq!(counting.tally().await.held, Some(0));

    before.kill().await.unwrap();
    assert!(!watch.look().await.database.reachable);
    fs::write(&file, after.uri()).unwrap();
    assert!(!watch.look().await.database.reachable, "the look that notices");
    assert!(watch.look().await.database.reachable);
    assert_eq!(counting.tally().await.held, None, "the count that notices");
    assert_eq!(counting.tally().await.held, Some(0));
}
