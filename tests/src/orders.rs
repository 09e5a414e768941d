//! Bodies of orders to post.

use serde_json::{Value, json};

/// A plain order of one line, GBP 15.30 in all.
#[must_use]
pub fn order() -> Value {
    order_of("85123A", 6, "2.55")
}

/// An order of one line.
#[must_use]
pub fn order_of(sku: &str, quantity: u32, unit_price: &str) -> Value {
    json!({
        "customer_ref": "17850", "channel": "retail", "currency": "GBP", "payment_ref": "pay_123",
        "ship_to": { "name": "A. Person", "line1": "1 Some Road", "city": "Leeds", "country": "GB" },
        "placed_at": "2010-12-01T08:26:00Z",
        "lines": [{ "sku": sku, "description": "HOLDER", "quantity": quantity, "unit_price": unit_price }],
        "metadata": { "basket": "b1" }
    })
}

/// An order of many lines, each of another article, one unit at 0.001.
#[must_use]
pub fn large_order(lines: usize) -> Value {
    let mut order = order();
    order["lines"] = (0..lines)
        .map(|n| json!({ "sku": format!("L{n:04}"), "quantity": 1, "unit_price": "0.001" }))
        .collect();
    order
}
