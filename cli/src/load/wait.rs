//! Follows accepted orders until each is terminal, while others are still being posted.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use super::tally::Tally;
use crate::client::{Client, Status, Stored};

const POLLS_MAX: usize = 8;
const FIRST_POLL_AFTER: Duration = Duration::from_millis(200);
/// The longest pause between two polls of one order, at least; it grows with the number of open orders,
/// so that asking costs the fleet about the same however many there are.
const PAUSE_MAX: Duration = Duration::from_secs(2);
const PAUSE_MAX_PER_OPEN_ORDER: Duration = Duration::from_millis(5);
const PAUSE_LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Follower<'a> {
    pub(crate) query: Client,
    /// Runs from the moment the last order has been posted.
    pub(crate) timeout: Duration,
    pub(crate) tally: &'a RefCell<Tally>,
    pub(crate) progress: &'a Progress,
    pub(crate) stop: CancellationToken,
}

/// An order to ask for. The earliest due comes first, and so the newest last.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Open {
    due: Instant,
    pause: Duration,
    order_id: String,
}

impl Follower<'_> {
    /// Ends when every order that came through `accepted` is terminal, when the time is up, or when stopped.
    pub(crate) async fn run(self, mut accepted: UnboundedReceiver<String>) {
        let mut waiting: BinaryHeap<Reverse<Open>> = BinaryHeap::new();
        let mut polls = FuturesUnordered::new();
        let mut deadline = None;
        let mut last_trouble = None;
        while deadline.is_none() || !waiting.is_empty() || !polls.is_empty() {
            let next_due = waiting.peek().map(|Reverse(open)| open.due).filter(|_| polls.len() < POLLS_MAX);
            tokio::select! {
                order_id = accepted.recv(), if deadline.is_none() => match order_id {
                    Some(order_id) => waiting.push(Reverse(Open::new(order_id))),
                    None => deadline = Some(Instant::now() + self.timeout),
                },
                Some(polled) = polls.next(), if !polls.is_empty() => {
                    let (open, status): (Open, Status) = polled;
                    match status {
                        Status::Stored(stored) if self.count(&stored) => continue,
                        Status::Stored(_) | Status::NotYetKnown => {}
                        Status::Unknown(why) => last_trouble = Some(why),
                        Status::Denied(status, problem) => {
                            last_trouble = Some(format!("{status} {problem}"));
                            break;
                        }
                    }
                    waiting.push(Reverse(open.later(waiting.len())));
                }
                () = sleep_until(next_due.unwrap_or_else(Instant::now)), if next_due.is_some() => {
                    let Some(Reverse(open)) = waiting.pop() else { continue };
                    polls.push(self.poll(open));
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => break,
                () = self.stop.cancelled() => break,
            }
        }
        if let Some(why) = last_trouble.filter(|_| self.tally.borrow().open() > 0) {
            self.progress.note(&format!("the query API's last answer that was no status: {why}"));
        }
    }

    async fn poll(&self, open: Open) -> (Open, Status) {
        let status = self.query.status(&open.order_id).await;
        (open, status)
    }

    /// Counts a terminal order; false while it is on its way.
    fn count(&self, stored: &Stored) -> bool {
        let mut tally = self.tally.borrow_mut();
        let counter = match stored.status.as_str() {
            "DONE" => &mut tally.done,
            "UNDONE" => &mut tally.undone,
            "HELD" => &mut tally.held,
            _ => return false,
        };
        *counter += 1;
        tally.conflict += u64::from(stored.conflicts > 0);
        true
    }
}

impl Open {
    fn new(order_id: String) -> Self {
        Self { due: Instant::now() + FIRST_POLL_AFTER, pause: FIRST_POLL_AFTER, order_id }
    }

    /// The same order after a pause twice as long, within bounds.
    fn later(self, open_orders: usize) -> Self {
        let open_orders = u32::try_from(open_orders).unwrap_or(u32::MAX);
        let pause_max = PAUSE_MAX_PER_OPEN_ORDER.saturating_mul(open_orders).clamp(PAUSE_MAX, PAUSE_LIMIT);
        let pause = (self.pause * 2).min(pause_max);
        Self { due: Instant::now() + pause, pause, ..self }
    }
}
