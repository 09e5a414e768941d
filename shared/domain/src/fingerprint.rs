//! The fingerprint of an order's body: tells "the same order again" from "another order under the same key".

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    ids::{IdError, text_id},
    order::{Country, CustomerRef, Order},
};

/// Version of the canonical form. Another version is another first byte, so that fingerprints of two builds that differ in
/// it are not compared: the same body again is then taken for it, another body too.
const VERSION: u8 = 1;
/// Stands for the length of an absent field; no field can be this long.
const ABSENT: u32 = u32::MAX;

text_id! {
    /// 66 lower-case hex digits: the version byte, then SHA-256 over the canonical form of the order.
    ///
    /// The canonical form, version 1, is these fields in this order:
    /// `customer_ref`, `channel`, `currency`, `payment_ref`, `ship_to.name`, `.line1`, `.line2`, `.city`, `.postcode`,
    /// `.country`, `placed_at`; the number of lines and for each line `sku`, `description`, the quantity, `unit_price`;
    /// the number of metadata entries and for each, sorted by key in byte order, key and value.
    ///
    /// A text is its length in bytes, then its UTF-8 bytes; an absent field is the length `0xFFFFFFFF` alone. Lengths,
    /// numbers of entries and quantities are 4 bytes, big-endian. `placed_at` is the instant in UTC as RFC 3339 with as
    /// few decimals as it needs; `unit_price` is the amount without trailing zeros. So spelling (`2.5`, `2.50`), the
    /// order of JSON fields and blanks do not matter; the order of lines does.
    Fingerprint, "fingerprint", "66 lower-case hex digits",
    |text| text.len() == 66 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl Fingerprint {
    /// The fingerprint of an order.
    #[must_use]
    pub fn of(order: &Order) -> Self {
        let mut canonical = Canonical(Sha256::new());
        canonical.order(order);
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&canonical.0.finalize());
        Self(HEXLOWER.encode(&bytes))
    }

    /// Whether the two were made by the same canonical form, so that being different means different orders.
    #[must_use]
    pub fn is_comparable_to(&self, other: &Self) -> bool {
        self.0[..2] == other.0[..2]
    }

    /// Whether this build can recompute the fingerprint.
    #[must_use]
    pub fn is_current_version(&self) -> bool {
        self.0.starts_with("01")
    }
}

struct Canonical(Sha256);

impl Canonical {
    fn order(&mut self, order: &Order) {
        self.optional(order.customer_ref.as_ref().map(CustomerRef::as_str));
        self.text(order.channel.as_str());
        self.text(order.currency.as_str());
        self.text(order.payment_ref.as_str());
        let to = &order.ship_to;
        for part in [&to.name, &to.line1, &to.line2, &to.city, &to.postcode] {
            self.optional(part.as_deref());
        }
        self.optional(to.country.as_ref().map(Country::as_str));
        self.optional(order.placed_at.map(|at| at.to_string()).as_deref());
        self.count(order.lines.len());
        for line in &order.lines {
            self.text(line.sku.as_str());
            self.optional(line.description.as_deref());
            self.number(line.quantity);
            self.text(&line.unit_price.canonical());
        }
        self.count(order.metadata.len());
        for (key, value) in &order.metadata {
            self.text(key);
            self.text(value);
        }
    }

    fn optional(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.number(ABSENT),
        }
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.update(text.as_bytes());
    }

    fn count(&mut self, count: usize) {
        self.number(u32::try_from(count).unwrap_or(ABSENT - 1));
    }

    fn number(&mut self, number: u32) {
        self.0.update(number.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{"customer_ref":"17850","channel":"wholesale","currency":"GBP","payment_ref":"pay_123",
        "ship_to":{"name":"Zoë","line1":"1 Road","city":"Leeds","postcode":"LS1","country":"GB"},
        "placed_at":"2010-12-01T08:26:00Z",
        "lines":[{"sku":"85123A","description":"HOLDER","quantity":6,"unit_price":"2.55"},
                 {"sku":"71053","quantity":1,"unit_price":"0"}],
        "metadata":{"b":"2","a":"1"}}"#;
    const GUEST: &str = r#"{"channel":"retail","currency":"EUR","payment_ref":"p","ship_to":{},
        "lines":[{"sku":"A","quantity":1000000,"unit_price":"0.001"}]}"#;

    fn fingerprint(json: &str) -> Fingerprint {
        Fingerprint::of(&serde_json::from_str(json).unwrap())
    }

    /// Vectors computed with Python's hashlib from the description on [`Fingerprint`].
    #[test]
    fn fingerprints_match_the_published_vectors() {
        assert_eq!(
            fingerprint(FULL).as_str(),
            "01dd8a5556eaaaff1d1dcbf0d875c3ebb496fae12b02dedd55dfb9eebb4a81680f"
        );
        assert_eq!(
            fingerprint(GUEST).as_str(),
            "01b40544b2fb291f48805c4f396887106c22e96d2637b9590985ab9ca1c0f561c8"
        );
    }

    #[test]
    fn spelling_does_not_matter() {
        let respelled = FULL
            .replace("\"2.55\"", "\"2.5500\"")
            .replace("08:26:00Z", "10:26:00.000+02:00")
            .replace(r#""b":"2","a":"1""#, r#""a":"1","b":"2""#);
        assert_eq!(fingerprint(&respelled), fingerprint(FULL));
    }

    #[test]
    fn every_value_matters() {
        let changes = [
            ("17850", "17851"),
            ("wholesale", "retail"),
            ("GBP", "EUR"),
            ("pay_123", "pay_124"),
            ("Zoë", "Zoe"),
            ("1 Road", "2 Road"),
            ("Leeds", "York"),
            ("LS1", "LS2"),
            ("\"GB\"", "\"IE\""),
            ("08:26:00", "08:26:01"),
            ("85123A", "85123B"),
            ("HOLDER", "HOLDERS"),
            (":6,", ":7,"),
            ("2.55", "2.56"),
            ("\"b\":", "\"c\":"),
            ("\"2\"", "\"3\""),
            (r#""customer_ref":"17850","#, ""),
            (r#""description":"HOLDER","#, ""),
        ];
        for (from, to) in changes {
            let changed = FULL.replacen(from, to, 1);
            assert_ne!(changed, FULL, "{from}");
            assert_ne!(fingerprint(&changed), fingerprint(FULL), "{from}");
        }
    }
}
