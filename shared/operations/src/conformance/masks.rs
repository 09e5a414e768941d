//! What a service says, as it may be shown: short, nothing that drives a terminal, none of the secrets it was sent.

use orderfleet_domain::Order;

use super::headers::Headers;

const SHOWN_CHARS_MAX: usize = 200;
/// Shorter texts are no secrets, and would be found everywhere.
const MASKED_BYTES_MIN: usize = 4;
const MASK: &str = "[masked]";

/// Texts that are masked wherever a service repeats them: credentials, and who the order is for.
#[derive(Clone, Default)]
pub(super) struct Masks(Vec<String>);

impl Masks {
    pub(super) fn new<'a>(headers: &Headers, orders: impl IntoIterator<Item = &'a Order>) -> Self {
        let credentials =
            headers.values().flat_map(|value| [value].into_iter().chain(value.split_whitespace()));
        let mut masks: Vec<String> = credentials.map(str::to_owned).collect();
        masks.extend(orders.into_iter().flat_map(personal));
        masks.retain(|text| text.len() >= MASKED_BYTES_MIN);
        // The whole before its parts, of which some would be left otherwise.
        masks.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Self(masks)
    }

    /// The first 200 characters, on one line.
    pub(super) fn shown(&self, text: &str) -> String {
        let masked = self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, MASK));
        masked.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(SHOWN_CHARS_MAX).collect()
    }
}

fn personal(order: &Order) -> Vec<String> {
    let to = &order.ship_to;
    let address = [&to.name, &to.line1, &to.line2, &to.city, &to.postcode];
    let refs = [order.customer_ref.as_ref().map(ToString::to_string), Some(order.payment_ref.to_string())];
    let descriptions = order.lines.iter().filter_map(|line| line.description.clone());
    let metadata = order.metadata.values().cloned();
    address.into_iter().cloned().chain(refs).flatten().chain(descriptions).chain(metadata).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_short_visible_and_masked() {
        let order: Order = serde_json::from_value(serde_json::json!({
            "channel": "retail", "currency": "GBP", "payment_ref": "pay_1",
            "ship_to": { "name": "Jane Doe", "country": "GB" },
            "lines": [{ "sku": "A", "quantity": 1, "unit_price": "1" }],
        }))
        .unwrap();
        let masks = Masks::new(&"Authorization: Bearer s3cret".parse().unwrap(), [&order]);
        let shown = masks.shown("no\u{1b}[2J: Jane Doe (s3cret) of GB, Bearer s3cret");
        assert_eq!(shown, "no\u{fffd}[2J: [masked] ([masked]) of GB, [masked]");
        assert_eq!(masks.shown(&"ü".repeat(300)).chars().count(), 200);
    }
}
