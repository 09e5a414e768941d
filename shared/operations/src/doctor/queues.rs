//! The queues, as far as one look at each tells.

use orderfleet_domain::saga::{DeadLetterQueue, Lane, Policy};
use orderfleet_messaging::{Counts, Found, Item, Looked, Topology};
use orderfleet_storage::{Pause, WorkedQueue};

use super::Judgement;

type Judge = fn(&Seen<'_>) -> Judgement;

/// What is judged.
pub(super) struct Seen<'a> {
    pub(super) looked: &'a [Looked],
    pub(super) topology: &'a Topology,
    pub(super) policy: &'a Policy,
    /// Those in force.
    pub(super) pauses: &'a [Pause],
}

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

fn queue_type(seen: &Seen<'_>) -> Judgement {
    let queues: Vec<_> = seen.looked.iter().filter(|looked| matches!(looked.item, Item::Queue(_))).collect();
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

fn consumers(seen: &Seen<'_>) -> Judgement {
    let lanes = (0..seen.topology.partitions()).map(Lane::New).chain([
        Lane::Retry,
        Lane::Replay,
        Lane::Compensate(seen.policy.last_step().clone()),
        Lane::Quarantine,
    ]);
    let (mut waiting, mut unattended) = (0_u64, Vec::new());
    let (mut silent, mut paused, mut resume) = (Vec::new(), Vec::new(), Vec::new());
    for lane in lanes {
        let name = seen.topology.queue(&lane);
        let Some(Counts { ready, consumers }) = seen.counts(&name) else {
            silent.push(name);
            continue;
        };
        waiting += u64::from(ready);
        if ready == 0 || consumers > 0 {
            continue;
        }
        match seen.pause(&WorkedQueue::from(&lane)) {
            Some(Pause { target, owner, until, .. }) => {
                paused
                    .push(format!("{name} has {ready} messages: {owner} has paused {target} until {until}"));
                resume.push(format!("orderfleet fleet resume {target} --reason TEXT"));
            }
            None => unattended.push(format!("{name} has {ready} messages and no consumer")),
        }
    }
    if !unattended.is_empty() {
        let fix = "start a worker with every role: orderfleet-worker --config FILE";
        return Judgement::error(unattended.join("; "), fix);
    }
    if !silent.is_empty() {
        return not_told(&silent);
    }
    if !paused.is_empty() {
        resume.dedup();
        return Judgement::warning(paused.join("; "), format!("when it is time: {}", resume.join("; ")));
    }
    Judgement::ok(format!("{waiting} messages wait, none of them for want of a consumer"))
}

fn dead_letters(seen: &Seen<'_>) -> Judgement {
    let steps = seen.policy.step_names().into_iter().map(DeadLetterQueue::Step);
    let others = [DeadLetterQueue::Poison, DeadLetterQueue::Held, DeadLetterQueue::Conflict];
    let (mut held, mut silent, mut unattended) = (Vec::new(), Vec::new(), false);
    for queue in steps.chain(others) {
        let name = seen.topology.dead_letter_queue(&queue);
        match seen.counts(&name) {
            None => silent.push(name),
            Some(Counts { ready: 0, .. }) => {}
            Some(Counts { ready, consumers }) => {
                held.push(format!("{ready} in {name}"));
                unattended |= consumers == 0;
            }
        }
    }
    match (held.is_empty(), unattended) {
        (true, _) if !silent.is_empty() => not_told(&silent),
        (true, _) => Judgement::ok("none waits in its queue"),
        (false, true) => Judgement::warning(
            format!("{}, and nobody takes them into the database", held.join(", ")),
            "start a worker with the role park, then: orderfleet dlq stats",
        ),
        (false, false) => Judgement::warning(held.join(", "), "orderfleet dlq stats"),
    }
}

fn quarantine(seen: &Seen<'_>) -> Judgement {
    let name = seen.topology.queue(&Lane::Quarantine);
    match seen.counts(&name) {
        Some(Counts { ready: 0, .. }) => Judgement::ok("nothing is in it"),
        Some(Counts { ready, .. }) => Judgement::warning(
            format!("{ready} deliveries that were in hand when workers crashed wait to be worked alone"),
            "look for panics and kills in the workers' logs: orderfleet_panics_total and the kernel's log",
        ),
        None => not_told(&[name]),
    }
}

fn not_told(queues: &[String]) -> Judgement {
    let found = format!("not there, or without an answer: {}", queues.join(", "));
    Judgement::unknown(found, "see the check `topology`")
}

impl Seen<'_> {
    fn counts(&self, queue: &str) -> Option<Counts> {
        let is_it = |looked: &&Looked| matches!(&looked.item, Item::Queue(name) if name == queue);
        self.looked.iter().find(is_it)?.counts
    }

    fn pause(&self, queue: &WorkedQueue) -> Option<&Pause> {
        self.pauses.iter().filter(|pause| pause.target.stops(queue)).max_by_key(|pause| pause.until)
    }
}

#[cfg(test)]
mod tests {
    use orderfleet_domain::saga::StepSettings;
    use orderfleet_messaging::Difference;

