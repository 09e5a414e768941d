//! An order without what tells who it is for.

use orderfleet_domain::Order;
use serde_json::Value;

const MASK: &str = "***";
/// Fields of an order that are, or may hold, personal data.
const PERSONAL: [&str; 2] = ["customer_ref", "payment_ref"];

/// The order as JSON, with the values of personal fields masked: customer and payment references, the address but for its
/// country, descriptions and metadata. Articles, quantities and prices stay.
#[must_use]
pub fn masked(order: &Order) -> Value {
    let mut value = serde_json::to_value(order).unwrap_or_default();
    for field in PERSONAL {
        mask(value.get_mut(field));
    }
    for part in ["ship_to", "metadata"] {
        for (name, value) in value.get_mut(part).and_then(Value::as_object_mut).into_iter().flatten() {
            if (part, name.as_str()) != ("ship_to", "country") {
                mask(Some(value));
            }
        }
    }
    for line in value.get_mut("lines").and_then(Value::as_array_mut).into_iter().flatten() {
        mask(line.get_mut("description"));
    }
    value
}

fn mask(value: Option<&mut Value>) {
    if let Some(value) = value {
        *value = MASK.into();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_order_is_shown_without_what_tells_who_it_is_for() {
        let order = json!({
            "customer_ref": "17850", "channel": "retail", "currency": "GBP", "payment_ref": "pay_1",
            "ship_to": { "name": "A. Person", "line1": "1 Some Road", "country": "GB" },
            "lines": [{ "sku": "A", "description": "FOR MUM", "quantity": 6, "unit_price": "2.55" }],
            "metadata": { "note": "ring twice" }
        });
        let shown = masked(&serde_json::from_value(order).unwrap());
        assert_eq!(
            shown,
            json!({
                "customer_ref": "***", "channel": "retail", "currency": "GBP", "payment_ref": "***",
                "ship_to": { "name": "***", "line1": "***", "country": "GB" },
                "lines": [{ "sku": "A", "description": "***", "quantity": 6, "unit_price": "2.55" }],
                "metadata": { "note": "***" }
            })
        );
        let guest = json!({
            "channel": "retail", "currency": "GBP", "payment_ref": "p", "ship_to": {},
            "lines": [{ "sku": "A", "quantity": 1, "unit_price": "1" }]
        });
        assert!(masked(&serde_json::from_value(guest).unwrap()).get("customer_ref").is_none());
    }
}
