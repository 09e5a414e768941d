//! Decides by the signal how many workers there should be, beside whoever starts and stops them: a broker or a database that is
//! slow to answer keeps nobody waiting.

use std::convert::Infallible;
use std::time::Duration;

use orderfleet_operations::fleet::Watch;
use orderfleet_operations::scaling::{Decision, Sampler, Scaler, Size};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often it is glanced at the queues while there are no workers: the first order waits for half of it on average.
const GLANCE_EVERY: Duration = Duration::from_millis(200);
/// How often it is looked at everything while there are workers.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// As [`LOOK_EVERY`] while there are none: what the sweeper has to do shows in no queue.
const LOOK_IDLE_EVERY: Duration = Duration::from_secs(2);

/// Decides as long as it is run.
#[derive(Debug)]
pub(super) struct Autoscaler {
    sampler: Sampler,
    scaler: Scaler,
    current: watch::Receiver<u16>,
    decided: watch::Sender<Option<Decision>>,
}

/// What is heard of it, and told to it.
#[derive(Debug)]
pub(super) struct Decisions {
    current: watch::Sender<u16>,
    decided: watch::Receiver<Option<Decision>>,
}

impl Decisions {
    /// Says how many workers there should be by now; the next decision is about these.
    pub(super) fn tell(&self, current: u16) {
        self.current.send_replace(current);
    }

    /// The newest decision.
    pub(super) fn newest(&self) -> Option<Decision> {
        self.decided.borrow().clone()
    }

    /// Waits until there is another one.
    pub(super) async fn changed(&mut self) {
        if self.decided.changed().await.is_err() {
            // Nobody decides any more: what was decided last holds.
            std::future::pending::<()>().await;
        }
    }
}

impl Autoscaler {
    pub(super) fn new(place: Watch, size: Size) -> (Self, Decisions) {
        let (current_sender, current) = watch::channel(0);
        let (decided, decided_receiver) = watch::channel(None);
        let decisions = Decisions { current: current_sender, decided: decided_receiver };
        (Self { sampler: Sampler::new(place), scaler: Scaler::new(size), current, decided }, decisions)
    }

    pub(super) async fn run(mut self) -> Infallible {
        let mut looked: Option<Instant> = None;
        let mut ticks = interval(GLANCE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let workers = *self.current.borrow();
            let every = if workers == 0 { LOOK_IDLE_EVERY } else { LOOK_EVERY };
            let is_due = looked.is_none_or(|looked| looked.elapsed() >= every);
            if !(is_due || workers == 0 && self.sampler.glance().await) {
                continue;
            }
            looked = Some(Instant::now());
            let sample = self.sampler.sample().await;
            self.decided.send_replace(Some(self.scaler.decide(sample.at, &sample.signal, workers)));
        }
    }
}
