//! Shows on stderr how a check goes: a line per rule, and on a terminal a bar.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};
use orderfleet_operations::conformance::{Progress as News, RuleReport, Verdict};

use crate::output::visible;

#[derive(Clone)]
pub(super) struct Progress {
    /// None where stderr is no terminal.
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new(rules: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:10} {pos}/{len} {wide_msg}")
                .expect("the template is constant and well-formed");
            ProgressBar::new(rules).with_style(style)
        });
        Self { bar }
    }

    pub(super) fn tell(&self, news: &News<'_>) {
        match news {
            News::Begins(rule) => self.show(rule.name.to_owned()),
            News::Round { done, of } => self.show(format!("race {done}/{of}")),
            News::Judged(rule) if rule.verdict == Verdict::Skipped => {}
            News::Judged(rule) => {
                self.note(&judged(rule));
                if let Some(bar) = &self.bar {
                    bar.inc(1);
                }
            }
            News::Undoing { instances } => self.note(&format!("undoing {instances} step instances")),
        }
    }

    /// One line for the person.
    pub(super) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn show(&self, text: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(text);
        }
    }
}

fn judged(rule: &RuleReport) -> String {
    let found = rule.found.as_deref().filter(|_| rule.verdict != Verdict::Passed);
    let found = found.map(|found| format!(": {}", visible(found))).unwrap_or_default();
    format!("{:7} {}{found}", rule.verdict.as_str(), rule.rule)
}
