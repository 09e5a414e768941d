//! The newest acceptances, to tell one that is in the logs again.

use std::{
    collections::{HashSet, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use crate::audit::Acceptance;

/// Acceptances that are remembered; 32 MB at most.
pub(super) const REMEMBERED_MAX: usize = 500_000;

/// Keys of the acceptances taken last.
#[derive(Debug, Default)]
pub(super) struct Window {
    keys: HashSet<u128>,
    oldest_first: VecDeque<u128>,
}

impl Window {
    /// Whether this order and body were not among the last ones.
    pub(super) fn admits(&mut self, acceptance: &Acceptance) -> bool {
        let key = key(acceptance);
        if !self.keys.insert(key) {
            return false;
        }
        self.oldest_first.push_back(key);
        if self.oldest_first.len() > REMEMBERED_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.keys.remove(&oldest);
        }
        true
    }
}

/// 128 bits, so that no two of any number of acceptances share one.
fn key(acceptance: &Acceptance) -> u128 {
    let half = |which: u8| {
        let mut hash = DefaultHasher::new();
        (which, &acceptance.order_id, &acceptance.fp).hash(&mut hash);
        u128::from(hash.finish())
    };
    half(0) << 64 | half(1)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use orderfleet_domain::OrderId;

    use super::*;

    fn acceptance(number: usize, body: u8) -> Acceptance {
        let account = "demo".parse().unwrap();
        Acceptance {
            order_id: OrderId::derive(
                &"eu1".parse().unwrap(),
                &account,
                &number.to_string().parse().unwrap(),
            ),
            fp: format!("01{body:064x}").parse().unwrap(),
            account,
            accepted_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_same_body_is_admitted_once_and_another_one_by_itself() {
        let mut window = Window::default();
        assert!(window.admits(&acceptance(1, 1)));
        assert!(!window.admits(&acceptance(1, 1)));
        assert!(window.admits(&acceptance(1, 2)));
        assert!(window.admits(&acceptance(2, 1)));
    }

    #[test]
    fn only_the_newest_are_remembered() {
        let mut window = Window::default();
        let first = acceptance(0, 1);
        assert!(window.admits(&first));
        (0..REMEMBERED_MAX as u128).for_each(|other| {
            window.keys.insert(other);
            window.oldest_first.push_back(other);
        });
        assert!(window.admits(&acceptance(1, 1)));
        assert!(window.admits(&first), "it is forgotten by now");
    }
}
