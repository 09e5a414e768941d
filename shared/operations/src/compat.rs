//! Whether this build can go on with what a running fleet has: its queues, its dead letters, its open orders. Asked with a
//! candidate's own decoders, saga core and settings before it is let in, or before a roll-back.

mod finding;
mod letters;
mod orders;
mod queues;
mod surroundings;

use std::collections::BTreeSet;

use orderfleet_domain::{
    SCHEMA_VERSION,
    saga::{DOCUMENT_VERSION, Policy},
};
use orderfleet_messaging::Inspector;
use orderfleet_storage::{Open, Store};
use serde::Serialize;

pub use finding::{Kind, Misfit, Verdict};

/// What is looked at, and how much of it.
#[derive(Debug)]
pub struct Candidate<'a> {
    /// The database of the running fleet.
    pub store: &'a Store,
    /// Its broker.
    pub inspector: &'a Inspector,
    /// The steps that the candidate is to run with.
    pub policy: &'a Policy,
    /// Most orders of a kind, and most dead letters, that are read.
    pub documents_max: u32,
    /// Most messages that are looked at in each queue; none of any for 0. See [`examine`] for the price.
    pub messages_max: u32,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Newest version of messages that this build reads.
    pub messages_up_to: u32,
    /// Newest version of documents that this build works with.
    pub documents_up_to: u32,
    /// The worst of all; never [`Verdict::LeftOut`].
    pub verdict: Verdict,
    /// Each kind of thing that was looked at.
    pub kinds: Vec<Kind>,
}

/// Looks at everything and changes nothing in the database. `tell` gets the kind in hand and how much of it is read.
///
/// In the database, every open order and every open dead letter is read, up to the limit. In the broker there is no look
/// without a delivery: of each queue the first messages are delivered and given back, which costs each of them one of the twenty
/// deliveries after which the broker takes it to quarantine, and marks its next delivery as a repeated one. A second call looks at
/// the same messages again, and ends in a queue at one that has ten returns: from then on each call costs the first message one
/// return, without a bound, so do not call it in a loop. What waits in quarantine is not looked at: each delivery brings it closer to
/// being parked.
///
/// In memory are a hundred documents, and the messages of one queue, at most 32 MiB and one message. Whatever does not answer
/// is told as unknown, and keeps nothing else from being looked at.
pub async fn examine(candidate: &Candidate<'_>, mut tell: impl FnMut(&str, u64)) -> Report {
    let looked = candidate.inspector.look().await;
    let mut missing = BTreeSet::new();
    let mut kinds = vec![surroundings::collections(candidate.store).await, surroundings::topology(&looked)];
    for open in Open::ALL {
        kinds.push(orders::examine(candidate, open, &mut missing, &mut tell).await);
    }
    kinds.push(letters::examine(candidate, &mut tell).await);
    kinds.extend(queues::examine(candidate, &looked, &mut tell).await);
    kinds.push(surroundings::leftovers(candidate.inspector, &missing).await);
    let looked_at = kinds.iter().map(|kind| kind.verdict).filter(|verdict| *verdict != Verdict::LeftOut);
    let verdict = looked_at.max().unwrap_or(Verdict::Fits);
    Report { messages_up_to: SCHEMA_VERSION, documents_up_to: DOCUMENT_VERSION, verdict, kinds }
}
