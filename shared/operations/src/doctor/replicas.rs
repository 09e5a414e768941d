//! Whether the queues have a leader and enough of their members, which the management API alone tells.

use orderfleet_messaging::Topology;

use super::{Judgement, Verdict, broker::MANAGEMENT_FIX};
use crate::topology::Observed;

const LOOK: &str =
    "rabbitmq-diagnostics check_if_node_is_quorum_critical; rabbitmq-queues quorum_status NAME";

/// `observed` is what the management API tells, or why it does not, if one was named.
pub(super) fn replicas(observed: &Result<Observed, Option<String>>, topology: &Topology) -> Judgement {
    let observed = match observed {
        Ok(observed) => observed,
        Err(None) => {
            let found = "not visible over AMQP, where a queue without a majority is told as empty";
            return Judgement::unknown(
                found,
                format!("{LOOK}; or name the management API: --management-url"),
            );
        }
        Err(Some(why)) => return Judgement::unknown(why, MANAGEMENT_FIX),
    };
    let queues = topology.queue_names().map(|name| of_queue(observed, name));
    let queues: Vec<_> = queues.collect();
    let told = |wanted: Verdict| {
        let told = queues.iter().filter(|(verdict, _)| *verdict == wanted).map(|(_, told)| told.as_str());
        Some(told.collect::<Vec<_>>().join("; ")).filter(|told| !told.is_empty())
    };
    let start = format!("start the broker's nodes that are down; {LOOK}");
    if let Some(told) = told(Verdict::Error) {
        Judgement::error(told, start)
    } else if let Some(told) = told(Verdict::Unknown) {
        Judgement::unknown(told, LOOK)
    } else if let Some(told) = told(Verdict::Warning) {
        Judgement::warning(told, start)
    } else {
        Judgement::ok("every queue has a leader and all its members")
    }
}

fn of_queue(observed: &Observed, name: &str) -> (Verdict, String) {
    let queue = observed.queues.get(name).filter(|queue| !queue.members.is_empty());
    let Some(queue) = queue else { return (Verdict::Unknown, format!("nothing is told of {name}")) };
    let (online, members) = (queue.online.len(), queue.members.len());
    let told = format!("{name} has {online} of {members} members online");
    if online * 2 <= members {
        (Verdict::Error, format!("{told}: no majority"))
    } else if queue.leader.as_ref().is_none_or(|leader| !queue.online.contains(leader)) {
        (Verdict::Error, format!("{told} and no leader"))
    } else if online < members {
        (Verdict::Warning, told)
    } else {
        (Verdict::Ok, told)
    }
}

#[cfg(test)]
mod tests {
    use orderfleet_domain::saga::{Policy, StepSettings};

    use super::*;

    #[test]
    fn a_queue_without_a_majority_or_a_leader_is_an_error_and_with_fewer_members_warned_of() {
        let policy = Policy::new(StepSettings::defaults(), 0).unwrap();
        let topology = Topology::new("t.", 1, 1_000, &policy.step_names());
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let all = ["a", "b", "c"];
        let judged = |leader: &str, online: &[&str], members: &[&str]| {
            let mut observed = Observed::default();
            for name in topology.queue_names() {
                let queue = observed.queues.entry(name.to_owned()).or_default();
                queue.leader = Some("a".to_owned());
                (queue.online, queue.members) = (names(&all), names(&all));
            }
            let queue = observed.queues.entry("t.orders.retry".to_owned()).or_default();
            queue.leader = Some(leader.to_owned());
            (queue.online, queue.members) = (names(online), names(members));
            replicas(&Ok(observed), &topology).verdict
        };
        assert_eq!(judged("a", &all, &all), Verdict::Ok);
        assert_eq!(judged("a", &["a", "b"], &all), Verdict::Warning);
        assert_eq!(judged("c", &["a", "b"], &all), Verdict::Error);
        assert_eq!(judged("a", &["a"], &all), Verdict::Error);
        assert_eq!(judged("", &[], &[]), Verdict::Unknown);
        assert_eq!(replicas(&Err(None), &topology).verdict, Verdict::Unknown);
        assert_eq!(replicas(&Ok(Observed::default()), &topology).verdict, Verdict::Unknown);
    }
}
