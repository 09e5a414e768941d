//! The faults of a link, as they are written in JSON.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

const WAIT_MS_MAX: u64 = 600_000;

/// What is wrong with a link. It holds for live and for new connections until it is replaced or healed.
///
/// In JSON, `kind` names the fault: `{"kind":"black_hole","direction":"up"}`. Up is towards the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Live connections are reset (RST to both ends), new ones as soon as they are accepted.
    // With braces, since serde lets a variant without them have unknown fields.
    Reset {},
    /// Nothing passes, not even the end of a connection, while connections stay open. After healing all of
    /// it passes, in order.
    BlackHole {
        /// Which way is blocked; both ways if left out.
        #[serde(default)]
        direction: Direction,
    },
    /// Everything passes later than it came, in order, the end of a connection too.
    Delay {
        /// Milliseconds each way, up to 10 minutes. At most 256 KiB are under way per connection and
        /// direction, so it bounds the throughput as well.
        delay_ms: u64,
    },
    /// The receiving end reads the end of the stream, and what the sender still sends is thrown away. The
    /// other direction goes on. Healing does not mend such a connection.
    HalfClose {
        /// `up`: the target reads the end. `down`: the client does.
        direction: Direction,
    },
    /// Requests pass. The first bytes of a reply doom their connection: from then on everything the target
    /// sends is thrown away, and after a while both ends are reset, healed or not.
    DropReplies {
        /// Milliseconds from the first bytes thrown away to the reset, up to 10 minutes; 0 if left out.
        #[serde(default)]
        close_after_ms: u64,
    },
    /// Everything passes in small pieces, each way at this rate.
    Trickle {
        /// Bytes per second, at least 1.
        bytes_per_s: NonZeroU32,
    },
}

/// A way through a link, or both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the client to the target.
    Up,
    /// From the target to the client.
    Down,
    /// Both ways.
    #[default]
    Both,
}

impl Fault {
    /// The names of all kinds, as `kind` spells them.
    pub const KINDS: [&str; 6] = ["reset", "black_hole", "delay", "half_close", "drop_replies", "trickle"];

    /// Parses a fault, such as `{"kind":"delay","delay_ms":50}`.
    ///
    /// # Errors
    /// Says what is wrong and what would be right.
    pub fn from_json(text: &[u8]) -> Result<Self, FaultError> {
        let fault: Self = serde_json::from_slice(text).map_err(|error| FaultError(error.to_string()))?;
        fault.check()?;
        Ok(fault)
    }

    /// The name of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Reset {} => "reset",
            Self::BlackHole { .. } => "black_hole",
            Self::Delay { .. } => "delay",
            Self::HalfClose { .. } => "half_close",
            Self::DropReplies { .. } => "drop_replies",
            Self::Trickle { .. } => "trickle",
        }
    }

    /// Whether it holds back what goes this way.
    pub(super) fn withholds(&self, way: Direction) -> bool {
        matches!(self, Self::BlackHole { direction } if direction.covers(way))
    }

    /// How much later than it came a byte may pass.
    pub(super) fn delay(&self) -> Duration {
        match self {
            Self::Delay { delay_ms } => Duration::from_millis(*delay_ms),
            _ => Duration::ZERO,
        }
    }

    fn check(&self) -> Result<(), FaultError> {
        let (field, wait_ms) = match self {
            Self::Delay { delay_ms } => ("delay_ms", *delay_ms),
            Self::DropReplies { close_after_ms } => ("close_after_ms", *close_after_ms),
            _ => return Ok(()),
        };
        if wait_ms > WAIT_MS_MAX {
            return Err(FaultError(format!("{field}: must be at most {WAIT_MS_MAX}, got {wait_ms}")));
        }
        Ok(())
    }
}

impl Direction {
    pub(super) fn covers(self, way: Self) -> bool {
        self == Self::Both || self == way
    }

    pub(super) fn opposite(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
            Self::Both => Self::Both,
        }
    }
}

/// Why a fault was refused; the text says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FaultError(String);
