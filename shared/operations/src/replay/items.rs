//! The items of a replay in memory, and how many of them stand where.

use orderfleet_storage::{ItemState, ReplayItem, Store, StoreError};
use serde::Serialize;

/// How far a replay has come, in dead letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Their turn has not come.
    pub waiting: u32,
    /// Published; their orders have not ended.
    pub begun: u32,
    /// Their orders came to the end that they were to come to.
    pub done: u32,
    /// Their orders failed again.
    pub failed: u32,
    /// There was nothing to publish for them.
    pub refused: u32,
}

/// All items, in their order: a few hundred bytes each, 100,000 at most.
#[derive(Debug)]
pub(super) struct Items {
    items: Vec<ReplayItem>,
    progress: Progress,
    /// None before this one is waiting.
    next: usize,
}

impl Progress {
    pub(super) fn is_over(&self) -> bool {
        self.waiting + self.begun == 0
    }

    fn count(&mut self, state: ItemState) -> &mut u32 {
        match state {
            ItemState::Waiting => &mut self.waiting,
            ItemState::Begun => &mut self.begun,
            ItemState::Done => &mut self.done,
            ItemState::Failed => &mut self.failed,
            ItemState::Refused => &mut self.refused,
        }
    }
}

impl Items {
    pub(super) async fn read(store: &Store, replay: &str) -> Result<Self, StoreError> {
        let mut items: Vec<ReplayItem> = Vec::new();
        loop {
            let from = u32::try_from(items.len()).unwrap_or(u32::MAX);
            let page = store.replay_items(replay, from).await?;
            if page.is_empty() {
                return Ok(Self::new(items));
            }
            items.extend(page);
        }
    }

    fn new(items: Vec<ReplayItem>) -> Self {
        let mut progress = Progress::default();
        for item in &items {
            *progress.count(item.state) += 1;
        }
        Self { items, progress, next: 0 }
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    pub(super) fn get(&self, index: usize) -> &ReplayItem {
        &self.items[index]
    }

    /// Puts an item back that was taken out to be changed.
    pub(super) fn put(&mut self, index: usize, item: ReplayItem) {
        *self.progress.count(self.items[index].state) -= 1;
        *self.progress.count(item.state) += 1;
        self.items[index] = item;
    }

    /// Those that were begun and have not ended.
    pub(super) fn begun(&self) -> Vec<usize> {
        (0..self.items.len()).filter(|index| self.items[*index].state == ItemState::Begun).collect()
    }

    /// The next one whose turn has not come. Each is told once.
    pub(super) fn next_waiting(&mut self) -> Option<usize> {
        let behind = self.items.get(self.next..)?;
        let found = self.next + behind.iter().position(|item| item.state == ItemState::Waiting)?;
        self.next = found + 1;
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::fixtures::item;

    fn items() -> Items {
        let states = [ItemState::Done, ItemState::Waiting, ItemState::Begun, ItemState::Waiting];
        Items::new((0..).zip(states).map(|(seq, state)| item(seq, state)).collect())
    }

    #[test]
    fn items_come_in_their_order_and_each_that_waits_comes_once() {
        let mut items = items();
        assert_eq!(items.begun(), [2]);
        assert_eq!([(); 4].map(|()| items.next_waiting()), [Some(1), Some(3), None, None]);
    }

    #[test]
    fn every_change_of_an_item_is_counted() {
        let mut items = items();
        assert_eq!(items.progress(), Progress { waiting: 2, begun: 1, done: 1, ..Progress::default() });
        items.put(1, item(1, ItemState::Refused));
        items.put(2, item(2, ItemState::Failed));
        items.put(2, item(2, ItemState::Failed));
        let progress = Progress { waiting: 1, done: 1, failed: 1, refused: 1, ..Progress::default() };
        assert_eq!((items.progress(), items.get(2).state), (progress, ItemState::Failed));
    }
}
