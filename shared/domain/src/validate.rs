//! From what a client wrote to a valid order: every rule, each violation named by its field.

use std::{collections::BTreeMap, fmt, str::FromStr};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    input::{LineInput, Object, OrderInput, ShipToInput},
    money::Money,
    order::{Channel, Line, Order, ShipTo, Sku},
};

/// Most lines an order can have.
pub const LINES_MAX: usize = 2_000;
const QUANTITY_MAX: i64 = 1_000_000;
const DESCRIPTION_CHARS_MAX: usize = 200;
const ADDRESS_CHARS_MAX: usize = 200;
const METADATA_ENTRIES_MAX: usize = 16;
const METADATA_KEY_CHARS_MAX: usize = 40;
const METADATA_VALUE_CHARS_MAX: usize = 200;
/// More than this are counted, not listed: an answer stays small whatever was posted.
const VIOLATIONS_LISTED_MAX: usize = 20;

/// One broken rule. The message never repeats what was posted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Path of the field, for example `lines[3].quantity`.
    pub field: String,
    /// One stable word for the rule, for example `quantity`.
    pub rule: &'static str,
    /// What would be right.
    pub message: String,
}

/// Every broken rule of one order (the first twenty of them, and how many there are).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Violations {
    /// The first violations, in the order of the fields.
    pub listed: Vec<Violation>,
    /// How many there are in all.
    pub total: usize,
}

impl Violations {
    fn add(&mut self, field: impl Into<String>, rule: &'static str, message: impl Into<String>) {
        self.total += 1;
        if self.listed.len() < VIOLATIONS_LISTED_MAX {
            self.listed.push(Violation { field: field.into(), rule, message: message.into() });
        }
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.listed.first().map_or("", |violation| violation.field.as_str());
        let message = self.listed.first().map_or("", |violation| violation.message.as_str());
        write!(out, "{first} {message}")?;
        if self.total > 1 { write!(out, " (and {} more)", self.total - 1) } else { Ok(()) }
    }
}

impl std::error::Error for Violations {}

impl TryFrom<Object<OrderInput>> for Order {
    type Error = Violations;

    fn try_from(Object(input): Object<OrderInput>) -> Result<Self, Violations> {
        input.try_into()
    }
}

impl TryFrom<OrderInput> for Order {
    type Error = Violations;

    fn try_from(input: OrderInput) -> Result<Self, Violations> {
        let mut violations = Violations::default();
        let order = check(input, &mut violations);
        match order {
            Some(order) if violations.total == 0 => Ok(order),
            _ => Err(violations),
        }
    }
}

/// Checks every field even after the first violation, so that one answer names them all.
fn check(input: OrderInput, found: &mut Violations) -> Option<Order> {
    let customer_ref = match &input.customer_ref {
        Some(text) => parse(text, "customer_ref", "customer_ref", found).map(Some),
        None => Some(None),
    };
    let channel = parse::<Channel>(&input.channel, "channel", "channel", found);
    let currency = parse(&input.currency, "currency", "currency", found);
    let payment_ref = parse(&input.payment_ref, "payment_ref", "payment_ref", found);
    let ship_to = check_ship_to(input.ship_to.0, found);
    let placed_at = check_placed_at(input.placed_at.as_deref(), found);
    let lines = check_lines(input.lines, found);
    let metadata = check_metadata(input.metadata.unwrap_or_default().0, found);
    let order = Order {
        customer_ref: customer_ref?,
        channel: channel?,
        currency: currency?,
        payment_ref: payment_ref?,
        ship_to: ship_to?,
        placed_at: placed_at?,
        lines: lines?,
        metadata,
    };
    if found.total == 0 && order.total() <= Money::ZERO {
        found.add("lines", "total", "must add up to a total above 0");
    }
    Some(order)
}

