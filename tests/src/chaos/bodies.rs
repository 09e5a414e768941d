//! Bodies of orders that differ in everything that matters, drawn from a seed.

use fastrand::Rng;
use serde_json::{Value, json};

/// The article that fulfilment refuses.
pub(super) const NOT_SHIPPED: &str = "NOT-SHIPPED";
/// The article that accounting refuses.
pub(super) const NOT_BOOKED: &str = "NOT-BOOKED";
/// The article over which workers abort.
pub(super) const CRASHING: &str = "CRASHING";
const CURRENCIES: [&str; 3] = ["GBP", "EUR", "USD"];
const COUNTRIES: [&str; 4] = ["GB", "DE", "FR", "IE"];
const ARTICLES: u32 = 40;
/// Of a hundred orders, so many hold an article that is refused at a later step.
const REFUSED_PERCENT: u32 = 4;

/// A small order. The same seed gives the same body.
#[must_use]
pub(super) fn body(rng: &mut Rng) -> Value {
    let mut lines: Vec<_> =
        (0..rng.u32(1..=3)).map(|_| line(&format!("A-{:02}", rng.u32(..ARTICLES)), rng)).collect();
    if rng.u32(..100) < REFUSED_PERCENT {
        let refused = if rng.bool() { NOT_SHIPPED } else { NOT_BOOKED };
        lines.push(line(refused, rng));
    }
    json!({
        "channel": if rng.bool() { "retail" } else { "wholesale" },
        "currency": CURRENCIES[rng.usize(..CURRENCIES.len())],
        "payment_ref": format!("pay_{:016x}", rng.u64(..)),
        "ship_to": { "name": "A. Person", "country": COUNTRIES[rng.usize(..COUNTRIES.len())] },
        "lines": lines,
    })
}

/// An order over which workers abort.
#[must_use]
pub(super) fn crashing_body(rng: &mut Rng) -> Value {
    let mut body = body(rng);
    body["lines"] = json!([line(CRASHING, rng)]);
    body
}

fn line(sku: &str, rng: &mut Rng) -> Value {
    let price = format!("{}.{:04}", rng.u32(..40), rng.u32(1..10_000));
    json!({ "sku": sku, "quantity": rng.u32(1..=12), "unit_price": price })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::Attempt;

    #[test]
    fn every_body_is_a_valid_order_and_comes_again_from_its_seed() {
        let bodies = |seed| {
            let mut rng = Rng::with_seed(seed);
            (0..500).map(|_| body(&mut rng)).collect::<Vec<_>>()
        };
        for body in bodies(7) {
            Attempt::expect("acme", "eu1", "k", &body).unwrap();
        }
        assert_eq!(bodies(7), bodies(7));
        assert_ne!(bodies(7), bodies(8));
    }
}
