//! Who does it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

const CHARS_MAX: usize = 64;

/// The name of the person, or of the program, that changes something: recorded with every change. 1 to 64 visible ASCII
/// characters. It is what the caller says of himself, no proof: who may do what is decided by the credentials of broker and
/// database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Operator(String);

/// A name that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an operator's name has 1 to 64 visible ASCII characters")]
pub struct BadOperator;

impl Operator {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Operator {
    type Err = BadOperator;

    fn from_str(text: &str) -> Result<Self, BadOperator> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        let fits = (1..=CHARS_MAX).contains(&text.len());
        if visible && fits { Ok(Self(text.to_owned())) } else { Err(BadOperator) }
    }
}

impl TryFrom<String> for Operator {
    type Error = BadOperator;

    fn try_from(text: String) -> Result<Self, BadOperator> {
        text.parse()
    }
}

impl From<Operator> for String {
    fn from(operator: Operator) -> Self {
        operator.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_seen_and_fits_on_a_line() {
        assert_eq!("jo@host".parse::<Operator>().unwrap().as_str(), "jo@host");
        for bad in ["", "jo doe", "jo\n", "Zoë", &"x".repeat(65)] {
            assert_eq!(bad.parse::<Operator>(), Err(BadOperator), "{bad:?}");
        }
    }
}
