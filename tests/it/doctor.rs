//! The doctor on a whole fleet at work.

use orderfleet_tests::{Fleet, Plan, order};
use serde_json::Value;

#[tokio::test]
async fn the_doctor_finds_nothing_on_a_fleet_at_work_and_changes_nothing() {
    let mut fleet = Fleet::start_as(Plan { roles: Plan::ALL_ROLES, ..Plan::default() }).await;
    let id = fleet.client.accept("k1", &order()).await;
    fleet.client.until_done(std::slice::from_ref(&id)).await;
    let settings = fleet.folder().join("orderfleet.toml");
    let arguments = ["doctor", "--config", settings.to_str().unwrap(), "--output", "json"];
    let output = fleet.cli(&arguments).output().await.unwrap();

    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    // The database of the tests is a set of one, and the machine's limits and disk are its own.
    let this_machines = ["members", "open files", "database resources"];
    let odd = findings.iter().filter(|finding| {
        finding["verdict"] != "ok" && !this_machines.contains(&finding["name"].as_str().unwrap())
    });
    let odd: Vec<_> = odd.map(|it| (it["name"].as_str().unwrap(), it["verdict"].as_str().unwrap())).collect();
    let not_visible = ["consumer timeout", "queue replicas", "bindings", "leftovers"];
    assert_eq!(odd, not_visible.map(|check| (check, "unknown")), "{findings:#?}");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(findings.len() > 20, "{findings:#?}");
    fleet.settle(&[]).await;
    fleet.sandbox.assert_done(&[id]).await;
}
