//! Identifiers, each a type of its own so that two cannot be swapped at a call, and how an order id is derived.

use std::{fmt, str::FromStr};

use data_encoding::{Encoding, Specification};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A text that is not a well-formed identifier. The message names the rule, never the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}")]
pub struct IdError {
    what: &'static str,
    rule: &'static str,
}

impl IdError {
    pub(crate) fn new(what: &'static str, rule: &'static str) -> Self {
        Self { what, rule }
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                let check: fn(&str) -> bool = $check;
                if check(&text) { Ok(Self(text)) } else { Err(IdError::new($what, $rule)) }
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
    };
}
pub(crate) use text_id;

text_id! {
    /// Home region of an account, for example `eu1`; the first part of every order id and so its zone.
    Region, "region", "1 to 8 characters of a-z and 0-9",
    |text| (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

text_id! {
    /// The account (a shop) that an order belongs to. It comes from the verified API key, never from a request body.
    AccountId, "account", "1 to 64 characters of a-z, A-Z, 0-9, '.', '_' and '-'",
    |text| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

text_id! {
    /// The client's key for one order: the same key is the same order, any number of times.
    IdempotencyKey, "Idempotency-Key", "1 to 255 visible ASCII characters",
    |text| (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

text_id! {
    /// Name of a saga step, for example `inventory`. Part of keys, routing keys and queue names.
    StepName, "step name", "1 to 32 characters of a-z, 0-9, '_' and '-', starting with a letter",
    |text| {
        (1..=32).contains(&text.len())
            && text.as_bytes()[0].is_ascii_lowercase()
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
    }
}

text_id! {
    /// `<region>-<account tag>-<hash>`, lower case: the order's `_id`, shard key and idempotency record in one.
    ///
    /// - `region`: the account's home region;
    /// - `account tag`: 8 characters, base32 of the first 5 bytes of
    ///   SHA-256(`"orderfleet/account/1"` ‖ len(account) ‖ account); one account's orders are one key range;
    /// - `hash`: 32 characters, base32 of the first 20 bytes (160 bits) of
    ///   SHA-256(`"orderfleet/order/1"` ‖ len(account) ‖ account ‖ len(key) ‖ key).
    ///
    /// `len` is the length in bytes as 4 bytes, big-endian; texts are UTF-8; base32 is RFC 4648 in lower case without
    /// padding. Tags can collide, so whoever reads by id also filters on the account.
    OrderId, "order id", "<region>-<8 characters>-<32 characters> in lower-case base32",
    |text| {
        let mut parts = text.split('-');
        let region_ok = parts.next().is_some_and(|region| Region::from_str(region).is_ok());
        let tag_ok = parts.next().is_some_and(|tag| is_base32(tag, TAG_CHARS));
        let hash_ok = parts.next().is_some_and(|hash| is_base32(hash, HASH_CHARS));
        region_ok && tag_ok && hash_ok && parts.next().is_none()
    }
}

/// The digits of the base32 above, in the order of their bytes.
pub(crate) const BASE32_DIGITS: &[u8; 32] = b"234567abcdefghijklmnopqrstuvwxyz";
const TAG_BYTES: usize = 5;
const TAG_CHARS: usize = 8;
const HASH_BYTES: usize = 20;
const HASH_CHARS: usize = 32;

impl OrderId {
    /// The id of the order that `account` posts under `key`: the same on every producer replica, without a database.
    #[must_use]
    pub fn derive(region: &Region, account: &AccountId, key: &IdempotencyKey) -> Self {
        let hash = digest("orderfleet/order/1", &[account.as_str(), key.as_str()]);
        let hash = base32(&hash[..HASH_BYTES]);
        Self(format!("{region}-{}-{hash}", account_tag(account)))
    }

    /// The partition of fresh orders this one goes to, below `partitions` (at least 1): any spread will do, as nothing
    /// relies on where an order was queued.
    #[must_use]
    pub fn partition(&self, partitions: u16) -> u16 {
        let hash = self.0.bytes().rev().take(4).fold(0_u32, |hash, byte| hash * 32 + u32::from(byte));
        u16::try_from(hash % u32::from(partitions.max(1))).unwrap_or(0)
    }

    /// Whether this id can belong to the account (tags can collide, so `true` is not a proof; `false` is).
    #[must_use]
    pub fn may_belong_to(&self, region: &Region, account: &AccountId) -> bool {
        self.0.strip_prefix(&format!("{region}-{}-", account_tag(account))).is_some()
    }
}

pub(crate) fn account_tag(account: &AccountId) -> String {
    base32(&digest("orderfleet/account/1", &[account.as_str()])[..TAG_BYTES])
}

/// SHA-256 over a domain separator and length-prefixed parts: no two lists of parts have the same input.
pub(crate) fn digest(domain: &str, parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(domain.as_bytes());
    for part in parts {
        hash.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// Lower-case RFC 4648 base32 without padding.
pub(crate) fn base32(bytes: &[u8]) -> String {
    base32_encoding().encode(bytes)
}

fn is_base32(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b))
}

fn base32_encoding() -> &'static Encoding {
    static BASE32: std::sync::OnceLock<Encoding> = std::sync::OnceLock::new();
    BASE32.get_or_init(|| {
        let mut specification = Specification::new();
        specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
        specification.encoding().expect("32 distinct symbols are a valid base32 specification")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(region: &str, account: &str, key: &str) -> OrderId {
        OrderId::derive(&region.parse().unwrap(), &account.parse().unwrap(), &key.parse().unwrap())
    }

    /// Vectors computed with Python's hashlib and base64 from the description on [`OrderId`].
    #[test]
    fn order_ids_match_the_published_vectors() {
        assert_eq!(
            id("eu1", "demo", "invoice-536365").as_str(),
            "eu1-vqhnbfvs-dw3nwqzm4jeqqutrep4bxjfyvskigkny"
        );
        assert_eq!(id("us1", "shop_2", "k").as_str(), "us1-dj6iq3mr-fhoorzvg7zxopvw6er5wirrznv4l5nsw");
    }

    #[test]
    fn length_prefixes_keep_account_and_key_apart() {
        assert_ne!(digest("d", &["ab", "c"]), digest("d", &["a", "bc"]));
    }

    #[test]
    fn an_id_names_its_account_range() {
        let demo = id("eu1", "demo", "a");
        assert!(demo.may_belong_to(&"eu1".parse().unwrap(), &"demo".parse().unwrap()));
        assert!(!demo.may_belong_to(&"eu1".parse().unwrap(), &"other".parse().unwrap()));
        assert!(!demo.may_belong_to(&"us1".parse().unwrap(), &"demo".parse().unwrap()));
    }

    #[test]
    fn malformed_ids_are_refused() {
        let good = id("eu1", "demo", "a").to_string();
        for bad in [
            "",
            "eu1",
            "eu1--",
            &good[1..].replace('-', ""),
            &good.to_uppercase(),
            &format!("{good}-x"),
            &format!("{good}a"),
        ] {
            assert!(bad.parse::<OrderId>().is_err(), "{bad}");
        }
        assert!(good.parse::<OrderId>().is_ok());
        assert!("key with space".parse::<IdempotencyKey>().is_err());
        assert!("ключ".parse::<IdempotencyKey>().is_err());
        assert!("x".repeat(256).parse::<IdempotencyKey>().is_err());
        assert!("Inventory".parse::<StepName>().is_err());
    }
}
