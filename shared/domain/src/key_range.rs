//! Ranges of order ids: what a region, an account and a share of either are to a sharded database.

use crate::{
    AccountId, Region,
    ids::{BASE32_DIGITS, account_tag},
};

/// Characters of a point between two pieces: 2²⁰ places, so that the pieces of a range differ by less than a thousandth of it.
const POINT_CHARS: u32 = 4;
/// Most pieces of one range.
pub const PIECES_MAX: u32 = 1_024;

/// A range of order ids by the order of their bytes, which is the database's. What an order's other documents are called by
/// its id, a dot and more is in the same range.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyRange {
    /// The first id that may be in it.
    pub min: String,
    /// The first id behind it.
    pub max: String,
}

impl KeyRange {
    /// All orders of a region.
    #[must_use]
    pub fn of_region(region: &Region) -> Self {
        Self::behind(region.as_str())
    }

    /// All orders of an account, and of whoever has the same tag: a range of its region's.
    #[must_use]
    pub fn of_account(region: &Region, account: &AccountId) -> Self {
        Self::behind(&format!("{region}-{}", account_tag(account)))
    }

    /// The dot is the character behind the hyphen.
    fn behind(text: &str) -> Self {
        Self { min: format!("{text}-"), max: format!("{text}.") }
    }

    /// Whether an id is in it.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        (self.min.as_str()..self.max.as_str()).contains(&id)
    }

    /// The range cut into `count` pieces, 1 to [`PIECES_MAX`], that hold equally much, as what follows `min` in an id is a hash.
    #[must_use]
    pub fn pieces(&self, count: u32) -> Vec<Self> {
        let count = count.clamp(1, PIECES_MAX);
        let point = |number: u32| match number {
            0 => self.min.clone(),
            number if number == count => self.max.clone(),
            number => format!("{}{}", self.min, digits(u64::from(number), u64::from(count))),
        };
        (0..count).map(|number| Self { min: point(number), max: point(number + 1) }).collect()
    }
}

/// The base32 digits behind the point of `number / count`, in the order of their bytes: `2` is the lowest, `z` the highest.
fn digits(number: u64, count: u64) -> String {
    let places = 32_u64.pow(POINT_CHARS);
    let place = number * places / count;
    let digit = |position: u32| {
        let value = place / 32_u64.pow(position) % 32;
        char::from(BASE32_DIGITS[usize::try_from(value).unwrap_or(0)])
    };
    (0..POINT_CHARS).rev().map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IdempotencyKey, OrderId};

    fn region(name: &str) -> Region {
        name.parse().unwrap()
    }

    fn account(number: usize) -> AccountId {
        format!("shop-{number}").parse().unwrap()
    }

    fn ids(region: &Region, account: &AccountId, count: usize) -> Vec<OrderId> {
        let key = |number: usize| format!("invoice-{number}").parse::<IdempotencyKey>().unwrap();
        (0..count).map(|number| OrderId::derive(region, account, &key(number))).collect()
    }

    /// How far counts are from equal ones: about as much as there are cells where chance alone is at work.
    fn chi_square(counts: &[usize]) -> f64 {
        let expected = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
        counts.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum()
    }

    /// Within four standard deviations on both sides: what is more even than chance is no hash either.
    fn assert_even(what: &str, counts: &[usize]) {
        let (freedom, chi_square) = ((counts.len() - 1) as f64, chi_square(counts));
        let far = 4.0 * (2.0 * freedom).sqrt();
        eprintln!(
            "{what}: {} in {} pieces, chi-square {chi_square:.1}, {freedom} ± {far:.1} allowed",
            counts.iter().sum::<usize>(),
            counts.len()
        );
        assert!((chi_square - freedom).abs() < far, "{what}: {chi_square}");
    }

    fn counts(pieces: &[KeyRange], ids: impl Iterator<Item = impl AsRef<str>>) -> Vec<usize> {
        let mut counts = vec![0; pieces.len()];
        for id in ids {
            let id = id.as_ref();
            let place = pieces.partition_point(|piece| piece.max.as_str() <= id);
            assert!(pieces[place].contains(id), "{id} is in none");
            counts[place] += 1;
        }
        counts
    }

    #[test]
    fn a_million_ids_are_all_different_and_spread_evenly_and_an_accounts_stay_together() {
        let mut all = Vec::with_capacity(1_000_000);
        for shop in 0..1_000 {
            let region = region(if shop < 500 { "eu1" } else { "us1" });
            let (whole, own) = (KeyRange::of_region(&region), KeyRange::of_account(&region, &account(shop)));
            assert!(whole.min < own.min && own.max < whole.max);
            let ids = ids(&region, &account(shop), 1_000);
            assert!(ids.iter().all(|id| own.contains(id.as_str()) && own.contains(&format!("{id}.letter"))));
            all.extend(ids);
        }
        let hashes = all.iter().filter_map(|id| id.as_str().rsplit('-').next());
        let spread = KeyRange { min: String::new(), max: "~".into() }.pieces(256);
        assert_even("hashes", &counts(&spread, hashes));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 1_000_000, "no id is there twice");
    }

    #[test]
    fn the_pieces_of_a_region_share_its_accounts_and_those_of_an_account_its_orders() {
        let eu1 = region("eu1");
        for count in [2, 3, 16, 100] {
            let tags = (0..100_000).map(|number| KeyRange::of_account(&eu1, &account(number)).min);
            assert_even("accounts of a region", &counts(&KeyRange::of_region(&eu1).pieces(count), tags));
            let own = ids(&eu1, &account(7), 100_000);
            let pieces = KeyRange::of_account(&eu1, &account(7)).pieces(count);
            assert_even("orders of an account", &counts(&pieces, own.iter().map(OrderId::as_str)));
        }
    }

    #[test]
    fn pieces_cover_their_range_without_a_gap() {
        let range = KeyRange::of_region(&region("eu1"));
        for count in [1, 2, 7, PIECES_MAX] {
            let pieces = range.pieces(count);
            assert_eq!(pieces.len(), count as usize);
            assert_eq!((&pieces[0].min, &pieces[pieces.len() - 1].max), (&range.min, &range.max));
            assert!(pieces.windows(2).all(|two| two[0].max == two[1].min));
            assert!(pieces.iter().all(|piece| piece.min < piece.max), "{pieces:?}");
        }
        assert_eq!(range.pieces(2)[0].max, "eu1-k222", "half of the digits 2 to 7 and a to z are below k");
    }

    #[test]
    fn regions_do_not_overlap_even_where_one_name_begins_with_the_other() {
        let ranges = ["eu", "eu1", "eu12", "us1"].map(|name| KeyRange::of_region(&region(name)));
        for (number, range) in ranges.iter().enumerate() {
            let others = ranges.iter().enumerate().filter(|(other, _)| *other != number);
            assert!(
                others.map(|(_, other)| other).all(|other| other.max <= range.min || range.max <= other.min)
            );
        }
    }
}
