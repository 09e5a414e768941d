//! Exact decimal money: a string in JSON, Decimal128 in MongoDB, never a float.

use std::{fmt, str::FromStr};

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// An amount with at most [`Money::SCALE_MAX`] decimals, without a currency. `2.50` and `2.5` are equal; the text form
/// keeps what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Money(Decimal);

/// A text that is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not of the form `-?digits[.digits]`: no exponent, plus sign, grouping or blanks.
    #[error("must be a decimal number in a string, such as \"2.55\"")]
    Malformed,
    /// More than four decimals.
    #[error("must have at most 4 decimals")]
    TooPrecise,
    /// More than fifteen digits before the point.
    #[error("must have at most 15 digits before the decimal point")]
    TooLarge,
}

impl Money {
    /// Most decimals an amount can have.
    pub const SCALE_MAX: usize = 4;
    const DIGITS_MAX: usize = 15;
    /// Nothing.
    pub const ZERO: Self = Self(Decimal::ZERO);

    /// The amount as a decimal.
    #[must_use]
    pub fn as_decimal(self) -> Decimal {
        self.0
    }

    /// The shortest text of the amount, without trailing zeros: equal amounts have equal texts.
    #[must_use]
    pub fn canonical(self) -> String {
        self.0.normalize().to_string()
    }

    /// This amount times a quantity. Cannot overflow: 19 digits times 7 are below the 28 of the decimal type.
    #[must_use]
    pub fn times(self, quantity: u32) -> Self {
        Self(self.0 * Decimal::from(quantity))
    }
}

impl std::iter::Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        Self(amounts.map(|amount| amount.0).sum())
    }
}

impl FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(MoneyError::Malformed);
        }
        // Before anything is parsed: the decimal parser recurses once per digit.
        if whole.len() > Self::DIGITS_MAX {
            return Err(MoneyError::TooLarge);
        }
        if fraction.len() > Self::SCALE_MAX {
            return Err(MoneyError::TooPrecise);
        }
        text.parse().map(Self).map_err(|_| MoneyError::Malformed)
    }
}

impl TryFrom<String> for Money {
    type Error = MoneyError;
    fn try_from(text: String) -> Result<Self, MoneyError> {
        text.parse()
    }
}

impl From<Money> for String {
    fn from(money: Money) -> Self {
        money.to_string()
    }
}

impl fmt::Display for Money {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_decimals_are_money() {
        for good in ["0", "0.001", "2.55", "-1", "00012.5", "999999999999999.9999"] {
            assert!(good.parse::<Money>().is_ok(), "{good}");
        }
        for bad in ["", "-", ".", "1.", ".5", "1e3", "1e400", "+1", "1,000", " 1", "NaN", "0x1", "1.2.3", "١"]
        {
            assert_eq!(bad.parse::<Money>(), Err(MoneyError::Malformed), "{bad}");
        }
        assert_eq!("1.00001".parse::<Money>(), Err(MoneyError::TooPrecise));
        assert_eq!("1000000000000000".parse::<Money>(), Err(MoneyError::TooLarge));
        assert_eq!(format!("{}1", "0".repeat(1_000_000)).parse::<Money>(), Err(MoneyError::TooLarge));
        assert_eq!(format!("0.{}1", "0".repeat(1_000_000)).parse::<Money>(), Err(MoneyError::TooPrecise));
    }

    #[test]
    fn equal_amounts_have_one_canonical_text() {
        let texts = ["2.5", "2.50", "2.5000", "0002.5"];
        assert!(texts.iter().all(|text| text.parse::<Money>().unwrap().canonical() == "2.5"));
        assert_eq!("0.000".parse::<Money>().unwrap().canonical(), "0");
    }

    #[test]
    fn the_largest_order_does_not_overflow() {
        let price: Money = "999999999999999.9999".parse().unwrap();
        let total: Money = std::iter::repeat_n(price.times(1_000_000), 2_000).sum();
        assert_eq!(total.to_string(), "1999999999999999999800000.0000");
    }
}
