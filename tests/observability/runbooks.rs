//! Every alert has a chapter in the runbooks, and every chapter an alert.

use std::process::Command;

use orderfleet_tests::program;

use crate::{read, rules};

const RUNBOOKS: &str = "docs/RUNBOOKS.md";
/// Stands where people write the id of an order.
const AN_ORDER: &str = "eu1-vqhnbfvs-73ywzm7xvil3pdxdwgqadt5vraqhjbce";
/// What a chapter answers, in this order.
const PARTS: [&str; 4] = ["**Means.**", "**Look.**", "**Mend.**", "**Clears.**"];

/// The chapters that are about an alert, with their text.
fn chapters() -> Vec<(String, String)> {
    let text = read(RUNBOOKS);
    let chapters = text.split("\n### ").skip(1);
    chapters
        .map(|chapter| chapter.split_once('\n').unwrap())
        .map(|(name, text)| (name.into(), text.into()))
        .collect()
}

#[test]
fn every_alert_has_a_runbook_that_it_names_and_every_runbook_an_alert() {
    let alerts = rules::alerts();
    let named = rules::values("runbook_url: ");
    let wanted: Vec<_> =
        alerts.iter().map(|alert| format!("{RUNBOOKS}#{}", alert.to_ascii_lowercase())).collect();
    assert_eq!(named, wanted);
    let mut chapters: Vec<_> = chapters().into_iter().map(|(name, _)| name).collect();
    let mut alerts = alerts;
    chapters.sort();
    alerts.sort();
    assert_eq!(chapters, alerts);
}

#[test]
fn every_runbook_says_what_it_means_what_to_look_at_what_mends_it_and_when_it_clears() {
    for (name, text) in chapters() {
        let places: Vec<_> = PARTS.iter().map(|part| text.find(part)).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{name}: {places:?}");
        assert!(text.contains("\n    $ "), "{name} shows no command");
    }
}

#[test]
fn every_command_of_ours_in_the_runbooks_is_one() {
    let text = read(RUNBOOKS).replace("ORDER\n", &format!("{AN_ORDER}\n"));
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("$ orderfleet "));
    let mut commands: Vec<_> = lines.map(|line| line.split(['|', '#']).next().unwrap().trim()).collect();
    commands.sort_unstable();
    commands.dedup();
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        let words = command.split_whitespace().map(|word| word.trim_matches('\''));
        // Asked for help, it reads what is before and does nothing.
        let output = Command::new(program("orderfleet")).args(words).arg("--help").output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_is_wrong() {
    let alerts = rules::alerts().len();
    for key in ["labels: { severity: ", "summary: ", "description: ", "runbook_url: "] {
        assert_eq!(rules::values(key).len(), alerts, "{key}");
    }
    let severities = rules::values("labels: { severity: ");
    assert!(severities.iter().all(|severity| ["critical }", "warning }"].contains(&severity.as_str())));
}
