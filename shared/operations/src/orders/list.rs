//! Lists of orders, of a bounded length however many match.

use orderfleet_domain::OrderId;
use orderfleet_storage::{LetterOfOrder, ListedOrder, OrderFilter, Store, StoreError};

/// Orders asked for by one call.
const PAGE: u32 = 500;

/// Orders that match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The orders.
    pub orders: Vec<ListedOrder>,
    /// Ids of documents that match and that this build cannot read.
    pub unreadable: Vec<String>,
    /// Whether there may be more than were asked for.
    pub more: bool,
}

/// Orders by the time of their insertion, newest or oldest first; at most `limit`, some hundred bytes each.
///
/// # Errors
/// The database did not answer in time: a filter that nearly nothing matches can take too long. An account, a state or a time
/// narrows it by index.
pub async fn list(
    store: &Store,
    wanted: &OrderFilter,
    newest_first: bool,
    limit: u32,
) -> Result<Listing, StoreError> {
    let mut listing = Listing::default();
    let (mut after, mut left) = (None, limit);
    while left > 0 {
        let asked = left.min(PAGE);
        let page = store.list_orders(wanted, after.as_ref(), newest_first, asked).await?;
        listing.orders.extend(page.orders);
        listing.unreadable.extend(page.unreadable);
        left -= asked;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    listing.more = after.is_some();
    Ok(listing)
}

/// The first dead letter of an order: what there is to look at where no worker could store the order itself.
///
/// # Errors
/// The database did not answer.
pub async fn first_letter(store: &Store, order_id: &OrderId) -> Result<Option<LetterOfOrder>, StoreError> {
    Ok(store.letters_of_order(order_id, 1).await?.pop())
}
