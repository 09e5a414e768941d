//! Makes plausible orders where no file is at hand: the same for the same seed, on every machine.

use std::collections::BTreeMap;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};

use super::order::{Channel, Draft, Line, Order, ShipTo};

const SKUS: usize = 400;
const LINES_MAX: usize = 200;
/// One more line in 7 of 8 cases: a median of 6 lines, and a long tail.
const MORE_LINES_OF_8: u32 = 7;
/// Repeats are the odds.
const QUANTITIES: [i64; 14] = [1, 1, 1, 1, 2, 2, 3, 4, 6, 6, 12, 12, 24, 48];
const COUNTRIES: [&str; 14] =
    ["GB", "GB", "GB", "GB", "GB", "GB", "GB", "GB", "DE", "FR", "IE", "ES", "NL", "NO"];
const COLOURS: [&str; 10] =
    ["Red", "White", "Blue", "Green", "Ivory", "Pink", "Grey", "Copper", "Striped", "Spotted"];
const THINGS: [&str; 10] =
    ["Mug", "Lantern", "Cushion", "Tea Towel", "Candle", "Bowl", "Garland", "Clock", "Lunch Bag", "Doormat"];
/// 2025-01-06T08:00:00Z, a Monday morning.
const FIRST_ORDER_AT: i64 = 1_736_150_400;
const GAP_SECONDS_MAX: i64 = 60;

/// The first `count` orders of this seed; a larger count begins with the same orders.
pub(crate) fn orders(count: usize, seed: u64, currency: &str, key_prefix: Option<&str>) -> Vec<Draft> {
    let mut random = Rng::with_seed(seed);
    let mut placed_at = Timestamp::constant(FIRST_ORDER_AT, 0);
    (1..=count)
        .map(|number| {
            placed_at += SignedDuration::from_secs(random.i64(0..GAP_SECONDS_MAX));
            let key = match key_prefix {
                Some(prefix) => format!("{prefix}{number}"),
                None => format!("generated-{seed}-{number}"),
            };
            draft(&mut random, key, placed_at, currency)
        })
        .collect()
}

fn draft(random: &mut Rng, key: String, placed_at: Timestamp, currency: &str) -> Draft {
    let customer_ref = (random.u32(0..10) > 0).then(|| random.u32(12_000..18_000).to_string());
    let lines = basket(random);
    let order = Order {
        channel: Channel::of(customer_ref.as_deref(), &lines),
        customer_ref,
        currency: currency.to_owned(),
        payment_ref: format!("pay_{key}"),
        ship_to: ShipTo { country: Some(pick(random, COUNTRIES)) },
        placed_at: Some(placed_at.to_string()),
        lines,
        metadata: BTreeMap::new(),
    };
    Draft { key, is_return: false, placed_at: Some(placed_at), order }
}

fn basket(random: &mut Rng) -> Vec<Line> {
    let mut lines = vec![line(random)];
    while lines.len() < LINES_MAX && random.u32(0..8) < MORE_LINES_OF_8 {
        lines.push(line(random));
    }
    lines
}

/// The smallest of four draws: a few SKUs sell most.
fn line(random: &mut Rng) -> Line {
    let article = (0..4).map(|_| random.usize(0..SKUS)).min().unwrap_or(0);
    let pence = 25 + article * 7919 % 1_475;
    Line {
        sku: format!("GEN{:04}", 1000 + article),
        description: Some(format!("{} {}", COLOURS[article % 10], THINGS[article / 10 % 10])),
        quantity: pick(random, QUANTITIES),
        unit_price: format!("{}.{:02}", pence / 100, pence % 100),
    }
}

fn pick<T: Copy, const N: usize>(random: &mut Rng, of: [T; N]) -> T {
    of[random.usize(0..N)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(count: usize, seed: u64) -> Vec<(String, String)> {
        orders(count, seed, "GBP", None)
            .into_iter()
            .map(|draft| (draft.key, serde_json::to_string(&draft.order).unwrap()))
            .collect()
    }

    #[test]
    fn the_same_seed_makes_the_same_orders_and_another_seed_others() {
        assert_eq!(bodies(50, 7), bodies(50, 7));
        assert_eq!(bodies(50, 7)[..], bodies(80, 7)[..50]);
        assert_ne!(bodies(50, 7)[0].1, bodies(50, 8)[0].1);
        assert_eq!(bodies(2, 7)[1].0, "generated-7-2");
    }

    #[test]
    fn every_generated_order_is_one_the_producer_accepts() {
        for (key, body) in bodies(300, 3) {
            let order = serde_json::from_str::<orderfleet_domain::Order>(&body);
            assert!(order.is_ok(), "{key}: {:?}", order.err());
        }
    }

    #[test]
    fn baskets_are_skewed_with_a_median_of_a_few_lines() {
        let mut sizes: Vec<_> =
            orders(1000, 1, "GBP", None).iter().map(|draft| draft.order.lines.len()).collect();
        sizes.sort_unstable();
        assert!((3..=10).contains(&sizes[500]), "median {}", sizes[500]);
        assert!(sizes[0] == 1 && sizes[999] > 30 && sizes[999] <= LINES_MAX, "{}..{}", sizes[0], sizes[999]);
    }

    #[test]
    fn a_few_skus_sell_most_and_prices_have_two_decimals() {
        let orders = orders(500, 1, "GBP", None);
        let lines: Vec<_> = orders.iter().flat_map(|draft| &draft.order.lines).collect();
        let top_tenth = lines.iter().filter(|line| line.sku.as_str() < "GEN1040").count();
        assert!(top_tenth * 4 > lines.len(), "{top_tenth} of {}", lines.len());
        assert!(
            lines
                .iter()
                .all(|line| line.unit_price.split_once('.').is_some_and(|(_, cents)| cents.len() == 2))
        );
    }
}
