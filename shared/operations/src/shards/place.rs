//! Where orders are kept before there are any: each region's range, and those of its accounts, cut into pieces that are dealt
//! out to its shards in turn. Afterwards the balancer moves them by their size.

use orderfleet_domain::{AccountId, KeyRange, PIECES_MAX, Region};

/// Of a region's range, for each of its shards: enough that accounts of different sizes even out, and few enough to move.
const PIECES_PER_SHARD: usize = 8;
/// With more accounts than this the tags alone spread a region; the largest are then spread by the balancer, by size.
const ACCOUNTS_SPLIT_MAX: usize = 16;
/// An account's range is cut into at most so many pieces.
const PIECES_PER_ACCOUNT_MAX: usize = 16;

/// An account and the region it is at home in, for good.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Home {
    /// The region.
    pub region: Region,
    /// The account.
    pub account: AccountId,
}

/// The range of a region, cut into pieces in their order, each with its shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces(pub Vec<(KeyRange, String)>);

impl Pieces {
    /// Deals a region out to these shards, 1 or more; the ranges of its known accounts, if they are few, one by one, since one that
    /// has most of the orders would otherwise be on one shard.
    #[must_use]
    pub fn deal(region: &Region, shards: &[String], homes: &[Home]) -> Self {
        let mut accounts: Vec<_> = homes
            .iter()
            .filter(|home| home.region == *region)
            .map(|home| KeyRange::of_account(region, &home.account))
            .collect();
        accounts.sort_unstable();
        accounts.dedup();
        if accounts.len() > ACCOUNTS_SPLIT_MAX || shards.len() < 2 {
            accounts.clear();
        }
        let count = if shards.len() < 2 { 1 } else { shards.len() * PIECES_PER_SHARD };
        let count = u32::try_from(count).unwrap_or(PIECES_MAX);
        let mut dealt = Vec::new();
        for (turn, piece) in KeyRange::of_region(region).pieces(count).into_iter().enumerate() {
            let shard = &shards[turn % shards.len()];
            let mut from = piece.min.clone();
            for (number, account) in accounts.iter().enumerate() {
                if piece.contains(&account.min) {
                    push(&mut dealt, &from, &account.min, shard);
                    dealt.extend(deal_account(account, shards, number));
                    from.clone_from(&account.max);
                }
            }
            push(&mut dealt, &from, &piece.max, shard);
        }
        Self(dealt)
    }

    /// The shard that an order's id, or that of its dead letter, falls to; none if it is of another region.
    #[must_use]
    pub fn shard_of(&self, id: &str) -> Option<&str> {
        self.0.iter().find(|(piece, _)| piece.contains(id)).map(|(_, shard)| shard.as_str())
    }
}

/// Each account begins with another shard, or those that have fewer pieces than there are shards would share some.
fn deal_account(account: &KeyRange, shards: &[String], number: usize) -> Vec<(KeyRange, String)> {
    let count = shards.len().min(PIECES_PER_ACCOUNT_MAX);
    let pieces = account.pieces(u32::try_from(count).unwrap_or(1)).into_iter().enumerate();
    pieces.map(|(turn, piece)| (piece, shards[(number * count + turn) % shards.len()].clone())).collect()
}

fn push(dealt: &mut Vec<(KeyRange, String)>, min: &str, max: &str, shard: &str) {
    if min < max {
        dealt.push((KeyRange { min: min.to_owned(), max: max.to_owned() }, shard.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use orderfleet_domain::OrderId;

    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("s{number}")).collect()
    }

    fn home(account: &str) -> Home {
        Home { region: "eu1".parse().unwrap(), account: account.parse().unwrap() }
    }

    fn shares(pieces: &Pieces, account: &str, shards: &[String]) -> Vec<usize> {
        let Home { region, account } = home(account);
        let mut counts = vec![0; shards.len()];
        for number in 0..4_000 {
            let id = OrderId::derive(&region, &account, &format!("k{number}").parse().unwrap());
            let shard = pieces.shard_of(id.as_str()).unwrap();
            counts[shards.iter().position(|name| name == shard).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn pieces_cover_the_region_and_a_known_account_is_on_every_shard_in_equal_shares() {
        let region: Region = "eu1".parse().unwrap();
        for count in [2, 3, 5] {
            let shards = names(count);
            let pieces = Pieces::deal(&region, &shards, &[home("large"), home("other"), home("large")]);
            let whole = KeyRange::of_region(&region);
            assert_eq!(pieces.0.first().unwrap().0.min, whole.min);
            assert_eq!(pieces.0.last().unwrap().0.max, whole.max);
            assert!(pieces.0.windows(2).all(|two| two[0].0.max == two[1].0.min), "{pieces:?}");
            for known in ["large", "other"] {
                let shares = shares(&pieces, known, &shards);
                let equal = 4_000 / count;
                assert!(shares.iter().all(|share| share.abs_diff(equal) < equal / 8), "{known}: {shares:?}");
            }
            let unknown = shares(&pieces, "unknown", &shards);
            assert_eq!(unknown.iter().filter(|share| **share > 0).count(), 1, "a small one is on one shard");
        }
    }

    #[test]
    fn one_shard_and_many_accounts_are_not_cut_up() {
        let region: Region = "eu1".parse().unwrap();
        let many: Vec<_> = (0..=ACCOUNTS_SPLIT_MAX).map(|number| home(&format!("a{number}"))).collect();
        assert_eq!(Pieces::deal(&region, &names(1), &many[..3]).0.len(), 1);
        assert_eq!(Pieces::deal(&region, &names(2), &many).0.len(), 2 * PIECES_PER_SHARD);
        assert_eq!(Pieces::deal(&region, &names(2), &[]).0.len(), 2 * PIECES_PER_SHARD);
        assert_eq!(Pieces::deal(&region, &names(200), &[]).0.len(), PIECES_MAX as usize);
    }
}
