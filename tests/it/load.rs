//! `orderfleet load` against a running fleet.

use orderfleet_tests::{Fleet, Plan, SERVICES};
use serde_json::Value;

const ORDERS: u64 = 200;

async fn load(fleet: &Fleet) -> Value {
    let count = ORDERS.to_string();
    let output =
        fleet.cli(&["load", "--generate", &count, "--wait", "--output", "json"]).output().await.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    serde_json::from_str(&stdout).unwrap()
}

#[tokio::test]
async fn a_load_is_done_and_a_second_run_of_it_has_no_further_effect() {
    let mut fleet = Fleet::start_as(Plan { workers: 2, ..Plan::default() }).await;
    let first = load(&fleet).await;
    for (count, wanted) in
        [("posted", ORDERS), ("accepted", ORDERS), ("done", ORDERS), ("refused", 0), ("errors", 0)]
    {
        assert_eq!(first[count], wanted, "{count}: {first}");
    }
    let books = fleet.sandbox.receivable().await;

    let second = load(&fleet).await;
    for count in ["posted", "accepted", "refused", "errors", "done", "undone", "held", "refused_by_reason"] {
        assert_eq!(second[count], first[count], "{count}: {second}");
    }
    fleet.settle(&[]).await;
    let effects = fleet.sandbox.effects().await;
    for service in SERVICES {
        let summary = fleet.sandbox.get(&format!("/{service}/summary")).await;
        assert_eq!((&summary["do"], &summary["undo"]), (&ORDERS.into(), &0.into()), "{summary}");
        assert_eq!(effects.net(service) as u64, ORDERS);
    }
    assert_eq!(fleet.sandbox.receivable().await, books);
    assert_eq!(fleet.stored("DONE").await, ORDERS);
}
