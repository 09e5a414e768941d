//! Which deliveries can be acked at once: `multiple` acks every one up to a tag, so only those without a gap below.

use std::collections::BTreeSet;

/// Delivery tags of one channel.
#[derive(Debug)]
pub(super) struct Acks {
    /// The lowest tag that is not done.
    next: u64,
    /// Done above it.
    done: BTreeSet<u64>,
}

impl Acks {
    /// Of a channel that has delivered nothing.
    pub(super) fn new() -> Self {
        Self { next: 1, done: BTreeSet::new() }
    }

    /// A delivery has been worked.
    pub(super) fn done(&mut self, tag: u64) {
        self.done.insert(tag);
    }

    /// The tag to ack, if another one than before: all up to it are done.
    pub(super) fn settled(&mut self) -> Option<u64> {
        let before = self.next;
        while self.done.remove(&self.next) {
            self.next += 1;
        }
        (self.next > before).then(|| self.next - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_acked_once_all_before_it_are_done() {
        let mut acks = Acks::new();
        assert_eq!(acks.settled(), None);
        acks.done(2);
        acks.done(4);
        assert_eq!(acks.settled(), None, "the first is not done");
        acks.done(1);
        assert_eq!(acks.settled(), Some(2));
        assert_eq!(acks.settled(), None, "nothing is acked twice");
        acks.done(3);
        assert_eq!(acks.settled(), Some(4));
    }
}
