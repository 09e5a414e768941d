//! Dead letters in the hands of operators: one at a time has one, and what he does about it is recorded once.

use jiff::Timestamp;
use mongodb::bson::{self, DateTime, Document, doc};
use orderfleet_domain::{Order, saga::Millis};
use serde::Deserialize;

use super::{
    letter::{Ended, Lease},
    stored::{self, StoredEnded, StoredLease, malformed},
};
use crate::{Store, StoreError};

/// Longest lease. One that ends later was written by a clock that is wrong, and is not believed.
const LEASE_MS_MAX: Millis = 24 * 3_600_000;

/// What came of asking for a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leased {
    /// The caller has it.
    Yes,
    /// Somebody else has it.
    By {
        /// Who.
        holder: String,
        /// Until when.
        until: Timestamp,
    },
    /// It was replayed or discarded.
    Ended,
    /// There is no such dead letter.
    Missing,
}

#[derive(Deserialize)]
struct Standing {
    ended: Option<StoredEnded>,
    lease: Option<StoredLease>,
}

impl Store {
    /// Takes an open dead letter in hand until a time, at most a day from now, by compare-and-set, majority-committed. Of two
    /// who ask at once one gets it. A second call of its holder moves the time on; after it everybody may have it.
    ///
    /// `holder` names one job of one operator: two jobs must not have the same. A crash leaves the letter leased until the time.
    ///
    /// # Errors
    /// The database did not answer in time; the caller may have the letter all the same, and learns it by asking again.
    pub async fn lease_letter(
        &self,
        id: &str,
        holder: &str,
        now: Millis,
        until: Millis,
    ) -> Result<Leased, StoreError> {
        let until = DateTime::from_millis(until.min(now + LEASE_MS_MAX));
        let lease = doc! { "$set": { "lease": { "holder": holder, "until": until } } };
        loop {
            let update = self.dead_letters.update_one(free_for(id, holder, now), lease.clone());
            if self.call("lease a dead letter", update).await?.matched_count > 0 {
                return Ok(Leased::Yes);
            }
            match self.standing(id).await? {
                None => return Ok(Leased::Missing),
                Some(Standing { ended: Some(_), .. }) => return Ok(Leased::Ended),
                Some(Standing { lease: Some(lease), .. }) => {
                    let Lease { holder, until } = lease.into();
                    return Ok(Leased::By { holder, until });
                }
                // Its holder has given it back since.
                Some(Standing { ended: None, lease: None }) => {}
            }
        }
    }

    /// Gives a dead letter back that the holder has in hand and has not ended. A second call does nothing.
    ///
    /// # Errors
    /// The database did not answer in time; it may be given back all the same.
    pub async fn release_letter(&self, id: &str, holder: &str) -> Result<(), StoreError> {
        let update = self.dead_letters.update_one(held_by(id, holder), doc! { "$set": { "lease": null } });
        self.call("release a dead letter", update).await.map(drop)
    }

    /// Records what the holder of a dead letter's lease has done about it, majority-committed; false for anybody else, and for a
    /// letter of `orders.dead.poison` that has come again since it was leased: it stays open. The lease may be over by now, as
    /// long as nobody else has taken it. A second call of the holder with the same `how` is true again
    /// and changes nothing: what was recorded first stays.
    ///
    /// # Errors
    /// The database did not answer in time; it may be recorded all the same: call again.
    pub async fn end_letter(&self, id: &str, holder: &str, ended: &Ended) -> Result<bool, StoreError> {
        let fields = doc! { "$set": { "ended": stored::ended(ended) } };
        let update = self.dead_letters.update_one(held_by(id, holder), fields);
        if self.call("end a dead letter", update).await?.matched_count > 0 {
            return Ok(true);
        }
        // The lease stays with a letter that is ended, and tells who ended it.
        let mut before = held_by(id, holder);
        before.extend(doc! { "ended": { "$ne": null }, "ended.how": ended.how.as_str() });
        let find = self.dead_letters.find_one(before).projection(doc! { "_id": 1 }).max_time(self.timeout);
        Ok(self.call("find a dead letter", find).await?.is_some())
    }

    /// Keeps an order with a dead letter as a person corrected it, for the next run; the letter's body stays as it came. Only for
    /// the holder of the letter's lease; false for anybody else. A second call overwrites.
    ///
    /// # Errors
    /// The database did not answer in time, and the correction may be kept all the same; or the order cannot be stored.
    pub async fn correct_letter(&self, id: &str, holder: &str, order: &Order) -> Result<bool, StoreError> {
        let fields = doc! { "$set": { "correction": stored::order(order)? } };
        let update = self.dead_letters.update_one(held_by(id, holder), fields);
        Ok(self.call("correct a dead letter", update).await?.matched_count > 0)
    }

    async fn standing(&self, id: &str) -> Result<Option<Standing>, StoreError> {
        let find = self.dead_letters.find_one(doc! { "_id": id });
        let find = find.projection(doc! { "ended": 1, "lease": 1 }).max_time(self.timeout);
        let Some(raw) = self.call("find a dead letter", find).await? else { return Ok(None) };
        bson::deserialize_from_slice(raw.as_bytes()).map(Some).map_err(malformed)
    }
}

fn free_for(id: &str, holder: &str, now: Millis) -> Document {
    let free = [
        doc! { "lease": null },
        doc! { "lease.holder": holder },
        doc! { "lease.until": { "$lt": DateTime::from_millis(now) } },
        doc! { "lease.until": { "$gt": DateTime::from_millis(now + LEASE_MS_MAX) } },
    ];
    doc! { "_id": id, "ended": null, "$or": free.to_vec() }
}

fn held_by(id: &str, holder: &str) -> Document {
    doc! { "_id": id, "ended": null, "lease.holder": holder }
}
