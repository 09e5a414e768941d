//! Sees to an order whose message crashed workers: reads it, judges, and changes it until no change is left to make.

use std::time::Duration;

use orderfleet_domain::{CommandKind, saga::StoreReply};
use orderfleet_messaging::Delays;
use orderfleet_runtime::crash;

use super::{FIRST_REPEAT, LONGEST_REPEAT, Parked, Parker, ShuttingDown, Why};
use crate::{
    driver::{fresh_nonce, now, read},
    hold::{Change, Crashed, Verdict, judge},
};

/// An order that has to be waited for is looked at again at least this often.
const LONGEST_LOOK: Duration = Duration::from_secs(5);

impl Parker {
    /// Holds the order, or has it owe its event, if it is one to do that with; waits for a worker that has it in hand.
    ///
    /// A second dead letter finds the hold and leaves it. One that comes again after a person has decided holds the order
    /// once more: rather a second look than a worker crashed by it. An order whose document the database does not let change
    /// keeps its dead letter: it comes again until somebody has mended the document.
    pub(super) async fn see_to_order(&self, crashed: &Crashed<'_>) -> Result<Parked, ShuttingDown> {
        let mut delays = Delays::new(FIRST_REPEAT, LONGEST_REPEAT);
        loop {
            let verdict = match read(&self.store, crashed.command).await {
                StoreReply::Found(found) => {
                    judge(found.as_deref(), crashed, &self.policy, now(), fresh_nonce())
                }
                _ => Verdict::Wait(delays.next_delay()),
            };
            let change = match verdict {
                Verdict::LeaveAlone => return Ok(Parked::Done),
                Verdict::LeaveToNewer => return Ok(Parked::Later(Why::NewerBuild)),
                Verdict::Wait(wait) => {
                    self.pause(wait.min(LONGEST_LOOK)).await?;
                    continue;
                }
                Verdict::Change(change) => change,
            };
            match self.make(&change, crashed).await? {
                StoreReply::Applied => {
                    tell(&change, crashed);
                    return Ok(Parked::Done);
                }
                StoreReply::Refused(reason) => {
                    metrics::counter!("orderfleet_holds_refused_total").increment(1);
                    tracing::error!(order.id = %crashed.command.order_id, reason, "the order cannot be held");
                    // Without a document the dead letter shows the order, and what cannot be inserted never can be. A
                    // document that is there may be mended, and hides the dead letter until then.
                    return Ok(match change {
                        Change::InsertHeld(_) => Parked::Done,
                        Change::Hold(_) | Change::Owe(_) => Parked::Later(Why::Refused),
                    });
                }
                // Somebody else was faster, or an earlier try of this very change was: the document says.
                _ => self.pause(delays.next_delay()).await?,
            }
        }
    }

    /// Makes the change, and again until the database says what came of it.
    async fn make(&self, change: &Change, crashed: &Crashed<'_>) -> Result<StoreReply, ShuttingDown> {
        let mut delays = Delays::new(FIRST_REPEAT, LONGEST_REPEAT);
        loop {
            match crash::around("park.hold", self.try_to_make(change, crashed)).await {
                StoreReply::Unknown => self.pause(delays.next_delay()).await?,
                reply => return Ok(reply),
            }
        }
    }

    async fn try_to_make(&self, change: &Change, crashed: &Crashed<'_>) -> StoreReply {
        let command = crashed.command;
        match (change, &command.kind) {
            (Change::Hold(write), _) => self.store.write(&command.order_id, write).await,
            (Change::Owe(note), _) => self.store.note(&command.order_id, note).await,
            (Change::InsertHeld(record), CommandKind::Place { order, accepted_at }) => {
                self.store.insert(&command.order_id, &command.account, order, *accepted_at, record).await
            }
            (Change::InsertHeld(_), _) => StoreReply::Refused("only a posted order can be inserted".into()),
        }
    }
}

fn tell(change: &Change, crashed: &Crashed<'_>) {
    let (order_id, reason) = (crashed.command.order_id.as_str(), crashed.reason);
    if let Change::Owe(_) = change {
        tracing::info!(order.id = order_id, reason, "the order has ended; its event is published again");
    } else {
        metrics::counter!("orderfleet_holds_set_total").increment(1);
        tracing::warn!(order.id = order_id, reason, "the order is held for a person");
    }
}
