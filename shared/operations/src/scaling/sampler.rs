//! Looks at a fleet again and again, and remembers what one look alone does not tell.

use tokio::time::Instant;

use super::ages::Ages;
use super::signal::Signal;
use crate::fleet::{FleetStatus, Watch};

/// A place to take the signal from.
#[derive(Debug)]
pub struct Sampler {
    watch: Watch,
    ages: Ages,
    began: Instant,
}

/// One look, and the signal that it gives.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When, on the clock of [`super::Scaler`]: since the sampler was made.
    pub at: std::time::Duration,
    /// The look, at the work alone.
    pub status: FleetStatus,
    /// Its signal.
    pub signal: Signal,
}

impl Sampler {
    /// Takes the signal from this place.
    #[must_use]
    pub fn new(watch: Watch) -> Self {
        Self { watch, ages: Ages::default(), began: Instant::now() }
    }

    /// Looks once. Never fails: what does not answer in its time is unknown.
    pub async fn sample(&mut self) -> Sample {
        // Before the look: what is seen is no younger.
        let at = self.began.elapsed();
        let status = self.watch.look_at_work().await;
        let signal = Signal::of(&status, at, &mut self.ages);
        Sample { at, status, signal }
    }

    /// As [`Watch::glance`].
    pub async fn glance(&mut self) -> bool {
        self.watch.glance().await
    }
}
