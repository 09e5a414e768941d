//! A valid order. There is no other way to get one than through [`crate::OrderInput`], so every rule holds.

use std::{collections::BTreeMap, fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    ids::{IdError, text_id},
    input::{Object, OrderInput},
    money::Money,
};

/// One accepted order, as the client posted it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Object<OrderInput>")]
pub struct Order {
    /// The shop's name for its customer; absent for a guest checkout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_ref: Option<CustomerRef>,
    /// How the order reached the shop.
    pub channel: Channel,
    /// Currency of every price in the order.
    pub currency: Currency,
    /// The payment taken before the order was posted.
    pub payment_ref: PaymentRef,
    /// Where the goods go. Personal data.
    pub ship_to: ShipTo,
    /// When the customer placed the order, by the client's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placed_at: Option<Timestamp>,
    /// 1 to [`crate::LINES_MAX`] lines.
    pub lines: Vec<Line>,
    /// At most 16 short texts that travel with the order.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl Order {
    /// Sum of quantity times unit price over all lines; always above zero.
    #[must_use]
    pub fn total(&self) -> Money {
        self.lines.iter().map(|line| line.unit_price.times(line.quantity)).sum()
    }
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Line {
    /// What is ordered.
    pub sku: Sku,
    /// What the shop calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// 1 to 1,000,000.
    pub quantity: u32,
    /// Zero or more, in the order's currency.
    pub unit_price: Money,
}

/// Where the goods go: personal data, so `Debug` shows the country alone.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the parts of a postal address name themselves")]
pub struct ShipTo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line1: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line2: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postcode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<Country>,
}

impl fmt::Debug for ShipTo {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ShipTo").field("country", &self.country).finish_non_exhaustive()
    }
}

/// How an order reached the shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum Channel {
    /// A consumer's order.
    Retail,
    /// A business customer's order.
    Wholesale,
}

impl Channel {
    /// The word used in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retail => "retail",
            Self::Wholesale => "wholesale",
        }
    }
}

impl TryFrom<String> for Channel {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl FromStr for Channel {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text {
            "retail" => Ok(Self::Retail),
            "wholesale" => Ok(Self::Wholesale),
            _ => Err(IdError::new("channel", "\"retail\" or \"wholesale\"")),
        }
    }
}

text_id! {
    /// Stock keeping unit.
    Sku, "sku", "1 to 64 visible characters", |text| is_short_visible(text, 64)
}
text_id! {
    /// The shop's name for its customer.
    CustomerRef, "customer_ref", "1 to 64 visible characters", |text| is_short_visible(text, 64)
}
text_id! {
    /// The payment taken before the order was posted.
    PaymentRef, "payment_ref", "1 to 128 visible characters", |text| is_short_visible(text, 128)
}
text_id! {
    /// ISO 3166-1 alpha-2 code in upper case.
    Country, "country", "an ISO 3166-1 alpha-2 code such as \"GB\"",
    |text| text.bytes().all(|b| b.is_ascii_uppercase()) && celes::Country::from_alpha2(text).is_ok()
}
text_id! {
    /// ISO 4217 code in upper case.
    Currency, "currency", "an ISO 4217 code such as \"GBP\"",
    |text| text.bytes().all(|b| b.is_ascii_uppercase()) && iso_currency::Currency::from_code(text).is_some()
}

/// Two identifiers that look alike must be alike: nothing invisible, no blanks around.
fn is_short_visible(text: &str, chars_max: usize) -> bool {
    !text.is_empty()
        && text.trim() == text
        && text.chars().count() <= chars_max
        && !text.chars().any(is_invisible)
}

/// Control characters, and the format characters that hide, join or turn text.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
