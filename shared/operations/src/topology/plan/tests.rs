//! What is planned about which difference.

use super::*;

fn topology() -> Topology {
    Topology::new("t.", 1, 1_000, &["inventory".parse().unwrap()])
}

fn drift(kind: &'static str, name: &str, state: DriftState) -> Drift {
    Drift {
        kind,
        name: name.into(),
        state,
        argument: None,
        declared: None,
        current: None,
        messages: (kind == "queue").then_some(0),
        consumers: (kind == "queue").then_some(0),
        text: None,
        counted: false,
    }
}

fn differing(name: &str, messages: u64, consumers: u32) -> Drift {
    Drift {
        argument: Some("x-delivery-limit".into()),
        declared: Some("20".into()),
        current: Some("7".into()),
        messages: Some(messages),
        consumers: Some(consumers),
        ..drift("queue", name, DriftState::Different)
    }
}

fn planned(drifts: Vec<Drift>, drained: &[&str]) -> Plan {
    let diff = Diff { compared: 20, bindings_visible: true, drifts };
    plan(&diff, &topology(), &drained.iter().map(|name| (*name).to_owned()).collect())
}

fn steps(plan: &Plan) -> Vec<(&str, &str, &str)> {
    plan.steps.iter().map(|step| (step.by.as_str(), step.action.as_str(), step.name.as_str())).collect()
}

#[test]
fn what_is_missing_is_declared_first_and_bound_last() {
    let plan = planned(
        vec![
            drift("exchange", "t.orders", DriftState::Missing),
            drift("queue", "t.orders.retry", DriftState::Missing),
            drift("binding", "t.orders>t.orders.retry:retry", DriftState::Missing),
        ],
        &[],
    );
    assert_eq!(
        steps(&plan),
        [
            ("apply", "declare", "t.orders"),
            ("apply", "declare", "t.orders.retry"),
            ("apply", "bind", "t.orders>t.orders.retry:retry"),
        ]
    );
    assert!(named_binding(&topology(), &plan.steps[2].name).is_some());
}

#[test]
fn a_queue_that_holds_messages_or_is_consumed_is_left_to_people_whatever_they_say_of_it() {
    for (messages, consumers) in [(1, 0), (0, 1)] {
        let plan = planned(vec![differing("t.orders.retry", messages, consumers)], &["t.orders.retry"]);
        let expected = [
            ("person", "stop", ""),
            ("person", "drain", "t.orders.retry"),
            ("person", "stop", ""),
            ("person", "start", ""),
        ];
        assert_eq!(steps(&plan), expected);
        assert_eq!(plan.own_steps().count(), 0);
        assert_eq!(plan.steps[1].now, Some(format!("{messages} messages, {consumers} consumers")));
    }
}

#[test]
fn an_empty_queue_is_switched_where_the_broker_the_figures_or_somebody_says_that_nothing_can_be_lost() {
    let name = "t.orders.retry";
    let classic = Drift {
        argument: Some("x-queue-type".into()),
        current: Some("classic".into()),
        ..differing(name, 0, 0)
    };
    let counted = Drift { counted: true, ..differing(name, 0, 0) };
    let unsure = differing(name, 0, 0);
    for (drift, drained, by, action) in [
        (&unsure, &[][..], "person", "check"),
        (&unsure, &[name][..], "apply", "switch"),
        (&counted, &[][..], "apply", "switch"),
        (&classic, &[][..], "apply", "switch"),
    ] {
        assert_eq!(steps(&planned(vec![drift.clone()], drained)), [(by, action, name)]);
    }
}

#[test]
fn a_queue_that_differs_in_two_arguments_is_one_step() {
    let other = Drift { argument: Some("x-overflow".into()), ..differing("t.orders.retry", 0, 0) };
    let plan = planned(vec![differing("t.orders.retry", 0, 0), other], &[]);
    assert_eq!(plan.steps.len(), 1);
    assert!(
        plan.steps[0].what.contains("x-delivery-limit is 7, not 20, x-overflow is 7"),
        "{}",
        plan.steps[0].what
    );
}

#[test]
fn another_plan_has_another_id_and_another_depth_has_not() {
    let id = |messages| planned(vec![differing("t.orders.retry", messages, 0)], &[]).id;
    assert_eq!(id(5), id(6));
    assert_ne!(id(5), id(0));
    assert_ne!(id(5), planned(vec![differing("t.orders.replay", 5, 0)], &[]).id);
    assert_eq!(id(5).len(), 2 * ID_BYTES);
}

#[test]
fn bindings_that_cannot_be_seen_are_all_made_and_unexpected_things_are_left_alone() {
    let drifts = vec![drift("queue", "t.orders.new.7", DriftState::Unexpected)];
    let diff = Diff { compared: 20, bindings_visible: false, drifts };
    let plan = plan(&diff, &topology(), &BTreeSet::new());
    assert_eq!(steps(&plan), [("apply", "bind", "all")]);
    assert_eq!(plan.notes.len(), 2);
    assert!(plan.notes[1].contains("t.orders.new.7") && plan.notes[1].contains("left alone"));
}