fn check_lines(lines: Vec<Object<LineInput>>, found: &mut Violations) -> Option<Vec<Line>> {
    if !(1..=LINES_MAX).contains(&lines.len()) {
        found.add("lines", "lines", format!("must hold 1 to {LINES_MAX} lines"));
        return None;
    }
    let checked: Vec<_> =
        lines.into_iter().enumerate().map(|(index, Object(line))| check_line(index, line, found)).collect();
    checked.into_iter().collect()
}

fn check_line(index: usize, line: LineInput, found: &mut Violations) -> Option<Line> {
    let field = |name: &str| format!("lines[{index}].{name}");
    let sku = parse::<Sku>(&line.sku, &field("sku"), "sku", found);
    if let Some(description) = &line.description {
        check_text(description, &field("description"), 0, DESCRIPTION_CHARS_MAX, found);
    }
    let quantity = u32::try_from(line.quantity).ok().filter(|_| (1..=QUANTITY_MAX).contains(&line.quantity));
    if quantity.is_none() {
        found.add(field("quantity"), "quantity", format!("must be between 1 and {QUANTITY_MAX}"));
    }
    let unit_price = parse::<Money>(&line.unit_price, &field("unit_price"), "unit_price", found);
    if unit_price.is_some_and(|price| price < Money::ZERO) {
        found.add(field("unit_price"), "unit_price", "must be 0 or more");
    }
    Some(Line { sku: sku?, description: line.description, quantity: quantity?, unit_price: unit_price? })
}

fn check_ship_to(input: ShipToInput, found: &mut Violations) -> Option<ShipTo> {
    let parts = [
        ("name", &input.name),
        ("line1", &input.line1),
        ("line2", &input.line2),
        ("city", &input.city),
        ("postcode", &input.postcode),
    ];
    for (name, text) in parts {
        if let Some(text) = text {
            check_text(text, &format!("ship_to.{name}"), 0, ADDRESS_CHARS_MAX, found);
        }
    }
    let country = match &input.country {
        Some(text) => Some(parse(text, "ship_to.country", "country", found)?),
        None => None,
    };
    let ShipToInput { name, line1, line2, city, postcode, .. } = input;
    Some(ShipTo { name, line1, line2, city, postcode, country })
}

fn check_placed_at(text: Option<&str>, found: &mut Violations) -> Option<Option<Timestamp>> {
    let Some(text) = text else { return Some(None) };
    // The instant in UTC must be one too: it is what travels on, and year 0 with an offset can fall before it.
    let parsed = is_rfc3339(text)
        .then(|| Timestamp::from_str(text).ok())
        .flatten()
        .filter(|at| is_rfc3339(&at.to_string()));
    if parsed.is_none() {
        found.add("placed_at", "placed_at", "must be an RFC 3339 time such as \"2010-12-01T08:26:00Z\"");
    }
    parsed.map(Some)
}

/// The shape of RFC 3339, section 5.6: `2010-12-01T08:26:00[.123]` and `Z` or `+01:00`. The parser takes more than that.
fn is_rfc3339(text: &str) -> bool {
    let shape = |text: &str, pattern: &str| {
        text.len() == pattern.len()
            && text
                .bytes()
                .zip(pattern.bytes())
                .all(|(b, p)| if p == b'0' { b.is_ascii_digit() } else { b == p })
    };
    let Some((time, rest)) = text.split_at_checked("0000-00-00T00:00:00".len()) else { return false };
    let zone = rest.find(['Z', '+', '-']).map(|at| rest.split_at(at));
    let Some((fraction, zone)) = zone else { return false };
    let digits = fraction.strip_prefix('.').unwrap_or("0");
    shape(time, "0000-00-00T00:00:00")
        && (fraction.is_empty() || fraction.starts_with('.'))
        && (1..=9).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
        && (zone == "Z" || shape(zone, "+00:00") || shape(zone, "-00:00"))
}

