//! Shows how an audit goes, on stderr: a bar on a terminal, else a line every few seconds.

use std::cell::RefCell;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use orderfleet_operations::audit::{self, QueueDepth};
use tokio::time::Instant;

const BAR_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);

pub(super) struct Progress {
    seen: Arc<audit::Progress>,
    begun: Instant,
    /// None where stderr is no terminal, or no bar is wanted.
    bar: Option<ProgressBar>,
    waiting: RefCell<Vec<QueueDepth>>,
}

impl Progress {
    pub(super) fn new(seen: Arc<audit::Progress>, has_bar: bool) -> Self {
        let bar = (has_bar && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{bar:10} {wide_msg}")
                .expect("the template is constant and well-formed");
            ProgressBar::new(seen.bytes_total.unwrap_or_default()).with_style(style)
        });
        Self { seen, begun: Instant::now(), bar, waiting: RefCell::default() }
    }

    /// One line for the person.
    pub(super) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Says which queues are waited for, when they are others than before.
    pub(super) fn waiting(&self, queues: &[QueueDepth]) {
        let names =
            |depths: &[QueueDepth]| depths.iter().map(|depth| depth.queue.clone()).collect::<Vec<_>>();
        if names(&self.waiting.borrow()) != names(queues) {
            self.note(&format!("waiting to see these queues empty: {}", names(queues).join(", ")));
            self.waiting.replace(queues.to_vec());
        }
    }

    /// Shows it again and again; never ends by itself.
    pub(super) async fn show(&self) -> std::convert::Infallible {
        let every = if self.bar.is_some() { BAR_EVERY } else { LINE_EVERY };
        let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
        loop {
            ticks.tick().await;
            match &self.bar {
                Some(bar) => {
                    bar.set_position(self.seen.bytes.load(Ordering::Relaxed));
                    bar.set_message(self.text());
                }
                None => eprintln!("{}", self.text()),
            }
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
    fn text(&self) -> String {
        let audit::Progress { lines, bytes, bytes_total, published } = &*self.seen;
        let (lines, bytes) = (lines.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed));
        let seconds = self.begun.elapsed().as_secs_f64().max(0.001);
        let mut text =
            format!("{} lines {:.0}/s {}", HumanCount(lines), lines as f64 / seconds, HumanBytes(bytes));
        if let Some(total) = bytes_total {
            let left = total.saturating_sub(bytes) as f64 * seconds / bytes.max(1) as f64;
            text.push_str(&format!(" of {} eta {left:.0}s", HumanBytes(*total)));
        }
        match published.load(Ordering::Relaxed) {
            0 => text,
            published => format!("{text} {} events", HumanCount(published)),
        }
    }
}
