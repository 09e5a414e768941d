//! A dead letter as text for people.

use std::fmt::Display;

use jiff::Timestamp;
use orderfleet_operations::dead_letters::{OrderStanding, Shown, Skipped, Standing};
use orderfleet_storage::{Attempt, Letter};

use super::super::list::state;
use super::super::selection::place;
use crate::orders::time::age;
use crate::output::visible;

/// Sections with a line per fact, the most telling first.
pub(super) fn text(shown: &Shown) -> String {
    let mut lines = Lines::default();
    lines.letter(&shown.letter);
    lines.attempts("attempts", &shown.letter.attempts);
    lines.order(&shown.order);
    if shown.is_corrected {
        lines.fact("corrected", "a person has corrected the order for its next run");
    }
    lines.section("message");
    lines.block(&pretty(&shown.message));
    for (name, value) in &shown.headers {
        lines.fact(name, value);
    }
    if let Some(revealed) = &shown.revealed {
        lines.section("message, with personal data");
        lines.block(&pretty(revealed));
    }
    if !shown.others.is_empty() {
        lines.section("other dead letters of the order");
        for other in &shown.others {
            let failure =
                format!("{} {}, {}", place(&other.queue, other.step.as_ref()), other.class, state(other));
            lines.fact(&other.id, failure);
        }
    }
    lines.0
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn letter(&mut self, letter: &Letter) {
        self.section(&format!("dead letter {}", letter.id));
        let step = letter.step.as_ref().map(|step| format!(" at {step}")).unwrap_or_default();
        self.fact("failed", format!("{}{step}", letter.class));
        self.known("code", letter.code.as_ref());
        self.fact("answer", &letter.answer);
        if letter.reason != letter.answer {
            self.fact("reason", &letter.reason);
        }
        self.fact("fingerprint", &letter.fingerprint);
        self.fact("queue", letter.queue_name());
        self.fact("state", standing(letter));
        self.known("order", letter.order_id.as_ref());
        self.known("account", letter.account.as_ref());
        self.known("run", letter.generation.as_ref());
        self.known("build", letter.build.as_ref());
        self.known("trace", letter.trace_id.as_ref());
        self.fact("parked", ago(letter.first_seen));
        if letter.seen > 1 {
            self.fact("arrived", format!("{} times, last {}", letter.seen, ago(letter.last_seen)));
        }
    }

    fn attempts(&mut self, title: &str, attempts: &[Attempt]) {
        if attempts.is_empty() {
            return;
        }
        self.section(title);
        for Attempt { at, what, step, detail } in attempts {
            let step = step.as_ref().map(|step| format!(" {step}")).unwrap_or_default();
            let detail = detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
            self.fact(&at.to_string(), format!("{what}{step}{detail}"));
        }
    }

    fn order(&mut self, standing: &Standing) {
        match standing {
            Standing::Known(order) => self.known_order(order),
            Standing::Unknown(why) => {
                self.section("order");
                self.fact(
                    "status",
                    match why {
                        Skipped::NoOrder => "the dead letter does not tell which order it is about",
                        Skipped::NoDocument => "no worker has stored it: this message is all there is of it",
                        Skipped::UnreadableDocument => "its document cannot be read by this build",
                    },
                );
            }
        }
    }

    fn known_order(&mut self, order: &OrderStanding) {
        self.section(&format!("order {}", order.order_id));
        let last = if order.is_final { ", for good" } else { "" };
        self.fact("status", format!("{} in run {}{last}", order.status, order.generation));
        let steps = order.steps.iter().map(|known| {
            let state = known.state.map_or_else(|| "-".to_owned(), |state| word(&state));
            format!("{} {state}", known.step)
        });
        self.fact("steps", steps.collect::<Vec<_>>().join(", "));
        self.known("held", order.hold.as_ref());
        if let Some(cause) = &order.cause {
            let code = cause.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
            let (class, step) = (cause.class.as_str(), &cause.step);
            self.fact("cause", format!("{class} at {step}{code}: {}", cause.message));
        }
        if order.cancel_requested {
            self.fact("cancel", "requested");
        }
        if order.conflicts > 0 {
            self.fact("conflicts", order.conflicts);
        }
        self.fact("accepted", ago(order.accepted_at));
        self.fact("stored", ago(order.created_at));
        self.fact("written", ago(order.updated_at));
        self.attempts("history", &order.history);
    }

    fn section(&mut self, title: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(&visible(title));
        self.0.push('\n');
    }

    fn fact(&mut self, name: &str, value: impl Display) {
        let line = format!("  {:<13}{}", visible(name), visible(&format!(" {value}")));
        self.0.push_str(line.trim_end());
        self.0.push('\n');
    }

    fn known<T: Display>(&mut self, name: &str, value: Option<&T>) {
        if let Some(value) = value {
            self.fact(name, value);
        }
    }

    fn block(&mut self, text: &str) {
        for line in text.lines() {
            self.0.push_str(&format!("  {}\n", visible(line)));
        }
    }
}

fn standing(letter: &Letter) -> String {
    match (&letter.ended, &letter.lease) {
        (Some(ended), _) => {
            format!("{} by {} {}: {}", ended.how.as_str(), ended.by, ago(ended.at), ended.why)
        }
        (None, Some(lease)) if lease.until > Timestamp::now() => {
            format!("in the hands of {} until {}", lease.holder, lease.until)
        }
        _ => "open".into(),
    }
}

fn ago(at: Timestamp) -> String {
    format!("{} ago, {at}", age(at, Timestamp::now()))
}

fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Strings in it have their control characters escaped.
fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}
