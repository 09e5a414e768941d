//! One direction of one connection: reads from one end, and lets pass to the other what the fault allows.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::evidence::Witness;
use super::fault::{Direction, Fault};
use super::kept::{Chunk, Item, Kept};
use super::link::Setting;

const READ_BYTES_MAX: usize = 16 * 1024;
/// A trickle flows in this many pieces per second, or byte by byte below that.
const PIECES_PER_S: u32 = 20;

/// Both ends must be reset.
#[derive(Debug)]
pub(super) struct Cut;

/// Carries bytes one way.
pub(super) struct Pump<'a> {
    way: Direction,
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    setting: watch::Receiver<Setting>,
    witness: &'a Witness<'a>,
    carried: &'a AtomicU64,
    kept: Kept,
    buffer: Box<[u8]>,
    /// The next piece of a trickle goes out then.
    next_piece_at: Option<Instant>,
}

/// The terms on which the front chunk may go out.
#[derive(Clone, Copy)]
struct Terms {
    not_before: Option<Instant>,
    bytes_max: usize,
}

/// What went out.
enum Passed {
    Bytes(usize),
    End,
    Broken,
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        way: Direction,
        (from, to): (ReadHalf<'a>, WriteHalf<'a>),
        setting: watch::Receiver<Setting>,
        witness: &'a Witness<'a>,
        carried: &'a AtomicU64,
    ) -> Self {
        let buffer = vec![0; READ_BYTES_MAX].into_boxed_slice();
        Self { way, from, to, setting, witness, carried, kept: Kept::default(), buffer, next_piece_at: None }
    }

    /// Runs until the end of the stream has passed, or the connection is to be reset.
    pub(super) async fn run(mut self) -> Result<(), Cut> {
        loop {
            let now = *self.setting.borrow_and_update();
            match now.fault {
                Some(Fault::HalfClose { direction }) if direction.covers(self.way) => {
                    return self.half_close(now).await;
                }
                Some(Fault::DropReplies { close_after_ms })
                    if self.way == Direction::Down && self.kept.bytes() > 0 =>
                {
                    return self.drop_replies(now, Duration::from_millis(close_after_ms)).await;
                }
                _ => self.note_withheld(now),
            }
            if self.step(now).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Waits for whatever comes first: a new setting, more to read, or leave to write. Every wait can be
    /// given up without losing a byte, so a fault takes hold even where an end does not read.
    async fn step(&mut self, now: Setting) -> Result<Option<Ended>, Cut> {
        let terms = self.terms(now.fault);
        let Self { from, to, setting, kept, buffer, .. } = self;
        tokio::select! {
            changed = setting.changed() => changed.map_err(|_| Cut)?,
            item = read(from, buffer), if kept.has_room() => kept.push(item),
            Some(passed) = pass(to, kept.front(), terms) => return self.note_passed(now, passed).await,
        }
        Ok(None)
    }

    fn terms(&self, fault: Option<Fault>) -> Option<Terms> {
        let front = self.kept.front()?;
        match fault {
            Some(fault) if fault.withholds(self.way) => None,
            Some(Fault::Trickle { bytes_per_s }) => {
                let bytes_max =
                    usize::try_from(bytes_per_s.get() / PIECES_PER_S).unwrap_or(usize::MAX).max(1);
                Some(Terms { not_before: self.next_piece_at, bytes_max })
            }
            Some(fault @ Fault::Delay { .. }) => {
                Some(Terms { not_before: Some(front.arrived + fault.delay()), bytes_max: usize::MAX })
            }
            _ => Some(Terms { not_before: None, bytes_max: usize::MAX }),
        }
    }

    async fn note_passed(&mut self, now: Setting, passed: io::Result<Passed>) -> Result<Option<Ended>, Cut> {
        match passed {
            Ok(Passed::Bytes(count)) => {
                self.kept.consume(count);
                self.carried.fetch_add(count as u64, Ordering::Relaxed);
                self.note_slowed(now, count);
                Ok(None)
            }
            Ok(Passed::End) => Ok(Some(Ended)),
            Ok(Passed::Broken) => Err(Cut),
            Err(_) => {
                self.until_news_can_return().await;
                Err(Cut)
            }
        }
    }

    fn note_withheld(&mut self, now: Setting) {
        if now.fault.is_some_and(|fault| fault.withholds(self.way))
            && let Some(bytes) = self.kept.newly_withheld(now.number)
        {
            self.witness.hit(now, bytes);
        }
    }

    fn note_slowed(&mut self, now: Setting, count: usize) {
        match now.fault {
            Some(Fault::Trickle { bytes_per_s }) => {
                // A piece is at most a twentieth of the rate or one byte, so the pause is a second at most.
                let pause = Duration::from_secs(1) * u32::try_from(count).unwrap_or(1) / bytes_per_s.get();
                self.next_piece_at = Some(Instant::now() + pause);
                self.witness.hit(now, count);
            }
            Some(Fault::Delay { .. }) => self.witness.hit(now, count),
            _ => {}
        }
    }

    /// That the receiver is gone is news that travels the other way; a black hole there swallows it.
    async fn until_news_can_return(&mut self) {
        let back = self.way.opposite();
        // An error means that the link is gone, which is as good as healed.
        let _ = self.setting.wait_for(|now| now.fault.is_none_or(|fault| !fault.withholds(back))).await;
    }

    async fn half_close(&mut self, now: Setting) -> Result<(), Cut> {
        // A receiver that is gone has read its end already.
        let _ = self.to.shutdown().await;
        self.discard(now).await
    }

    async fn drop_replies(&mut self, now: Setting, close_after: Duration) -> Result<(), Cut> {
        let deadline = Instant::now() + close_after;
        // The client is to hear nothing before the reset, not even that the target is done.
        let _ = timeout_at(deadline, self.discard(now)).await;
        sleep_until(deadline).await;
        Err(Cut)
    }

    /// Throws away what is kept and what still comes.
    async fn discard(&mut self, now: Setting) -> Result<(), Cut> {
        self.witness.hit(now, self.kept.bytes());
        if self.kept.has_ended() {
            return Ok(());
        }
        loop {
            match read(&mut self.from, &mut self.buffer).await {
                Item::Bytes(bytes) => self.witness.hit(now, bytes.len()),
                Item::End => return Ok(()),
                Item::Broken => return Err(Cut),
            }
        }
    }
}

/// The end of the stream has passed.
struct Ended;

async fn read(from: &mut ReadHalf<'_>, buffer: &mut [u8]) -> Item {
    match from.read(buffer).await {
        Ok(0) => Item::End,
        Ok(count) => Item::Bytes(Bytes::copy_from_slice(&buffer[..count])),
        Err(_) => Item::Broken,
    }
}

/// Sends what it may of the front chunk; `None` if nothing may go out.
async fn pass(
    to: &mut WriteHalf<'_>,
    front: Option<&Chunk>,
    terms: Option<Terms>,
) -> Option<io::Result<Passed>> {
    let (chunk, terms) = front.zip(terms)?;
    if let Some(time) = terms.not_before {
        sleep_until(time).await;
    }
    Some(match &chunk.item {
        Item::Bytes(bytes) => to.write(&bytes[..bytes.len().min(terms.bytes_max)]).await.map(Passed::Bytes),
        Item::End => to.shutdown().await.map(|()| Passed::End),
        Item::Broken => Ok(Passed::Broken),
    })
}
