//! What the settings alone tell.

use std::time::Duration;

use orderfleet_domain::saga::Policy;

use super::{Finding, Judgement, Subject, WorkerLimits};

/// RabbitMQ's own default: 30 minutes (documentation, "Delivery Acknowledgement Timeout").
const CONSUMER_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30 * 60);
const CONSUMER_TIMEOUT_LOOK: &str = "rabbitmqctl eval 'application:get_env(rabbit, consumer_timeout).'";

pub(super) fn examine(subject: &Subject) -> Vec<Finding> {
    let steps = match &subject.steps {
        Ok(policy) => Judgement::ok(format!("{} steps", policy.steps().len())),
        Err(why) => Judgement::error(why, "correct the named setting; orderfleet.example.toml explains each"),
    };
    let mut findings = vec![Judgement::ok("they can be read").of("settings"), steps.of("steps")];
    if let Ok(policy) = &subject.steps {
        findings.push(consumer_timeout(in_hand_max(policy, subject)).of("consumer timeout"));
    }
    findings
}

/// The broker takes a delivery back, and closes its channel, when it is in hand for longer.
fn consumer_timeout(in_hand: Duration) -> Judgement {
    let minutes = in_hand.as_secs().div_ceil(60);
    if in_hand > CONSUMER_TIMEOUT_DEFAULT {
        let found = format!(
            "a delivery can be in hand for {minutes} min while the database answers, longer than RabbitMQ's default of 30 min"
        );
        let fix = format!(
            "set consumer_timeout in rabbitmq.conf above {} (milliseconds), or lower worker.prefetch, or timeout_ms or \
             quick_retries of the steps; {CONSUMER_TIMEOUT_LOOK} shows what is in force",
            in_hand.as_millis()
        );
        return Judgement::warning(found, fix);
    }
    let found = format!(
        "not visible over AMQP; a delivery is in hand for at most {minutes} min while the database answers, and RabbitMQ's \
         default is 30 min"
    );
    Judgement::unknown(found, format!("{CONSUMER_TIMEOUT_LOOK} shows the milliseconds in force"))
}

/// From the delivery to the ack. Those of the queues of fresh orders and of `retry` wait for their turn in the worker, which
/// works on `concurrency` of them at once; no other queue of a worker has more deliveries to a turn.
fn in_hand_max(policy: &Policy, subject: &Subject) -> Duration {
    let WorkerLimits { concurrency, prefetch } = subject.worker;
    let (partitions, prefetch) = (u32::from(subject.broker.partitions).max(1), u32::from(prefetch));
    let deliveries = prefetch.div_ceil(partitions) * partitions + prefetch;
    work_max(policy, subject) * deliveries.div_ceil(u32::from(concurrency).max(1)).max(1)
}

/// One delivery can bring an order through all its steps, each called again at once as often as that is allowed, with a write
/// after each.
fn work_max(policy: &Policy, subject: &Subject) -> Duration {
    let writes = policy.steps().len() as u64 + 2;
    let calls = policy.steps().iter().map(|step| step.timeout_ms * (1 + u64::from(step.quick_retries)));
    Duration::from_millis(calls.sum::<u64>() + writes * subject.database.timeout_ms)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use orderfleet_domain::saga::StepSettings;
    use orderfleet_messaging::BrokerSettings;
    use orderfleet_storage::DatabaseSettings;

    use super::{super::Verdict, *};

    #[test]
    fn a_delivery_that_can_be_in_hand_for_too_long_is_warned_of() {
        let short = consumer_timeout(Duration::from_secs(61));
        assert!(short.verdict == Verdict::Unknown && short.found.contains("2 min"), "{short:?}");
        let long = consumer_timeout(Duration::from_secs(31 * 60));
        assert!(long.verdict == Verdict::Warning && long.fix.unwrap().contains("1860000"));
    }

    #[test]
    fn a_delivery_waits_in_the_worker_for_those_of_every_partition_and_of_retries() {
        let policy = Policy::new(StepSettings::defaults(), 0).unwrap();
        let in_hand = |partitions, concurrency, prefetch| {
            let subject = Subject {
                broker: BrokerSettings { partitions, ..BrokerSettings::default() },
                database: DatabaseSettings { timeout_ms: 1_000, ..DatabaseSettings::default() },
                steps: Ok(policy.clone()),
                worker: WorkerLimits { concurrency, prefetch },
                management: None,
                clock: Timestamp::now,
            };
            in_hand_max(&policy, &subject).as_secs()
        };
        // Three steps of three calls of 5 s each, and five writes of 1 s.
        assert_eq!(in_hand(8, 1_000, 1), 50);
        assert_eq!(in_hand(8, 32, 32), 2 * 50, "partitions share what is taken of fresh orders");
        assert_eq!(in_hand(64, 32, 32), 3 * 50, "but each has one at least");
        assert_eq!(in_hand(1, 32, 64), 4 * 50);
    }
}
