//! Inventory: reserves the units of every line, and gives them back.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::call::{Refusal, StepInstance, Verb};
use crate::ledger::{LedgerError, LinesFile, parse_lines, to_line};
use crate::order::DoRequest;
use crate::service::Effects;

/// Stock and reservations per SKU.
pub(crate) struct Inventory {
    on_hand_at_start: u64,
    stock: BTreeMap<String, Stock>,
    /// Deliveries and corrections, kept apart from the ledger, which holds calls only.
    settings: Option<LinesFile>,
}

/// Units of one SKU. Reserved units are still on hand.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Stock {
    pub(crate) on_hand: u64,
    pub(crate) reserved: u64,
}

/// Units reserved or given back.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Reservation {
    units: BTreeMap<String, u64>,
}

#[derive(Serialize, Deserialize)]
struct OnHand {
    sku: String,
    on_hand: u64,
}

impl Inventory {
    /// Every SKU starts with this many units, except those set otherwise in the file, if there is one.
    pub(crate) fn open(on_hand_at_start: u64, settings: Option<&Path>) -> Result<Self, LedgerError> {
        let mut inventory = Self { on_hand_at_start, stock: BTreeMap::new(), settings: None };
        if let Some(path) = settings {
            let (file, lines) = LinesFile::open(path)?;
            for OnHand { sku, on_hand } in parse_lines(path, &lines)? {
                inventory.entry(&sku).on_hand = on_hand;
            }
            inventory.settings = Some(file);
        }
        Ok(inventory)
    }

    /// All SKUs that were ever ordered or set.
    pub(crate) fn stock(&self) -> BTreeMap<String, Stock> {
        self.stock.clone()
    }

    /// The stock of one SKU, known or not.
    pub(crate) fn stock_of(&self, sku: &str) -> Stock {
        self.stock.get(sku).copied().unwrap_or(Stock { on_hand: self.on_hand_at_start, reserved: 0 })
    }

    /// Sets the units on hand. Fewer than are reserved is allowed: then nothing more can be reserved.
    pub(crate) fn set_on_hand(&mut self, sku: &str, on_hand: u64) -> Result<Stock, LedgerError> {
        if let Some(file) = &mut self.settings {
            file.append(&to_line(&OnHand { sku: sku.to_owned(), on_hand })?)?;
        }
        let stock = self.entry(sku);
        stock.on_hand = on_hand;
        Ok(*stock)
    }

    fn entry(&mut self, sku: &str) -> &mut Stock {
        let untouched = self.stock_of(sku);
        self.stock.entry(sku.to_owned()).or_insert(untouched)
    }
}

impl Effects for Inventory {
    type Amounts = Reservation;

    const NAME: &'static str = "inventory";

    fn judge(&self, request: &DoRequest) -> Result<Reservation, Refusal> {
        let units = request.order.units();
        for (sku, wanted) in &units {
            let Stock { on_hand, reserved } = self.stock_of(sku);
            let available = on_hand.saturating_sub(reserved);
            if *wanted > available {
                let message = format!("{sku}: {wanted} wanted, {available} available");
                return Err(Refusal::new("out_of_stock", message));
            }
        }
        Ok(Reservation { units })
    }

    fn apply(&mut self, _: &StepInstance, reservation: &Reservation) {
        for (sku, units) in &reservation.units {
            self.entry(sku).reserved += units;
        }
    }

    fn revert(&mut self, _: &StepInstance, reservation: &Reservation) {
        for (sku, units) in &reservation.units {
            self.entry(sku).reserved -= units;
        }
    }

    fn result(verb: Verb, reservation: &Reservation) -> Value {
        let units: u64 = reservation.units.values().sum();
        match verb {
            Verb::Do => json!({ "units_reserved": units }),
            Verb::Undo => json!({ "units_returned": units }),
        }
    }

    fn totals(&self) -> Map<String, Value> {
        let reserved: u64 = self.stock.values().map(|stock| stock.reserved).sum();
        Map::from_iter([
            ("units_reserved".to_owned(), reserved.into()),
            ("skus".to_owned(), self.stock.len().into()),
        ])
    }
}