    use super::{super::Verdict, *};

    /// Of a fleet where every queue is empty and consumed by one, but for these.
    fn judged(judge: Judge, queues: &[(&str, Option<Counts>)], pauses: &[Pause]) -> Judgement {
        let policy = Policy::new(StepSettings::defaults(), 0).unwrap();
        let topology = Topology::new("t.", 2, 1_000, &policy.step_names());
        let looked = topology.queue_names().map(|name| {
            let other = queues.iter().find(|(queue, _)| name.strip_prefix("t.orders.") == Some(queue));
            let counts = other.map_or(Some(Counts { ready: 0, consumers: 1 }), |(_, counts)| *counts);
            Looked { item: Item::Queue(name.to_owned()), found: Found::Equal, counts }
        });
        let looked: Vec<_> = looked.collect();
        judge(&Seen { looked: &looked, topology: &topology, policy: &policy, pauses })
    }

    fn with(judge: Judge, queue: &str, ready: u32, consumers: u32) -> Verdict {
        judged(judge, &[(queue, Some(Counts { ready, consumers }))], &[]).verdict
    }

    #[test]
    fn a_worked_queue_with_messages_needs_a_consumer() {
        for queue in ["new.1", "retry", "replay", "compensate", "quarantine"] {
            assert_eq!(with(consumers, queue, 1, 0), Verdict::Error, "{queue}");
            assert_eq!(with(consumers, queue, 1, 1), Verdict::Ok, "{queue}");
            assert_eq!(with(consumers, queue, 0, 0), Verdict::Ok, "scaled to none when idle: {queue}");
        }
        assert_eq!(with(consumers, "wait.1h", 9, 0), Verdict::Ok);
    }

    #[test]
    fn a_paused_queue_is_warned_of_with_its_owner_and_its_end() {
        let until = "2026-01-31T12:00:00Z".parse().unwrap();
        let target = "queue:new".parse().unwrap();
        let pause = Pause { target, owner: "jo".into(), reason: "r".into(), at: until, until };
        let left = Some(Counts { ready: 3, consumers: 0 });
        let paused = judged(consumers, &[("new.1", left)], std::slice::from_ref(&pause));
        assert_eq!(paused.verdict, Verdict::Warning);
        assert!(paused.found.contains("jo has paused queue:new until 2026-01-31T12:00:00Z"), "{paused:?}");
        assert!(paused.fix.unwrap().contains("orderfleet fleet resume queue:new"));
        let both = judged(consumers, &[("new.1", left), ("retry", left)], &[pause]);
        assert_eq!(both.verdict, Verdict::Error, "the pause is none of the queue `retry`");
    }

    #[test]
    fn what_a_queue_does_not_tell_is_unknown_and_not_well() {
        for (judge, queue) in
            [(consumers as Judge, "new.0"), (dead_letters, "dead.held"), (quarantine, "quarantine")]
        {
            let judged = judged(judge, &[(queue, None)], &[]);
            assert_eq!(judged.verdict, Verdict::Unknown, "{queue}");
            assert!(judged.found.contains(queue), "{judged:?}");
        }
        let left = Some(Counts { ready: 1, consumers: 0 });
        assert_eq!(judged(consumers, &[("new.0", None), ("retry", left)], &[]).verdict, Verdict::Error);
    }

    #[test]
    fn dead_letters_and_quarantine_are_warned_of_while_they_hold_something() {
        assert_eq!(with(dead_letters, "dead.inventory", 1, 1), Verdict::Warning);
        assert_eq!(with(dead_letters, "dead.poison", 0, 0), Verdict::Ok);
        assert_eq!(with(quarantine, "quarantine", 1, 1), Verdict::Warning);
    }

    #[test]
    fn a_queue_of_another_type_is_an_error() {
        let policy = Policy::new(StepSettings::defaults(), 0).unwrap();
        let topology = Topology::new("t.", 2, 1_000, &policy.step_names());
        let judged = |found| {
            let looked = [Looked { item: Item::Queue("t.orders.retry".into()), found, counts: None }];
            queue_type(&Seen { looked: &looked, topology: &topology, policy: &policy, pauses: &[] }).verdict
        };
        let text = "inequivalent arg 'x-queue-type' …".to_owned();
        let argument = Some("x-queue-type".to_owned());
        let classic = Difference { argument, declared: None, current: Some("classic".into()), text };
        assert_eq!(judged(Found::Different(classic)), Verdict::Error);
        assert_eq!(judged(Found::Equal), Verdict::Ok);
        assert_eq!(judged(Found::Missing), Verdict::Unknown);
    }

    #[test]
    fn a_refusal_is_told_in_the_brokers_words() {
        let item = Item::Queue("q".into());
        let found = Found::Unknown("ACCESS_REFUSED - access to queue 'q' refused".into());
        let told = refused(&[Looked { item, found, counts: None }]).unwrap();
        assert!(told.contains("queue q") && told.contains("ACCESS_REFUSED"), "{told}");
    }
}