fn check_metadata(metadata: BTreeMap<String, String>, found: &mut Violations) -> BTreeMap<String, String> {
    if metadata.len() > METADATA_ENTRIES_MAX {
        found.add("metadata", "metadata", format!("must have at most {METADATA_ENTRIES_MAX} entries"));
    }
    for (index, (key, value)) in metadata.iter().enumerate() {
        check_text(key, &format!("metadata key {}", index + 1), 1, METADATA_KEY_CHARS_MAX, found);
        check_text(value, &format!("metadata value {}", index + 1), 0, METADATA_VALUE_CHARS_MAX, found);
    }
    metadata
}

fn check_text(text: &str, field: &str, chars_min: usize, chars_max: usize, found: &mut Violations) {
    let chars = text.chars().count();
    if chars < chars_min || chars > chars_max || text.chars().any(char::is_control) {
        found.add(
            field,
            "text",
            format!("must have {chars_min} to {chars_max} characters and no control characters"),
        );
    }
}

fn parse<T: FromStr<Err: fmt::Display>>(
    text: &str,
    field: &str,
    rule: &'static str,
    found: &mut Violations,
) -> Option<T> {
    text.parse().map_err(|error: T::Err| found.add(field, rule, error.to_string())).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sample() -> Value {
        json!({
            "customer_ref": "17850", "channel": "retail", "currency": "GBP", "payment_ref": "pay_123",
            "ship_to": {"name": "A. Person", "country": "GB"}, "placed_at": "2010-12-01T08:26:00Z",
            "lines": [{"sku": "85123A", "description": "HOLDER", "quantity": 6, "unit_price": "2.55"}],
            "metadata": {"basket": "b1"}
        })
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut order = sample();
        *order.pointer_mut(pointer).unwrap() = value;
        order
    }

    fn check(order: Value) -> Result<Order, Violations> {
        serde_json::from_value::<OrderInput>(order).unwrap().try_into()
    }

    fn only_violation(order: Value) -> (String, &'static str) {
        let mut violations = check(order).unwrap_err();
        assert_eq!(violations.total, 1, "{violations:?}");
        let violation = violations.listed.remove(0);
        (violation.field, violation.rule)
    }

    #[test]
    fn a_good_order_passes_and_survives_a_round_trip() {
        let order = check(sample()).unwrap();
        assert_eq!(order.total().to_string(), "15.30");
        let text = serde_json::to_string(&order).unwrap();
        assert_eq!(serde_json::from_str::<Order>(&text).unwrap(), order);
    }

    #[test]
    fn every_rule_names_its_field() {
        let long = "x".repeat(300);
        let many: Value =
            (0..17).map(|n| (format!("k{n}"), json!("v"))).collect::<serde_json::Map<_, _>>().into();
        let cases = [
            ("/customer_ref", json!(" "), "customer_ref", "customer_ref"),
            ("/currency", json!("XXZ"), "currency", "currency"),
            ("/currency", json!("gbp"), "currency", "currency"),
            ("/payment_ref", json!(""), "payment_ref", "payment_ref"),
            ("/ship_to/name", json!("a\u{7}b"), "ship_to.name", "text"),
            ("/ship_to/country", json!("UK"), "ship_to.country", "country"),
            ("/channel", json!("phone"), "channel", "channel"),
            ("/placed_at", json!("yesterday"), "placed_at", "placed_at"),
            ("/placed_at", json!("20101201T0826Z"), "placed_at", "placed_at"),
            ("/placed_at", json!("2010-12-01T08:26:00+00:00[Europe/London]"), "placed_at", "placed_at"),
            ("/placed_at", json!("-009000-01-01T00:00:00Z"), "placed_at", "placed_at"),
            ("/placed_at", json!("2010-12-01T08:26:00"), "placed_at", "placed_at"),
            ("/placed_at", json!("0000-01-01T00:00:00+05:30"), "placed_at", "placed_at"),
            ("/placed_at", json!("2010-13-01T08:26:00Z"), "placed_at", "placed_at"),
            ("/lines/0/sku", json!(" A"), "lines[0].sku", "sku"),
            ("/lines/0/sku", json!("A\u{200b}"), "lines[0].sku", "sku"),
            ("/lines", json!([]), "lines", "lines"),
            ("/lines/0/sku", json!(long), "lines[0].sku", "sku"),
            ("/lines/0/description", json!(long), "lines[0].description", "text"),
            ("/lines/0/quantity", json!(0), "lines[0].quantity", "quantity"),
            ("/lines/0/quantity", json!(-6), "lines[0].quantity", "quantity"),
            ("/lines/0/quantity", json!(1_000_001), "lines[0].quantity", "quantity"),
            ("/lines/0/quantity", json!(i64::MAX), "lines[0].quantity", "quantity"),
            ("/lines/0/unit_price", json!("-0.01"), "lines[0].unit_price", "unit_price"),
            ("/lines/0/unit_price", json!("0.00001"), "lines[0].unit_price", "unit_price"),
            ("/lines/0/unit_price", json!("1e400"), "lines[0].unit_price", "unit_price"),
            ("/lines/0/unit_price", json!("0"), "lines", "total"),
            ("/metadata", many, "metadata", "metadata"),
            ("/metadata/basket", json!(long), "metadata value 1", "text"),
        ];
        for (pointer, value, field, rule) in cases {
            assert_eq!(only_violation(with(pointer, value)), (field.to_owned(), rule), "{pointer}");
        }
    }

    #[test]
    fn a_line_at_price_zero_is_fine_when_the_total_is_not() {
        let mut order = sample();
        order["lines"].as_array_mut().unwrap().push(json!({"sku": "GIFT", "quantity": 1, "unit_price": "0"}));
        assert!(check(order).is_ok());
    }

    #[test]
    fn all_violations_are_counted_and_the_first_twenty_listed() {
        let lines: Vec<_> = (0..50).map(|_| json!({"sku": "A", "quantity": 0, "unit_price": "1"})).collect();
        let violations = check(with("/lines", json!(lines))).unwrap_err();
        assert_eq!((violations.total, violations.listed.len()), (50, VIOLATIONS_LISTED_MAX));
        assert_eq!(violations.listed[7].field, "lines[7].quantity");
    }

    #[test]
    fn two_thousand_lines_are_the_limit() {
        let line = json!({"sku": "A", "quantity": 1, "unit_price": "0.001"});
        assert!(check(with("/lines", json!(vec![line.clone(); LINES_MAX]))).is_ok());
        assert_eq!(only_violation(with("/lines", json!(vec![line; LINES_MAX + 1]))).1, "lines");
    }

    #[test]
    fn lists_are_not_objects_and_keys_stand_once() {
        let list = r#"["retail"]"#;
        assert!(serde_json::from_str::<Object<OrderInput>>(list).is_err());
        for (pointer, value) in [("/ship_to", json!([null, "GB"])), ("/lines/0", json!(["A", null, 1, "1"]))]
        {
            assert!(serde_json::from_value::<Object<OrderInput>>(with(pointer, value)).is_err(), "{pointer}");
        }
        assert!(serde_json::from_str::<crate::Metadata>(r#"{"a":"1","a":"2"}"#).is_err());
    }

    #[test]
    fn times_of_every_rfc_3339_spelling_pass() {
        for time in
            ["2010-12-01T08:26:00Z", "2010-12-01T08:26:00.123456789+05:30", "0000-01-01T00:00:00-00:00"]
        {
            assert!(is_rfc3339(time), "{time}");
        }
    }

    #[test]
    fn unknown_fields_are_refused_at_every_level() {
        for pointer in ["", "/ship_to", "/lines/0"] {
            let mut order = sample();
            order.pointer_mut(pointer).unwrap()["phase"] = json!("DONE");
            let error = serde_json::from_value::<OrderInput>(order).unwrap_err().to_string();
            assert!(error.contains("unknown field `phase`"), "{error}");
        }
    }

    #[test]
    fn debug_output_holds_no_address() {
        let text = format!("{:?}", check(sample()).unwrap());
        assert!(text.contains("GB") && !text.contains("A. Person"), "{text}");
    }
}
