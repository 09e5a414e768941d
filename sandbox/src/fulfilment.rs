//! Fulfilment: creates a shipment for each do that takes effect, and cancels it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::call::{Refusal, StepInstance, Verb};
use crate::order::DoRequest;
use crate::service::Effects;

/// All shipments ever created, by step instance. More than one for an instance is what ignoring keys looks
/// like.
#[derive(Default)]
pub(crate) struct Fulfilment {
    shipments: BTreeMap<String, Vec<Shipment>>,
}

/// A shipment; a cancelled one stays on record.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Shipment {
    #[serde(flatten)]
    instance: StepInstance,
    #[serde(flatten)]
    parcel: Parcel,
    status: Status,
}

/// What is shipped, and to which country.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Parcel {
    country: Option<String>,
    items: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Open,
    Cancelled,
}

impl Fulfilment {
    /// All shipments, or those of one order.
    pub(crate) fn shipments(&self, order_id: Option<&str>) -> Vec<Shipment> {
        let is_wanted =
            |shipment: &&Shipment| order_id.is_none_or(|order_id| shipment.instance.order_id == order_id);
        let first = order_id.unwrap_or_default().to_owned();
        // All instances of an order begin with its id, so the range starts at its first and ends after its
        // last.
        self.shipments
            .range(first..)
            .take_while(|(instance, _)| instance.starts_with(order_id.unwrap_or_default()))
            .flat_map(|(_, shipments)| shipments)
            .filter(is_wanted)
            .cloned()
            .collect()
    }

    fn open(&self) -> impl Iterator<Item = &Shipment> {
        self.shipments.values().flatten().filter(|shipment| shipment.status == Status::Open)
    }
}

impl Effects for Fulfilment {
    type Amounts = Parcel;

    const NAME: &'static str = "fulfilment";

    fn judge(&self, request: &DoRequest) -> Result<Parcel, Refusal> {
        Ok(Parcel { country: request.order.country().cloned(), items: request.order.items() })
    }

    fn apply(&mut self, instance: &StepInstance, parcel: &Parcel) {
        let shipment = Shipment { instance: instance.clone(), parcel: parcel.clone(), status: Status::Open };
        self.shipments.entry(instance.id.clone()).or_default().push(shipment);
    }

    fn revert(&mut self, instance: &StepInstance, _: &Parcel) {
        let mut shipments = self.shipments.get_mut(&instance.id).into_iter().flatten();
        if let Some(shipment) = shipments.find(|shipment| shipment.status == Status::Open) {
            shipment.status = Status::Cancelled;
        }
    }

    fn result(verb: Verb, parcel: &Parcel) -> Value {
        match verb {
            Verb::Do => json!({ "items_shipped": parcel.items }),
            Verb::Undo => json!({ "items_cancelled": parcel.items }),
        }
    }

    fn totals(&self) -> Map<String, Value> {
        let all = self.shipments.values().flatten().count();
        let open = self.open().count();
        let items: u64 = self.open().map(|shipment| shipment.parcel.items).sum();
        Map::from_iter([
            ("shipments_open".to_owned(), open.into()),
            ("shipments_cancelled".to_owned(), (all - open).into()),
            ("items_open".to_owned(), items.into()),
        ])
    }
}
