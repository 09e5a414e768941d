//! Dead letters that were delivered before, and may be what ended the workers that had them in hand.

use std::time::Duration;

use orderfleet_domain::{
    OrderId,
    saga::{Nonce, Tier},
};
use orderfleet_messaging::Delays;
use orderfleet_runtime::crash;
use orderfleet_storage::Unread;

use super::{
    Arrival, FIRST_REPEAT, LONGEST_REPEAT, Parker, Read, ShuttingDown, count, letter::WORKERS_ENDED,
};
use crate::driver::{fresh_nonce, now};

/// How often a dead letter that was delivered before is read in a row. After so many workers that were gone over it, it waits,
/// so that whatever else ended them passes: a neighbour's crashes, mostly.
const READINGS_IN_A_ROW: usize = 3;
/// The waits between one row and the next. After the last row it is taken for what ended them, and is not read any more.
const WAITS: [Tier; 2] = [Tier::S30, Tier::M2];
/// Longest try of a worker that shuts down to take its reading back.
const TAKE_BACK_TIMEOUT: Duration = Duration::from_secs(5);

/// How to deal with a dead letter that was delivered before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    Read,
    Wait(Tier),
    LeaveUnread,
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
            let turn = self.turn.lock().await;
            let beginning = self.store.begin_reading(unread, reading, now());
            let readings = crash::around("park.begin_reading", beginning).await?;
            Ok((turn, readings))
        };
        let (turn, readings) = self.until_stored(&unread.letter, try_in_turn).await?;
        match care(readings) {
            Care::Read => {}
            Care::Wait(tier) => return Ok(Read::NotNow(tier)),
            Care::LeaveUnread => {
                drop(turn);
                return self.leave_unread(unread, readings).await;
            }
        }
        // Only this can end a worker: what comes of it is stored without the turn, however long that takes.
        let read = arrival.read();
        let ending = || crash::around("park.end_readings", self.store.end_readings(unread));
        self.until_stored(&unread.letter, ending).await?;
        drop(turn);
        self.store_read(read).await
    }

    async fn leave_unread(&self, unread: &Unread, readings: usize) -> Result<Read, ShuttingDown> {
        tracing::error!(
            dead_letter.id = unread.letter.id,
            order.id = unread.order_id.as_ref().map(OrderId::as_str),
            readings,
            "a dead letter ends workers and is not read"
        );
        let storing = || crash::around("park.store", self.store.park_unread(unread, now()));
        self.until_stored(&unread.letter, storing).await?;
        count(&unread.letter, "unread");
        Ok(Read::Unread)
    }

    /// This worker shuts down in order and has not ended over the letter. Should the database stay away for as long as this
    /// tries, the letter is left with one reading of three that was none.
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

/// By how many readings were begun and neither ended nor taken back, this one included.
fn care(readings: usize) -> Care {
    let gone = readings.saturating_sub(1);
    let (row, place) = (gone / READINGS_IN_A_ROW, gone % READINGS_IN_A_ROW);
    match row.checked_sub(1) {
        None => Care::Read,
        Some(wait) => match WAITS.get(wait) {
            None => Care::LeaveUnread,
            Some(tier) if place == 0 => Care::Wait(*tier),
            Some(_) => Care::Read,
        },
    }
}
