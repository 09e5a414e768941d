//! Shows how a load goes, on stderr: a bar on a terminal, else a line every few seconds.

use std::cell::{Cell, RefCell};
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::tally::Tally;

const BAR_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);
const ERRORS_SHOWN_MAX: u32 = 20;

pub(crate) struct Progress {
    /// None where stderr is no terminal.
    bar: Option<ProgressBar>,
    errors_shown: Cell<u32>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:10} {wide_msg}")
                .expect("the template is constant and well-formed");
            ProgressBar::new(0).with_style(style)
        });
        Self { bar, errors_shown: Cell::new(0) }
    }

    /// One line for the person.
    pub(crate) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// A note about one order; of many, only the first are shown.
    pub(crate) fn error(&self, text: &str) {
        let shown = self.errors_shown.get() + 1;
        self.errors_shown.set(shown.min(ERRORS_SHOWN_MAX + 1));
        match shown.cmp(&(ERRORS_SHOWN_MAX + 1)) {
            std::cmp::Ordering::Less => self.note(&format!("error: {text}")),
            std::cmp::Ordering::Equal => self.note("further errors are only counted"),
            std::cmp::Ordering::Greater => {}
        }
    }

    /// Shows `tally` again and again; never ends by itself.
    pub(crate) async fn show(&self, tally: &RefCell<Tally>) -> std::convert::Infallible {
        let every = if self.bar.is_some() { BAR_EVERY } else { LINE_EVERY };
        let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
        loop {
            ticks.tick().await;
            self.draw(&tally.borrow());
        }
    }

    fn draw(&self, tally: &Tally) {
        let (position, length, text) = if tally.is_posting() { posting(tally) } else { waiting(tally) };
        let text = format!("{position}/{length} {text}");
        match &self.bar {
            Some(bar) => {
                bar.update(|state| {
                    state.set_len(length);
                    state.set_pos(position);
                });
                bar.set_message(text);
            }
            None => eprintln!("{text}"),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Short enough for 80 columns while nothing goes wrong.
fn posting(tally: &Tally) -> (u64, u64, String) {
    let rate = tally.rate_per_s();
    let position = tally.answers() + tally.given_up();
    let mut text = format!(
        "accepted {} refused {} {rate:.0}/s p50/p99 {:.1}/{:.1} ms eta {}",
        tally.accepted,
        tally.refused_total(),
        tally.latency_ms(0.5),
        tally.latency_ms(0.99),
        eta(tally.orders - position, rate),
    );
    for (name, count) in [("errors", tally.errors), ("repeats", tally.retried), ("late", tally.late)] {
        if count > 0 {
            text.push_str(&format!(" {name} {count}"));
        }
    }
    (position, tally.orders, text)
}

fn waiting(tally: &Tally) -> (u64, u64, String) {
    let text = format!("terminal: done {} undone {} held {}", tally.done, tally.undone, tally.held);
    (tally.terminal(), tally.accepted, text)
}

#[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
fn eta(left: u64, rate_per_s: f64) -> String {
    if rate_per_s < 0.1 { "?".to_owned() } else { format!("{:.0}s", left as f64 / rate_per_s) }
}
