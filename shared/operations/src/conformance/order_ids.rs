//! Order ids that no shop has.

use orderfleet_domain::{AccountId, OrderId};

/// Marks the orders of checks: no shop's account is in this region.
const REGION: &str = "check1";
/// Characters at the end of an order id that number the orders of a run.
const NUMBER_CHARS: u32 = 6;
/// Of base32, as order ids are written.
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The order ids of one run, which begin alike and are no other run's.
#[derive(Debug, Clone)]
pub(super) struct OrderIds {
    prefix: String,
}

impl OrderIds {
    /// Those of a new run, told from all others by a random part.
    pub(super) fn new(account: &AccountId) -> Self {
        let region = REGION.parse().expect("it is a region");
        let random = format!("{:032x}", fastrand::u128(..));
        let random = random.parse().expect("hexadecimal digits are a key");
        let mut prefix = OrderId::derive(&region, account, &random).to_string();
        prefix.truncate(prefix.len() - NUMBER_CHARS as usize);
        Self { prefix }
    }

    /// What all of them begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The id of this number, below 2^30.
    pub(super) fn number(&self, number: u32) -> OrderId {
        let digit = |place: u32| char::from(DIGITS[(number >> (5 * place)) as usize % DIGITS.len()]);
        let digits: String = (0..NUMBER_CHARS).rev().map(digit).collect();
        let id = format!("{}{digits}", self.prefix);
        id.parse().expect("only the end of its last part was replaced, by characters that it may have")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_ids_of_a_run_begin_alike_and_differ() {
        let ids = OrderIds::new(&"demo".parse().unwrap());
        assert!(ids.prefix().starts_with("check1-"));
        assert_eq!(ids.number(1).to_string(), format!("{}aaaaab", ids.prefix()));
        assert_eq!(ids.number(33).to_string(), format!("{}aaaabb", ids.prefix()));
        assert_ne!(OrderIds::new(&"demo".parse().unwrap()).prefix(), ids.prefix());
    }
}
