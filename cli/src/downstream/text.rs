//! Plan and report of a check, for people.

use std::fmt::Write as _;

use orderfleet_operations::conformance::{Exchange, Plan, Report, RuleReport, Verdict};

use crate::output::{table, visible};

const HEADER: &[&str] = &["RULE", "VERDICT", "FOUND", "TOOK"];
/// So that a line of the table has 80 columns.
const FOUND_CHARS_MAX: usize = 44;
const KEY_CHARS_MAX: usize = 40;

/// What is going to happen.
pub(super) fn plan(plan: &Plan) -> String {
    let Plan { url, account, step, order_lines, order_ids, instances, races, rules, skipped } = plan;
    let mut text = format!(
        "check of {url}\n\
         \x20 {} rules, {instances} step instances ({races} of them for races), all undone again\n\
         \x20 step {step}, account {account}, an order of {order_lines} line{}, once stretched to 2,000\n\
         \x20 order ids begin with {order_ids}; another run has others",
        rules.len(),
        if *order_lines == 1 { "" } else { "s" },
    );
    if !skipped.is_empty() {
        let _ = write!(text, "\n  not checked: {}", skipped.join(", "));
    }
    text
}

/// What was found: a table of all rules, then every failure and warning with its calls, then the sum.
pub(super) fn report(report: &Report) -> String {
    let mut text = table(HEADER, report.rules.iter().map(row));
    for rule in &report.rules {
        if matches!(rule.verdict, Verdict::Failed | Verdict::Warning) {
            text.push_str("\n\n");
            text.push_str(&details(rule));
        }
    }
    text.push_str("\n\n");
    text.push_str(&sum(report));
    text
}

fn row(rule: &RuleReport) -> Vec<String> {
    let found = rule.found.as_deref().unwrap_or_default();
    let took = format!("{}ms", rule.took_ms);
    vec![rule.rule.to_owned(), rule.verdict.as_str().to_owned(), short(found, FOUND_CHARS_MAX), took]
}

fn details(rule: &RuleReport) -> String {
    let mut text = format!("{} {} (docs/DOWNSTREAM.md: {})", rule.rule, rule.verdict.as_str(), rule.section);
    let lines = [("expected", Some(rule.expected)), ("found", rule.found.as_deref()), ("mend", rule.mend)];
    for (name, value) in lines {
        if let Some(value) = value {
            let _ = write!(text, "\n  {name:8}  {}", visible(value));
        }
    }
    for exchange in &rule.exchanges {
        let _ = write!(text, "\n  {:8}  {}", "sent", sent(exchange));
        let _ = write!(text, "\n  {:8}  {}", "answered", answered(exchange));
    }
    text
}

fn sent(exchange: &Exchange) -> String {
    let Exchange { method, instance, astray, key, fence, body, .. } = exchange;
    let mut text = method.clone();
    let _ = match astray {
        Some(part) => write!(text, " {part}/{instance}"),
        None => write!(text, " {instance}"),
    };
    if let Some(key) = key {
        let _ = write!(text, ", key {}", short(key, KEY_CHARS_MAX));
    }
    if let Some(fence) = fence {
        let _ = write!(text, ", fence {fence}");
    }
    if let Some(body) = body {
        let _ = write!(text, ", {body}");
    }
    text
}

fn answered(exchange: &Exchange) -> String {
    let status = exchange.status.map(|status| format!("{status} ")).unwrap_or_default();
    format!("{status}{} ({} ms)", visible(&exchange.answer), exchange.took_ms)
}

fn sum(report: &Report) -> String {
    let counts = &report.counts;
    let mut text = format!(
        "{} rules: {} passed, {} failed, {} warnings, {} skipped\n{} step instances, {} calls",
        report.rules.len(),
        counts.passed,
        counts.failed,
        counts.warnings,
        counts.skipped,
        report.instances,
        report.calls,
    );
    if report.left_behind.is_empty() {
        text.push_str("; all undone, as far as the service tells");
    } else {
        text.push_str("; these could not be undone:");
        for left in &report.left_behind {
            let _ = write!(text, "\n  {}: {}", left.instance, visible(&left.why));
        }
    }
    let _ = write!(text, "\nits own books must show nothing left of orders {}…", report.order_ids);
    text
}

fn short(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    text.chars().take(chars_max - 1).chain(['…']).collect()
}
