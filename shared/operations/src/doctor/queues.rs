//! The queues, as far as one look at each tells.

use orderfleet_domain::saga::{DeadLetterQueue, Lane, Policy};
use orderfleet_messaging::{Counts, Found, Item, Looked, Topology};

use super::Judgement;

type Judge = fn(&[Looked], &Topology, &Policy) -> Judgement;

/// Each check with its name.
pub(super) const CHECKS: [(&str, Judge); 4] = [
    ("queue type", queue_type),
    ("consumers", consumers),
    ("dead letters", dead_letters),
    ("quarantine", quarantine),
];

/// The broker's words, if it refuses to tell of a declared name.
pub(super) fn refused(looked: &[Looked]) -> Option<String> {
    looked.iter().find_map(|looked| match &looked.found {
        Found::Unknown(text) if text.starts_with("ACCESS_REFUSED") => {
            Some(format!("{}: {text}", looked.item))
        }
        _ => None,
    })
}

fn queue_type(looked: &[Looked], _: &Topology, _: &Policy) -> Judgement {
    let queues: Vec<_> = looked.iter().filter(|looked| matches!(looked.item, Item::Queue(_))).collect();
    let other = queues.iter().find_map(|looked| match &looked.found {
        Found::Different(difference) if difference.argument.as_deref() == Some("x-queue-type") => {
            Some(format!("{} is of type {}", looked.item, difference.current.as_deref().unwrap_or("another")))
        }
        _ => None,
    });
    if let Some(other) = other {
        return Judgement::error(other, "orderfleet topology plan");
    }
    let equal = queues.iter().filter(|looked| looked.found == Found::Equal).count();
    if equal == queues.len() {
        return Judgement::ok(format!("all {equal} are quorum queues"));
    }
    let found = format!(
        "{} of {} queues are not as declared, their type among it or not",
        queues.len() - equal,
        queues.len()
    );
    Judgement::unknown(found, "rabbitmqctl list_queues name type")
}

fn consumers(looked: &[Looked], topology: &Topology, policy: &Policy) -> Judgement {
    let lanes = (0..topology.partitions()).map(Lane::New).chain([
        Lane::Retry,
        Lane::Replay,
        Lane::Compensate(policy.last_step().clone()),
        Lane::Quarantine,
    ]);
    let (mut waiting, mut unattended) = (0_u64, Vec::new());
    for lane in lanes {
        let name = topology.queue(&lane);
        let Some(Counts { ready, consumers }) = counts(looked, &name) else { continue };
        waiting += u64::from(ready);
        if ready > 0 && consumers == 0 {
            unattended.push(format!("{name} has {ready} messages and no consumer"));
        }
    }
    if unattended.is_empty() {
        return Judgement::ok(format!("{waiting} messages wait, none of them for want of a consumer"));
    }
    let fix = "start a worker with every role: orderfleet-worker --config FILE, or resume what is paused";
    Judgement::error(unattended.join("; "), fix)
}

fn dead_letters(looked: &[Looked], topology: &Topology, policy: &Policy) -> Judgement {
    let steps = policy.step_names().into_iter().map(DeadLetterQueue::Step);
    let others = [DeadLetterQueue::Poison, DeadLetterQueue::Held, DeadLetterQueue::Conflict];
    let (mut held, mut unattended) = (Vec::new(), false);
    for queue in steps.chain(others) {
        let name = topology.dead_letter_queue(&queue);
        let Some(Counts { ready, consumers }) = counts(looked, &name) else { continue };
        if ready > 0 {
            held.push(format!("{ready} in {name}"));
            unattended |= consumers == 0;
        }
    }
    match (held.is_empty(), unattended) {
        (true, _) => Judgement::ok("none waits in its queue"),
        (false, true) => Judgement::warning(
            format!("{}, and nobody takes them into the database", held.join(", ")),
            "start a worker with the role park, then: orderfleet dlq stats",
        ),
        (false, false) => Judgement::warning(held.join(", "), "orderfleet dlq stats"),
    }
}

