//! What is told of a delivery on its way: measures, alarms, a line in the log. Nothing is decided here.

use orderfleet_domain::{
    CommandKind,
    saga::{CallOutcome, Ending, Lane, Millis, Phase},
};
use orderfleet_messaging::Delivery;

use super::{Way, now};

/// Every so many uncharged waits in a row of an order are told: some ten minutes, as none is longer than 30 s.
const WAITS_ALARM: u32 = 20;

impl Way<'_> {
    /// A delivery is about to be acked.
    pub(super) fn tell(&self, ending: Ending) {
        let order_id = self.handling.order_id();
        self.alarm(ending);
        self.measure_order(ending);
        match ending {
            Ending::Finished => tracing::debug!(order.id = %order_id, "finished"),
            other => tracing::info!(order.id = %order_id, ending = other.as_str(), "delivery handled"),
        }
    }

    /// Measures what the last write has changed, once that is known to be committed.
    pub(super) fn measure_write(&mut self) {
        let Some(record) = self.handling.record() else { return };
        if let Some(written) = self.written.take_if(|written| written.by == record.nonce) {
            self.ended = self.driver.meters.committed(&written, record).or(self.ended);
        }
    }

    /// How long an order took, if it has ended by this delivery and the event of it is out. Of first runs alone: when a further one
    /// begins is for people to decide.
    fn measure_order(&self, ending: Ending) {
        let command = &self.handling.delivered().command;
        let is_first_run = self.handling.record().is_some_and(|record| record.generation == 1);
        let Some(outcome) = self.ended.filter(|_| ending == Ending::Finished && is_first_run) else { return };
        let accepted_at = match (&self.at_hand, &command.kind) {
            (Some(at_hand), _) => at_hand.accepted_at,
            (None, CommandKind::Place { accepted_at, .. }) => *accepted_at,
            _ => return,
        };
        self.driver.meters.told(outcome, now() - accepted_at.as_millisecond());
    }

    /// An undo is tried without end, and so is a step that cannot even be sent, but not in silence.
    fn alarm(&self, ending: Ending) {
        let Some(record) = self.handling.record().filter(|record| !record.phase.is_terminal()) else {
            return;
        };
        let step = record.step(record.cur);
        let is_stuck = ending == Ending::Deferred && !self.is_paused;
        if is_stuck && record.waits > 0 && record.waits.is_multiple_of(WAITS_ALARM) {
            metrics::counter!("orderfleet_wait_alarms_total", "step" => step.to_string()).increment(1);
            tracing::warn!(order.id = %self.handling.order_id(), saga.step = %step, waits = record.waits, "a step cannot be sent and waits on");
        }
        let keeps_failing = record.phase == Phase::Comp;
        if keeps_failing
            && self.driver.policy.step(step).is_some_and(|settings| record.att >= settings.attempts_max)
        {
            metrics::counter!("orderfleet_undo_alarms_total", "step" => step.to_string()).increment(1);
            tracing::error!(order.id = %self.handling.order_id(), saga.step = %step, attempts = record.att, "an undo keeps failing");
        }
    }
}

/// How long a delivery waited in its lane. One that was delivered before has waited in hands as well, and is not told. Messages of
/// older builds say at most when they were accepted, which for new ones is when their wait began.
pub(super) fn waited(delivery: &Delivery, kind: Option<&CommandKind>) -> Option<Millis> {
    let since = match (delivery.ready_at, &delivery.lane) {
        (None, Lane::New(_)) => kind.and_then(accepted_at),
        (ready_at, _) => ready_at,
    };
    since.filter(|_| !delivery.redelivered).map(|since| now() - since)
}

fn accepted_at(kind: &CommandKind) -> Option<Millis> {
    match kind {
        CommandKind::Place { accepted_at: at, .. } | CommandKind::Cancel { requested_at: at } => {
            Some(at.as_millisecond())
        }
        _ => None,
    }
}

pub(super) fn lane_label(delivery: &Delivery) -> &'static str {
    match delivery.lane {
        Lane::New(_) => "new",
        Lane::Retry => "retry",
        Lane::Replay => "replay",
        Lane::Compensate(_) => "compensate",
        Lane::Quarantine => "quarantine",
    }
}

pub(crate) fn outcome_label(outcome: &CallOutcome) -> &'static str {
    match outcome {
        CallOutcome::Success { .. } => "success",
        CallOutcome::Refused { .. } => "refused",
        CallOutcome::Cancelled => "cancelled",
        CallOutcome::Unknown { .. } => "unknown",
        CallOutcome::NotSent { .. } => "not_sent",
    }
}
