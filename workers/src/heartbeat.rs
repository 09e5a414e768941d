//! Says every few seconds how this worker is, for whoever looks. No order waits for it, and none fails by it.

use std::{collections::HashMap, fs, pin::pin, process, sync::Arc, time::Duration};

use jiff::Timestamp;
use orderfleet_runtime::build;
use orderfleet_storage::{QueueLoad, Store, WorkerStatus};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::{Role, downstream::Downstreams, load::Load, pauses::Pauses};

const EVERY: Duration = Duration::from_secs(2);
/// Longest wait of a worker that ends for its last heartbeat, and then for its farewell.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a heartbeat is made from.
pub(crate) struct Heart {
    pub(crate) store: Store,
    pub(crate) instance: String,
    pub(crate) roles: Vec<Role>,
    pub(crate) load: Load,
    pub(crate) downstreams: Arc<Downstreams>,
    pub(crate) pauses: Arc<Pauses>,
    pub(crate) draining: CancellationToken,
}

/// Handled totals by queue, and when they were that.
struct Before {
    at: Instant,
    handled: HashMap<String, u64>,
}

impl Heart {
    /// Beats until the token is cancelled, which is to be done once nothing is in hand any more; then the worker is forgotten.
    /// One that is killed is forgotten by the database after a while.
    pub(crate) async fn run(self, ended: CancellationToken) {
        let mut beating = pin!(self.beat(&ended));
        tokio::select! {
            () = &mut beating => {}
            // A heartbeat under way that came to the database after the farewell would undo it.
            () = ended.cancelled() => drop(timeout(FAREWELL, beating).await),
        }
        let _ = timeout(FAREWELL, self.store.forget_worker(&self.instance)).await;
    }

    async fn beat(&self, ended: &CancellationToken) {
        let (host, started_at) = (host(), Timestamp::now());
        let mut before = Before { at: Instant::now(), handled: HashMap::new() };
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = every.tick() => {}
                () = ended.cancelled() => return,
            }
            let status = WorkerStatus {
                instance: self.instance.clone(),
                host: host.clone(),
                pid: process::id(),
                build: build::NAME.clone(),
                roles: self.roles.iter().map(|role| role.as_str().to_owned()).collect(),
                started_at,
                at: Timestamp::now(),
                draining: self.draining.is_cancelled(),
                queues: self.queues(&mut before),
                circuits: self.downstreams.circuits(),
                pauses: self.pauses.targets(),
            };
            if let Err(error) = self.store.beat(&status).await {
                tracing::debug!(%error, "a heartbeat was lost");
            }
        }
    }

    fn queues(&self, before: &mut Before) -> Vec<QueueLoad> {
        let passed = before.at.elapsed().as_secs_f64();
        before.at = Instant::now();
        let mut queues = Vec::new();
        for taken in self.load.queues() {
            let (queue, handled) = (taken.queue.to_string(), taken.handled_total());
            let then = before.handled.insert(queue.clone(), handled).unwrap_or(0);
            let per_second = per_second(handled.saturating_sub(then), passed);
            let (in_hand, taken_age_ms) = (taken.in_hand(), taken.age_ms());
            queues.push(QueueLoad { queue, in_hand, handled, per_second, taken_age_ms });
        }
        queues
    }
}

/// To a tenth.
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds <= 0.0 { 0.0 } else { (count as f64 / seconds * 10.0).round() / 10.0 }
}

/// The machine's name, where it tells.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unknown".into() } else { name.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_told_to_a_tenth_and_is_none_where_no_time_has_passed() {
        assert!((per_second(7, 2.0) - 3.5).abs() < f64::EPSILON);
        assert!((per_second(1, 3.0) - 0.3).abs() < f64::EPSILON);
        assert!(per_second(7, 0.0).abs() < f64::EPSILON);
    }
}