fn quarantine(looked: &[Looked], topology: &Topology, _: &Policy) -> Judgement {
    match counts(looked, &topology.queue(&Lane::Quarantine)) {
        Some(Counts { ready: 0, .. }) => Judgement::ok("nothing is in it"),
        Some(Counts { ready, .. }) => Judgement::warning(
            format!("{ready} deliveries that were in hand when workers crashed wait to be worked alone"),
            "look for panics and kills in the workers' logs: orderfleet_panics_total and the kernel's log",
        ),
        None => Judgement::unknown("its queue is not there, or does not answer", "see the check `topology`"),
    }
}

fn counts(looked: &[Looked], queue: &str) -> Option<Counts> {
    let is_it = |looked: &&Looked| matches!(&looked.item, Item::Queue(name) if name == queue);
    looked.iter().find(is_it)?.counts
}

#[cfg(test)]
mod tests {
    use orderfleet_domain::saga::StepSettings;
    use orderfleet_messaging::Difference;

    use super::{super::Verdict, *};

    fn judged(judge: Judge, queue: &str, found: Found, ready: u32, consumers: u32) -> Verdict {
        let policy = Policy::new(StepSettings::defaults(), 0).unwrap();
        let topology = Topology::new("t.", 2, 1_000, &policy.step_names());
        let counts = Some(Counts { ready, consumers });
        let looked = [Looked { item: Item::Queue(format!("t.orders.{queue}")), found, counts }];
        judge(&looked, &topology, &policy).verdict
    }

    #[test]
    fn a_worked_queue_with_messages_needs_a_consumer() {
        for queue in ["new.1", "retry", "replay", "compensate", "quarantine"] {
            let verdict = |ready, count| judged(consumers, queue, Found::Equal, ready, count);
            assert_eq!(verdict(1, 0), Verdict::Error, "{queue}");
            assert_eq!(verdict(1, 1), Verdict::Ok, "{queue}");
            assert_eq!(verdict(0, 0), Verdict::Ok, "scaled to none when idle: {queue}");
        }
        assert_eq!(judged(consumers, "wait.1h", Found::Equal, 9, 0), Verdict::Ok);
    }

    #[test]
    fn dead_letters_and_quarantine_are_warned_of_while_they_hold_something() {
        assert_eq!(judged(dead_letters, "dead.inventory", Found::Equal, 1, 1), Verdict::Warning);
        assert_eq!(judged(dead_letters, "dead.poison", Found::Equal, 0, 0), Verdict::Ok);
        assert_eq!(judged(quarantine, "quarantine", Found::Equal, 1, 1), Verdict::Warning);
        assert_eq!(judged(quarantine, "retry", Found::Equal, 1, 1), Verdict::Unknown);
    }

    #[test]
    fn a_queue_of_another_type_is_an_error() {
        let text = "inequivalent arg 'x-queue-type' …".to_owned();
        let argument = Some("x-queue-type".to_owned());
        let classic = Difference { argument, declared: None, current: Some("classic".into()), text };
        assert_eq!(judged(queue_type, "retry", Found::Different(classic), 0, 0), Verdict::Error);
        assert_eq!(judged(queue_type, "retry", Found::Equal, 0, 0), Verdict::Ok);
        assert_eq!(judged(queue_type, "retry", Found::Missing, 0, 0), Verdict::Unknown);
    }

    #[test]
    fn a_refusal_is_told_in_the_brokers_words() {
        let item = Item::Queue("q".into());
        let found = Found::Unknown("ACCESS_REFUSED - access to queue 'q' refused".into());
        let told = refused(&[Looked { item, found, counts: None }]).unwrap();
        assert!(told.contains("queue q") && told.contains("ACCESS_REFUSED"), "{told}");
    }
}
