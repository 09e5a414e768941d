//! An open loop: when each order is to be sent, whatever became of those before. Latency counts from that moment, so that a
//! fleet that keeps its clients waiting cannot hide it (no coordinated omission).

use std::{
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc::UnboundedSender;

/// So many orders at a steady rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    pub(super) begins: Instant,
    /// Orders per second.
    pub(super) rate: f64,
    pub(super) orders: u32,
}

impl Schedule {
    /// At this rate for so long, from now on.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` cuts to the bounds")]
    pub(super) fn of(rate: f64, seconds: f64) -> Self {
        let orders = (rate * seconds).round().max(1.0) as u32;
        Self { begins: Instant::now(), rate, orders }
    }

    /// When the order of this number, from 0, is to be sent.
    pub(super) fn intended(&self, number: u32) -> Instant {
        self.begins + Duration::from_secs_f64(f64::from(number) / self.rate)
    }

    /// Hands out each number when its time has come. For a thread of its own: an async timer has steps of a millisecond,
    /// which is what is to be measured.
    pub(super) fn pace(self, numbers: &UnboundedSender<(u32, Instant)>) {
        for number in 0..self.orders {
            let intended = self.intended(number);
            loop {
                let left = intended.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                thread::park_timeout(left);
            }
            if numbers.send((number, intended)).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_spread_evenly_whatever_happens_meanwhile() {
        let schedule = Schedule::of(1_000.0, 2.0);
        assert_eq!(schedule.orders, 2_000);
        let after = |number| schedule.intended(number) - schedule.begins;
        assert_eq!(after(0), Duration::ZERO);
        assert_eq!(after(1), Duration::from_millis(1));
        assert_eq!(after(1_999), Duration::from_millis(1_999));
    }

    #[test]
    fn no_number_comes_before_its_time_and_none_is_left_out() {
        let (sender, mut numbers) = tokio::sync::mpsc::unbounded_channel();
        let schedule = Schedule::of(2_000.0, 0.02);
        schedule.pace(&sender);
        drop(sender);
        let handed: Vec<_> = std::iter::from_fn(|| numbers.blocking_recv()).collect();
        assert_eq!(handed.len(), 40);
        assert!(handed.iter().all(|(number, intended)| *intended == schedule.intended(*number)));
        assert!(schedule.begins.elapsed() >= Duration::from_micros(19_500));
    }
}
