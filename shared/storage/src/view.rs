//! The read side: an order as its account sees it.

use jiff::Timestamp;
use mongodb::bson::doc;
use orderfleet_domain::{
    AccountId, Order, OrderId,
    saga::{Entry, Record},
};

use crate::{
    Store, StoreError,
    document::{StoredDocument, timestamp},
};

/// All that is known of an order. It holds the address: whoever answers with it chooses what to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderView {
    /// Its id.
    pub order_id: OrderId,
    /// Whose it is.
    pub account: AccountId,
    /// What was posted.
    pub order: Order,
    /// What a person made of it, and the first run that works on that.
    pub correction: Option<(u32, Order)>,
    /// Where it stands.
    pub record: Record,
    /// What happened to it, oldest first; the newest 64 entries.
    pub history: Vec<Entry>,
    /// How many other bodies were posted under its key; counted up to 16.
    pub conflicts: usize,
    /// When the producer accepted it, by the producer's clock.
    pub accepted_at: Timestamp,
    /// When a worker inserted it, by the worker's clock.
    pub created_at: Timestamp,
    /// When it was last written, by the database's clock.
    pub updated_at: Timestamp,
}

impl Store {
    /// An order of an account, as last majority-committed; `None` for an unknown one and for one of another account.
    ///
    /// # Errors
    /// The database did not answer in time, or the document cannot be read by this build.
    pub async fn find_for_account(
        &self,
        order_id: &OrderId,
        account: &AccountId,
    ) -> Result<Option<OrderView>, StoreError> {
        let filter = doc! { "_id": order_id.as_str(), "account": account.as_str() };
        let found = self.call("find", self.orders.find_one(filter).max_time(self.timeout)).await?;
        let Some(raw) = found else { return Ok(None) };
        let document = StoredDocument::read(&raw)
            .map_err(|source| StoreError::Unreadable { order_id: order_id.clone(), source: source.into() })?;
        Ok(Some(document.into()))
    }
}

impl From<StoredDocument> for OrderView {
    fn from(document: StoredDocument) -> Self {
        let record = document.record();
        let StoredDocument { pinned, shared, correction, .. } = document;
        Self {
            order_id: pinned.id,
            account: pinned.account,
            order: pinned.order.into(),
            correction: correction.map(|correction| (correction.generation, correction.order.into())),
            record,
            history: shared.history.into_iter().map(Entry::from).collect(),
            conflicts: shared.conflicts.len(),
            accepted_at: timestamp(pinned.accepted_at),
            created_at: timestamp(pinned.created_at),
            updated_at: timestamp(shared.updated_at),
        }
    }
}
