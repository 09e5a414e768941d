//! Dead letters that were delivered before, and may be what ended the workers that had them in hand.

use std::time::Duration;

use orderfleet_domain::{
    OrderId,
    saga::{Nonce, Tier},
};
use orderfleet_messaging::Delays;
use orderfleet_runtime::crash;
use orderfleet_storage::{Readings, Unread};

use super::{
    Arrival, FIRST_REPEAT, LONGEST_REPEAT, Parker, Read, ShuttingDown, count, letter::WORKERS_ENDED,
};
use crate::driver::{fresh_nonce, now};

/// So many workers may be gone over a dead letter before it waits, and so many more before it waits again.
const READINGS_IN_A_ROW: usize = 3;
/// The waits in which whatever else ended the workers passes, a neighbour's crashes mostly. After one more row the letter is taken for
/// what ended them, and is not read any more.
const WAITS: [Tier; 2] = [Tier::S30, Tier::M2];
/// Longest try of a worker that shuts down to take its reading back.
const TAKE_BACK_TIMEOUT: Duration = Duration::from_secs(5);

/// How to deal with a dead letter that was delivered before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    Read,
    Wait(Wait),
    LeaveUnread,
}

/// A wait of a dead letter over which workers were gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    /// Its first is 1.
    pub(super) number: usize,
    pub(super) tier: Tier,
}

impl Parker {
    /// Reads and stores a dead letter that was delivered before, unless workers were gone over it again and again: then it
    /// waits, and in the end is stored as it is, without a look into it.
    pub(super) async fn read_with_care(&self, arrival: &Arrival<'_>) -> Result<Read, ShuttingDown> {
        let (unread, reading) = (arrival.unread(WORKERS_ENDED), fresh_nonce());
        let read = self.read_in_turn(arrival, &unread, reading).await;
        if read.is_err() {
            self.take_back(&unread, reading).await;
        }
        read
    }

    async fn read_in_turn(
        &self,
        arrival: &Arrival<'_>,
        unread: &Unread,
        reading: Nonce,
    ) -> Result<Read, ShuttingDown> {
        // The turn is over with a try that fails: what the database never takes must not keep others from theirs.
        let try_in_turn = async || {
            let turn = tokio::select! {
                turn = self.turn.lock() => turn,
                // Nothing new is read, and the turn may be far.
                () = self.draining.cancelled() => return Ok(None),
            };
            let beginning = self.store.begin_reading(unread, reading, now());
            let readings = crash::around("park.begin_reading", beginning).await?;
            Ok(Some((turn, readings)))
        };
        let begun = self.until_stored(&unread.letter, try_in_turn).await?;
        let (turn, readings) = begun.ok_or(ShuttingDown)?;
        match care(readings) {
            Care::Read => {}
            Care::Wait(wait) => {
                drop(turn);
                // It was not read, and nobody can end over it while it waits.
                let taking_back = || self.store.take_reading_back(unread, reading);
                self.until_stored(&unread.letter, taking_back).await?;
                return Ok(Read::NotNow(wait));
            }
            Care::LeaveUnread => {
                drop(turn);
                tracing::error!(
                    dead_letter.id = unread.letter.id,
                    order.id = unread.order_id.as_ref().map(OrderId::as_str),
                    readings = readings.count,
                    "a dead letter ends workers and is not read"
                );
                self.leave_unread(unread).await?;
                return Ok(Read::Unread);
            }
        }
        let read = arrival.read();
        // It is told at once that this worker lives, before the next letter is read, which may end it.
        let ending = || crash::around("park.end_readings", self.store.end_readings(unread));
        let ended = ending().await;
        drop(turn);
        if ended.is_err() {
            self.until_stored(&unread.letter, ending).await?;
        }
        self.store_read(read).await
    }

    pub(super) async fn leave_unread(&self, unread: &Unread) -> Result<(), ShuttingDown> {
        let storing = || crash::around("park.store", self.store.park_unread(unread, now()));
        self.until_stored(&unread.letter, storing).await?;
        count(&unread.letter, "unread");
        Ok(())
    }

    /// Remembers that the letter waits: its copy in the tier is confirmed. A worker that is gone before this has it wait once more.
    pub(super) async fn note_wait(&self, arrival: &Arrival<'_>, wait: Wait) -> Result<(), ShuttingDown> {
        let unread = arrival.unread(WORKERS_ENDED);
        self.until_stored(&unread.letter, || self.store.note_wait(&unread, wait.number)).await
    }

    /// This worker shuts down in order and has not ended over the letter. Should the database stay away for as long as this
    /// tries, the letter is left with one reading that was none.
    async fn take_back(&self, unread: &Unread, reading: Nonce) {
        let mut delays = Delays::new(FIRST_REPEAT, LONGEST_REPEAT);
        let taking_back = async {
            while self.store.take_reading_back(unread, reading).await.is_err() {
                tokio::time::sleep(delays.next_delay()).await;
            }
        };
        if tokio::time::timeout(TAKE_BACK_TIMEOUT, taking_back).await.is_err() {
            tracing::warn!(dead_letter.id = unread.letter.id, "a reading could not be taken back");
        }
    }
}

/// By the readings that were begun and neither ended nor taken back, the one in question included.
fn care(readings: Readings) -> Care {
    let gone = readings.count.saturating_sub(1);
    if gone / READINGS_IN_A_ROW <= readings.waits {
        return Care::Read;
    }
    match WAITS.get(readings.waits) {
        Some(tier) => Care::Wait(Wait { number: readings.waits + 1, tier: *tier }),
        None => Care::LeaveUnread,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_workers_were_gone_over_a_letter_the_longer_it_waits_before_it_is_read_or_given_up() {
        let short = Care::Wait(Wait { number: 1, tier: Tier::S30 });
        let long = Care::Wait(Wait { number: 2, tier: Tier::M2 });
        for (gone, waits, wanted) in [
            (0, 0, Care::Read),
            (2, 0, Care::Read),
            (3, 0, short),
            (3, 1, Care::Read),
            (5, 1, Care::Read),
            (6, 1, long),
            (6, 2, Care::Read),
            (8, 2, Care::Read),
            (9, 0, short),
            (9, 1, long),
            (9, 2, Care::LeaveUnread),
            (40, 2, Care::LeaveUnread),
        ] {
            assert_eq!(care(Readings { count: gone + 1, waits }), wanted, "{gone} gone, {waits} waits");
        }
    }
}
