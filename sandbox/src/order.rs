//! The body of a do call: the parts of an order that the three services look at.
//!
//! Fields they have no use for, personal data among them, are skipped and so can reach no ledger.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::Deserialize;

use crate::call::{Malformed, StepInstance};

const LINES_MAX: usize = 2_000;
const QUANTITY_MAX: u32 = 1_000_000;
const PRICE_DECIMALS_MAX: u32 = 4;
/// With at most 2,000 lines of 1,000,000 units and 4 decimals, every total below this price fits the 28 digits
/// of a [`Decimal`] and so is exact.
const PRICE_LIMIT: u64 = 1_000_000_000_000_000;

/// The body of a do call.
#[derive(Debug, Deserialize)]
pub(crate) struct DoRequest {
    order_id: String,
    #[serde(rename = "gen")]
    pub(crate) generation: u64,
    step: String,
    pub(crate) account: String,
    pub(crate) order: Order,
}

/// An order, as far as the services need it.
#[derive(Debug, Deserialize)]
pub(crate) struct Order {
    pub(crate) currency: String,
    #[serde(default)]
    ship_to: ShipTo,
    lines: Vec<Line>,
}

#[derive(Debug, Default, Deserialize)]
struct ShipTo {
    country: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Line {
    sku: String,
    quantity: u32,
    #[serde(with = "rust_decimal::serde::str")]
    unit_price: Decimal,
}

impl DoRequest {
    /// Parses the body of a call for this step instance.
    pub(crate) fn parse(body: &[u8], instance: &StepInstance) -> Result<Self, Malformed> {
        let mut reader = serde_json::Deserializer::from_slice(body);
        let request: Self =
            serde_path_to_error::deserialize(&mut reader).map_err(|error| Malformed(error.to_string()))?;
        reader.end().map_err(|error| Malformed(error.to_string()))?;
        request.check_instance(instance)?;
        request.order.check()?;
        Ok(request)
    }

    fn check_instance(&self, instance: &StepInstance) -> Result<(), Malformed> {
        require(self.order_id == instance.order_id, || {
            "order_id: differs from the instance in the path".into()
        })?;
        require(self.generation == instance.generation, || {
            "gen: differs from the instance in the path".into()
        })?;
        require(self.step == instance.step, || "step: differs from the instance in the path".into())?;
        require(!self.account.is_empty(), || "account: must not be empty".into())
    }
}

impl Order {
    /// Units wanted per SKU; several lines of one SKU add up.
    pub(crate) fn units(&self) -> BTreeMap<String, u64> {
        let mut units = BTreeMap::new();
        for line in &self.lines {
            *units.entry(line.sku.clone()).or_default() += u64::from(line.quantity);
        }
        units
    }

    /// Number of units over all lines.
    pub(crate) fn items(&self) -> u64 {
        self.lines.iter().map(|line| u64::from(line.quantity)).sum()
    }

    /// Sum of quantity times unit price, exact (see [`PRICE_LIMIT`]).
    pub(crate) fn total(&self) -> Decimal {
        self.lines.iter().map(|line| Decimal::from(line.quantity) * line.unit_price).sum()
    }

    pub(crate) fn has_sku(&self, sku: &str) -> bool {
        self.lines.iter().any(|line| line.sku == sku)
    }

    pub(crate) fn line_count(&self) -> usize {
        self.lines.len()
    }

    pub(crate) fn country(&self) -> Option<&String> {
        self.ship_to.country.as_ref()
    }

    fn check(&self) -> Result<(), Malformed> {
        let is_currency =
            self.currency.len() == 3 && self.currency.bytes().all(|byte| byte.is_ascii_uppercase());
        require(is_currency, || "order.currency: must be an ISO 4217 code such as GBP".into())?;
        require((1..=LINES_MAX).contains(&self.lines.len()), || {
            format!("order.lines: must be 1 to {LINES_MAX} lines")
        })?;
        self.lines.iter().enumerate().try_for_each(|(position, line)| line.check(position))
    }
}

impl Line {
    fn check(&self, position: usize) -> Result<(), Malformed> {
        require(!self.sku.is_empty(), || format!("order.lines[{position}].sku: must not be empty"))?;
        require((1..=QUANTITY_MAX).contains(&self.quantity), || {
            format!("order.lines[{position}].quantity: must be 1 to {QUANTITY_MAX}")
        })?;
        let price = self.unit_price;
        let is_price = price >= Decimal::ZERO
            && price < Decimal::from(PRICE_LIMIT)
            && price.scale() <= PRICE_DECIMALS_MAX;
        require(is_price, || {
            format!(
                "order.lines[{position}].unit_price: must be from 0 to below {PRICE_LIMIT}, \
                 with at most {PRICE_DECIMALS_MAX} decimals"
            )
        })
    }
}

fn require(holds: bool, problem: impl FnOnce() -> String) -> Result<(), Malformed> {
    if holds { Ok(()) } else { Err(Malformed(problem())) }
}
