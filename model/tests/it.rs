//! The saga core in the hostile world: what was kept, what small bounds hold, and many random schedules.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken expectation is a failed test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use orderfleet_model::{
    Action, Judged, Outcome, Schedule,
    exhaustive::{Exhaustive, scopes},
    mutants, shrink,
    simulate::{self, Tally},
};

/// Simulated orders on every change; `ORDERFLEET_SAGAS` sets another number.
const SAGAS: u64 = 100_000;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn schedules(folder: &Path) -> Vec<(PathBuf, Schedule)> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |file: PathBuf| {
        let schedule = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        (file, schedule)
    };
    files.map(read).collect()
}

fn assert_holds(name: &str, schedule: &Schedule) {
    let verdict = schedule.play();
    if let Some((property, how)) = verdict.violation() {
        panic!("{name} violates {}: {how}\n{}", property.name(), verdict.story(&schedule.scope).join("\n"));
    }
}

#[test]
fn every_schedule_that_once_broke_the_core_holds() {
    let kept = schedules(&folder("corpus"));
    assert!(!kept.is_empty());
    for (file, schedule) in kept {
        let name = file.display().to_string();
        assert_holds(&name, &schedule);
        let left_out = schedule.play().left_out;
        assert!(left_out.is_empty(), "{name}: actions {left_out:?} are not possible: it shows another world");
    }
}

#[test]
fn an_action_that_is_not_possible_is_told() {
    let (_, mut schedule) = schedules(&folder("corpus")).remove(0);
    schedule.actions.insert(1, Action::Perform { slot: 9, outcome: Outcome::Fine });
    assert_eq!(schedule.play().left_out, [1]);
}

#[test]
fn every_rule_has_a_schedule_that_needs_it_and_that_the_shipped_core_survives() {
    let all = mutants::all().unwrap();
    for mutant in &all {
        let text = fs::read_to_string(mutants::kept(mutant))
            .unwrap_or_else(|error| panic!("{}: {error}", mutant.name));
        assert_holds(&mutant.name, &serde_json::from_str(&text).unwrap());
    }
    assert_eq!(schedules(&folder("mutants")).len(), all.len(), "a kept schedule has no mutant");
}

#[test]
fn every_mutant_still_has_its_place_in_the_source() {
    let root = folder("..");
    for mutant in mutants::all().unwrap() {
        for file in mutant.files() {
            let text = fs::read_to_string(root.join(file)).unwrap();
            let changed = mutant.apply(file, text.clone()).unwrap();
            assert_ne!(changed, text, "{} changes nothing", mutant.name);
        }
    }
}

#[test]
fn every_schedule_within_the_small_bounds_holds_and_the_search_is_not_vacuous() {
    for named in scopes(false) {
        let found = Exhaustive::new(named.scope).search(1, None);
        eprintln!("{}: {} states, depth {}, {:?}", named.name, found.states, found.depth, found.took);
        if let Some((property, schedule)) = found.counterexample {
            let verdict = schedule.play();
            panic!(
                "{} violates {}:\n{}",
                named.name,
                property.name(),
                verdict.story(&schedule.scope).join("\n")
            );
        }
        assert!(found.exhausted, "{}", named.name);
        assert_eq!(found.unreached, Vec::<&str>::new(), "{}", named.name);
    }
}

#[test]
fn random_schedules_hold_and_reach_every_ending() {
    let sagas = std::env::var("ORDERFLEET_SAGAS").ok().and_then(|sagas| sagas.parse().ok()).unwrap_or(SAGAS);
    let mut tally = Tally::default();
    for seed in 0..sagas {
        let (schedule, verdict) = simulate::run(seed, Judged::Everything);
        tally.count(&schedule.scope.budget, &verdict);
        if verdict.violation().is_some() {
            assert_holds(&format!("seed {seed}"), &shrink(&schedule));
        }
    }
    eprintln!("{tally:#?}");
    assert_eq!(tally.never_happened(), [""; 0]);
    let endings: Vec<_> = tally.endings.keys().copied().collect();
    let all =
        ["cancelled", "done", "done in a later run", "failed", "held being undone", "held going forward"];
    assert_eq!(endings, all);
}

#[test]
fn a_seed_names_one_schedule() {
    assert_eq!(simulate::run(7, Judged::Everything), simulate::run(7, Judged::Everything));
}

#[test]
fn a_kept_simulation_replays_to_the_same_end() {
    for seed in 0..200 {
        let (schedule, verdict) = simulate::run(seed, Judged::Everything);
        let replayed = schedule.play();
        assert_eq!(replayed.world, verdict.world, "seed {seed}");
        assert!(replayed.left_out.is_empty(), "seed {seed}");
    }
}

#[test]
fn an_undisturbed_order_costs_one_insert_and_two_writes() {
    let scope = serde_json::from_value(serde_json::json!({
        "steps": 3, "attempts_max": 1, "quick_retries": 0, "slots": 1, "timed": true, "budget": {}
    }));
    let schedule = Schedule { note: String::new(), scope: scope.unwrap(), actions: Vec::new() };
    let verdict = schedule.play();
    assert_eq!(verdict.violation(), None);
    let story = verdict.story(&schedule.scope);
    let count = |what: &str| story.iter().filter(|line| line.contains(what)).count();
    assert_eq!(
        (count(": insert"), count(": write"), count(": Call"), count(": claim")),
        (1, 2, 3, 0),
        "{story:#?}"
    );
}
