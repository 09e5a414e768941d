//! The request body of `POST /v1/orders` as this command writes it.
//!
//! Bad orders are written as they are: judging them is the producer's part, and refusals are what a load shows.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

/// An order of a known customer with at least this many units is taken for wholesale.
pub(crate) const WHOLESALE_UNITS_MIN: i64 = 100;

/// An order ready to be posted.
#[derive(Debug)]
pub(crate) struct Draft {
    /// Sent as `Idempotency-Key`; the same for the same invoice, however often the file is posted.
    pub(crate) key: String,
    /// The shop's own number shows a return, not a sale.
    pub(crate) is_return: bool,
    /// When the shop took the order.
    pub(crate) placed_at: Option<Timestamp>,
    pub(crate) order: Order,
}

#[derive(Debug, Serialize)]
pub(crate) struct Order {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) customer_ref: Option<String>,
    pub(crate) channel: Channel,
    pub(crate) currency: String,
    pub(crate) payment_ref: String,
    pub(crate) ship_to: ShipTo,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) placed_at: Option<String>,
    pub(crate) lines: Vec<Line>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Channel {
    Retail,
    Wholesale,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct ShipTo {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) country: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) sku: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    pub(crate) quantity: i64,
    /// Exact decimal text, never a float.
    pub(crate) unit_price: String,
}

impl Channel {
    /// Wholesale is a known customer with at least [`WHOLESALE_UNITS_MIN`] units.
    pub(crate) fn of(customer_ref: Option<&str>, lines: &[Line]) -> Self {
        let units = lines.iter().fold(0_i64, |sum, line| sum.saturating_add(line.quantity));
        match customer_ref {
            Some(_) if units >= WHOLESALE_UNITS_MIN => Self::Wholesale,
            _ => Self::Retail,
        }
    }
}
