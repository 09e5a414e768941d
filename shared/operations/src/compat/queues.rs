//! Messages in queues: whether this build's decoder reads them. A look is a delivery, so that there is a bound to it.

use orderfleet_domain::{
    Command, DecodeError, OrderId,
    saga::{DeadLetterQueue, Lane, Policy},
};
use orderfleet_messaging::{Counts, Found, Inspector, Item, Looked, Peeked, Topology};

use super::{
    Candidate,
    finding::{Kind, Reason, Tally},
    orders::chain,
};

const NOT_ASKED: &str = "not looked at: --messages 0";

/// What a queue is for, as far as its messages mean something else by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Commands: worked, or waiting.
    Commands,
    /// Dead letters that people can replay.
    DeadLetters,
    /// Whatever nobody could work with.
    Poison,
    /// Suspected of crashing workers.
    Quarantine,
}

/// One kind for each queue that holds something, and one for all others.
pub(super) async fn examine(
    candidate: &Candidate<'_>,
    looked: &[Looked],
    tell: &mut impl FnMut(&str, u64),
) -> Vec<Kind> {
    let Candidate { inspector, policy, messages_max, .. } = *candidate;
    let mut empty = Tally::new("empty queues");
    let mut kinds = Vec::new();
    for looked in looked {
        let Item::Queue(name) = &looked.item else { continue };
        match (looked.counts, &looked.found) {
            (Some(Counts { ready: 0, .. }), _) | (None, Found::Missing) => {
                empty.see(None, []);
            }
            (Some(Counts { ready, .. }), _) => {
                let purpose = purpose(inspector.topology(), policy, name);
                kinds.push(look_into(inspector, name, purpose, ready, messages_max).await);
                tell(name, kinds.last().map_or(0, |kind| kind.seen));
            }
            (None, _) => {
                let mut tally = Tally::new(name.as_str());
                if messages_max == 0 {
                    tally.leave_out(NOT_ASKED);
                } else {
                    tally.unknown("it does not tell what it holds");
                }
                kinds.push(tally.end());
            }
        }
    }
    kinds.insert(0, empty.end());
    kinds
}

async fn look_into(inspector: &Inspector, name: &str, purpose: Use, ready: u32, most: u32) -> Kind {
    let mut tally = Tally::new(name);
    tally.of(ready.into());
    if purpose == Use::Quarantine {
        tally.leave_out("not looked at: each delivery there brings a message closer to being parked");
        return tally.end();
    }
    if most == 0 {
        tally.leave_out(NOT_ASKED);
        return tally.end();
    }
    match inspector.peek(name, most).await {
        Ok(messages) => {
            for message in &messages {
                let order_id = message.headers.order_id();
                tally.see(order_id.as_ref().map(OrderId::as_str), judge(purpose, message));
            }
            if messages.len() < ready as usize {
                tally.note("a sample: the first in line");
            }
        }
        Err(error) => tally.unknown(format!("not looked at: {}", chain(&error))),
    }
    tally.end()
}

fn purpose(topology: &Topology, policy: &Policy, name: &str) -> Use {
    let dead = |queue: &DeadLetterQueue| topology.dead_letter_queue(queue) == name;
    let steps = policy.step_names().into_iter().map(DeadLetterQueue::Step);
    if topology.queue(&Lane::Quarantine) == name {
        Use::Quarantine
    } else if dead(&DeadLetterQueue::Poison) {
        Use::Poison
    } else if steps.chain([DeadLetterQueue::Held, DeadLetterQueue::Conflict]).any(|queue| dead(&queue)) {
        Use::DeadLetters
    } else {
        Use::Commands
    }
}

fn judge(purpose: Use, message: &Peeked) -> Option<Reason> {
    // Dead letters wait in the tiers, too.
    let is_dead_letter = message.headers.get("dead_letter_id").is_some();
    match Command::decode(&message.body) {
        Ok(_) => None,
        Err(DecodeError::Newer(version)) => Some(Reason::NewerMessage(version)),
        Err(DecodeError::Malformed(_)) if purpose == Use::Poison || is_dead_letter => None,
        Err(DecodeError::Malformed(why)) => Some(Reason::UnreadableMessage(why)),
    }
}

#[cfg(test)]
mod tests {
    use orderfleet_domain::saga::{StepSettings, Tier};
    use orderfleet_messaging::Headers;

    use super::*;

    #[test]
    fn every_queue_has_its_use() {
        let policy = Policy::new(StepSettings::defaults(), 0).unwrap();
        let topology = Topology::new("t.", 2, 1_000, &policy.step_names());
        let of = |name: &str| {
            let queue = topology.queue_names().find(|queue| queue.strip_prefix("t.orders.") == Some(name));
            purpose(&topology, &policy, queue.unwrap())
        };
        for commands in ["new.1", "retry", "replay", "compensate", "wait.2m"] {
            assert_eq!(of(commands), Use::Commands, "{commands}");
        }
        for dead in ["dead.accounting", "dead.held", "dead.conflict"] {
            assert_eq!(of(dead), Use::DeadLetters, "{dead}");
        }
        assert_eq!((of("dead.poison"), of("quarantine")), (Use::Poison, Use::Quarantine));
        assert_eq!(Tier::ALL.len(), 6, "and each has a queue of commands");
    }

    #[test]
    fn a_newer_message_never_fits_and_an_unreadable_one_only_where_such_ones_belong() {
        let peeked = |body: &str, headers| Peeked { body: body.into(), headers };
        let newer = peeked(r#"{"v":99}"#, Headers::default());
        for purpose in [Use::Commands, Use::DeadLetters, Use::Poison] {
            assert_eq!(judge(purpose, &newer), Some(Reason::NewerMessage(99)));
        }
        let unreadable = peeked("x", Headers::default());
        for purpose in [Use::Commands, Use::DeadLetters] {
            assert!(matches!(judge(purpose, &unreadable), Some(Reason::UnreadableMessage(_))));
        }
        assert_eq!(judge(Use::Poison, &unreadable), None);
        let waiting = peeked("x", Headers::default().dead_letter_id("d"));
        assert_eq!(judge(Use::Commands, &waiting), None);
    }
}
