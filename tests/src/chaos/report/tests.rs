//! What makes a run red, and that the report names it.

use std::time::Duration;

use super::*;
use crate::chaos::{Evidence, OtherPrograms, judge};

fn options() -> Options {
    Options {
        duration: Duration::from_secs(1),
        rate: 1,
        seed: 1,
        plan: Vec::new(),
        drain_max: Duration::from_secs(1),
        orders_min: 0,
        faults_min: 0,
        wasted_max: None,
        others: OtherPrograms::default(),
        report: "unused".into(),
    }
}

fn found() -> Found {
    let verdict = Some(judge(&Evidence::default()));
    Found { drained: Some(Ok(Duration::ZERO)), verdict, ..Found::default() }
}

fn fault(evidence: Option<&str>) -> Injected {
    let (evidence, trouble) =
        (evidence.map(str::to_owned), evidence.is_none().then(|| "too busy".to_owned()));
    Injected { number: 7, fault: "kill worker".into(), began_s: 0.0, healed_s: 0.0, evidence, trouble }
}

fn outcome(options: &Options, found: Found) -> (Outcome, String) {
    let report = Report::new(options, found);
    (report.outcome, report.text())
}

#[test]
fn a_clean_run_with_evidence_of_every_fault_is_passed() {
    let found = Found { faults: vec![fault(Some("pid 1, then pid 2"))], ..found() };
    assert_eq!(outcome(&Options { faults_min: 1, ..options() }, found).0, Outcome::Passed);
}

#[test]
fn one_fault_without_evidence_makes_a_run_invalid_also_if_another_of_its_kind_has_some() {
    let found = Found { faults: vec![fault(Some("pid 1, then pid 2")), fault(None)], ..found() };
    let (outcome, text) = outcome(&options(), found);
    assert_eq!(outcome, Outcome::Invalid);
    assert!(text.contains("no evidence of #7 kill worker: too busy"), "{text}");
}

#[test]
fn too_few_faults_or_orders_make_a_run_invalid() {
    assert_eq!(outcome(&Options { faults_min: 1, ..options() }, found()).0, Outcome::Invalid);
    assert_eq!(outcome(&Options { orders_min: 1, ..options() }, found()).0, Outcome::Invalid);
}

#[test]
fn a_harness_that_fails_half_way_leaves_an_invalid_run_with_what_was_found() {
    let failure = Some("the disk is full".to_owned());
    let found = Found { failure, verdict: None, drained: None, faults: vec![fault(Some("pid"))], ..found() };
    let (outcome, text) = outcome(&options(), found);
    assert_eq!(outcome, Outcome::Invalid);
    assert!(text.contains("the harness failed: the disk is full") && text.contains("kill worker"), "{text}");
}

#[test]
fn a_late_drain_is_a_broken_promise_and_goes_before_an_invalid_run() {
    let drained = Some(Err("not within 60 s".to_owned()));
    let found = Found { drained, faults: vec![fault(None)], ..found() };
    let (outcome, text) = outcome(&options(), found);
    assert_eq!(outcome, Outcome::Violated);
    assert!(text.contains("not within 60 s") && text.contains("no evidence of"), "{text}");
}

#[test]
fn an_order_that_wasted_more_attempts_than_it_may_breaks_the_promise() {
    let found = |most| Found { waste: Waste { most, ..Waste::default() }, ..found() };
    let strict = Options { wasted_max: Some(1), ..options() };
    assert_eq!(outcome(&strict, found(1)).0, Outcome::Passed);
    assert_eq!(outcome(&strict, found(2)).0, Outcome::Violated);
    assert_eq!(outcome(&options(), found(2)).0, Outcome::Passed);
}
