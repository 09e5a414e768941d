//! The order as it is stored: as in JSON, but with money as Decimal128 and the time as a date.

use std::{collections::BTreeMap, str::FromStr as _};

use jiff::Timestamp;
use mongodb::bson::{DateTime, Decimal128};
use orderfleet_domain::{Channel, Currency, CustomerRef, Line, Money, Order, PaymentRef, ShipTo, Sku};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};

use crate::document::{date, timestamp};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredOrder {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    customer_ref: Option<CustomerRef>,
    channel: Channel,
    currency: Currency,
    payment_ref: PaymentRef,
    ship_to: ShipTo,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    placed_at: Option<DateTime>,
    /// The time again where it is finer than the milliseconds of a date: the fingerprint covers all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    placed_at_exact: Option<Timestamp>,
    lines: Vec<StoredLine>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredLine {
    sku: Sku,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    quantity: u32,
    #[serde(serialize_with = "to_decimal", deserialize_with = "from_decimal")]
    unit_price: Money,
}

impl From<&Order> for StoredOrder {
    fn from(order: &Order) -> Self {
        let order = order.clone();
        Self {
            customer_ref: order.customer_ref,
            channel: order.channel,
            currency: order.currency,
            payment_ref: order.payment_ref,
            ship_to: order.ship_to,
            placed_at: order.placed_at.map(date),
            placed_at_exact: order.placed_at.filter(|at| timestamp(date(*at)) != *at),
            lines: order.lines.into_iter().map(StoredLine::from).collect(),
            metadata: order.metadata,
        }
    }
}

impl From<StoredOrder> for Order {
    fn from(stored: StoredOrder) -> Self {
        Self {
            customer_ref: stored.customer_ref,
            channel: stored.channel,
            currency: stored.currency,
            payment_ref: stored.payment_ref,
            ship_to: stored.ship_to,
            placed_at: stored.placed_at_exact.or(stored.placed_at.map(timestamp)),
            lines: stored.lines.into_iter().map(Line::from).collect(),
            metadata: stored.metadata,
        }
    }
}

impl From<Line> for StoredLine {
    fn from(Line { sku, description, quantity, unit_price }: Line) -> Self {
        Self { sku, description, quantity, unit_price }
    }
}

impl From<StoredLine> for Line {
    fn from(StoredLine { sku, description, quantity, unit_price }: StoredLine) -> Self {
        Self { sku, description, quantity, unit_price }
    }
}

fn to_decimal<S: Serializer>(money: &Money, serializer: S) -> Result<S::Ok, S::Error> {
    Decimal128::from_str(&money.to_string()).map_err(S::Error::custom)?.serialize(serializer)
}

fn from_decimal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Money, D::Error> {
    Decimal128::deserialize(deserializer)?.to_string().parse().map_err(D::Error::custom)
}
