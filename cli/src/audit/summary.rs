//! The balance for people.

use std::fmt::Write as _;

use orderfleet_operations::audit::{Class, EventCounts, LogSeen, Report};

use crate::orders::time::shown;
use crate::output::{self, visible};

const LOGS: [&str; 5] = ["LOG", "LINES", "MALFORMED", "FIRST", "LAST"];

pub(super) fn table(report: &Report) -> String {
    let mut text = String::new();
    let mut row = |name: &str, count: u64, more: &str| {
        let row = format!("{name:<15} {count:>11}  {more}");
        // A String takes everything.
        let _ = writeln!(text, "{}", row.trim_end());
    };
    row("accepted", report.accepted, &beside(report));
    for class in Class::ALL {
        let count = report.of(class);
        if count > 0 || class != Class::Unreadable {
            row(&class.as_str().replace('_', " "), count, &more(report, class));
        }
    }
    if report.malformed > 0 {
        row("malformed", report.malformed, "lines that are no acceptances");
    }
    if let Some(EventCounts { completed, cancelled, failed, published }) = report.events {
        let more =
            format!("{completed} completed, {cancelled} cancelled, {failed} failed; {published} published");
        row("events", completed + cancelled + failed, &more);
    }
    for line in &report.malformed_lines {
        let _ = writeln!(text, "malformed: {}:{} {}", visible(&line.log), line.line, line.why);
    }
    let logs = table_of(&report.logs);
    let _ = write!(text, "\n{logs}\n\n");
    for spot in &report.cannot_see {
        let _ = writeln!(text, "cannot see: {}", visible(spot));
    }
    text
}

/// Where the other lines went.
fn beside(report: &Report) -> String {
    let counts = [(report.repeated, "accepted again"), (report.outside, "outside the range")];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    counts.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

fn more(report: &Report, class: Class) -> String {
    match class {
        _ if report.of(class) == 0 => String::new(),
        Class::Held | Class::Parked => "wait for a person".into(),
        Class::NotSeenYet => {
            let oldest = report.oldest_not_seen_yet.map(|at| format!("oldest of {}", shown(at)));
            oldest.unwrap_or_default()
        }
        Class::Unaccounted => {
            "no trace of them: --list unaccounted; post these orders again with the same keys".into()
        }
        Class::Wrong => "another body has their document: --list wrong".into(),
        _ => String::new(),
    }
}

fn table_of(logs: &[LogSeen]) -> String {
    let rows = logs.iter().map(|log| {
        let [first, last] = [log.first, log.last].map(|at| at.map_or_else(|| "-".to_owned(), shown));
        vec![log.log.clone(), log.lines.to_string(), log.malformed.to_string(), first, last]
    });
    output::table(&LOGS, rows)
}
