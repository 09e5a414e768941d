//! What came in from one end and has not gone out to the other yet, within bounds.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use tokio::time::Instant;

const BYTES_MAX: usize = 256 * 1024;
/// Bounds the bookkeeping when bytes come one by one.
const CHUNKS_MAX: usize = 256;

/// A queue of chunks in the order they came.
#[derive(Default)]
pub(super) struct Kept {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    has_ended: bool,
}

/// Something that came in at once.
pub(super) struct Chunk {
    pub(super) arrived: Instant,
    pub(super) item: Item,
    /// Number of the last setting known to have held it back.
    withheld_by: u64,
}

/// What can come in from an end.
#[derive(Clone)]
pub(super) enum Item {
    Bytes(Bytes),
    /// It will send no more.
    End,
    /// It is gone.
    Broken,
}

impl Kept {
    /// Whether more is to be read. Where not, TCP itself slows the sender down.
    pub(super) fn has_room(&self) -> bool {
        !self.has_ended && self.bytes < BYTES_MAX && self.chunks.len() < CHUNKS_MAX
    }

    pub(super) fn push(&mut self, item: Item) {
        self.bytes += item.len();
        self.has_ended |= !matches!(item, Item::Bytes(_));
        self.chunks.push_back(Chunk { arrived: Instant::now(), item, withheld_by: 0 });
    }

    pub(super) fn front(&self) -> Option<&Chunk> {
        self.chunks.front()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Takes away bytes that have gone out; they must all be of the front chunk.
    pub(super) fn consume(&mut self, count: usize) {
        if let Some(Chunk { item: Item::Bytes(bytes), .. }) = self.chunks.front_mut() {
            bytes.advance(count);
            self.bytes -= count;
            if bytes.is_empty() {
                self.chunks.pop_front();
            }
        }
    }

    /// The bytes that this setting holds back and that were not told for it before; `None` if there is
    /// nothing new. The end of a stream has no bytes, but is held back as well.
    pub(super) fn newly_withheld(&mut self, number: u64) -> Option<usize> {
        let new = self.chunks.iter_mut().rev().take_while(|chunk| chunk.withheld_by != number);
        new.map(|chunk| {
            chunk.withheld_by = number;
            chunk.item.len()
        })
        .reduce(|sum, bytes| sum + bytes)
    }
}

impl Item {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::End | Self::Broken => 0,
        }
    }
}
