//! What Prometheus's own checker says of the shipped files.

use std::process::Command;

use crate::{prometheus::program, shipped};

fn promtool(arguments: &[&str], path: &str) {
    let output = Command::new(program("promtool")).args(arguments).arg(shipped(path)).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?} {path}:\n{said}");
    eprintln!("promtool {arguments:?} {path}:\n{said}");
}

#[test]
#[ignore = "takes Debian's Prometheus: make test-observability"]
fn promtool_finds_nothing_wrong_and_its_tests_of_the_rules_pass() {
    promtool(&["check", "rules"], "observability/prometheus/alerts.yml");
    promtool(&["check", "config"], "observability/prometheus/prometheus.yml");
    promtool(&["test", "rules"], "observability/prometheus/alerts_test.yml");
}
