//! The shipped rules, and a copy of them for those who cannot wait.

use crate::read;

pub(crate) const SHIPPED: &str = "observability/prometheus/alerts.yml";
const SHORT_FOR: &str = "2s";
const SHORT_WINDOW: &str = "20s";

/// The shipped rules, but every `for` is two seconds and every window or offset 20 seconds. Nothing else is changed.
pub(crate) fn shortened() -> String {
    read(SHIPPED).lines().map(|line| shorten(line) + "\n").collect()
}

/// The alerts of the shipped rules, in their order.
pub(crate) fn alerts() -> Vec<String> {
    values("- alert: ")
}

/// What follows this in the lines of the shipped rules.
pub(crate) fn values(key: &str) -> Vec<String> {
    read(SHIPPED).lines().filter_map(|line| line.trim().strip_prefix(key)).map(str::to_owned).collect()
}

fn shorten(line: &str) -> String {
    match line.split_once("for: ") {
        Some((indent, length)) if indent.trim().is_empty() && is_duration(length) => {
            format!("{indent}for: {SHORT_FOR}")
        }
        _ => with_short_windows(line),
    }
}

/// A window is `[5m]` or `offset 5m`; what else is in brackets belongs to a pattern.
fn with_short_windows(line: &str) -> String {
    let (mut short, mut rest) = (String::new(), line);
    while let Some(at) = ["[", "offset "].iter().filter_map(|mark| Some(rest.find(mark)? + mark.len())).min()
    {
        let (before, after) = rest.split_at(at);
        let end = after.find(|character: char| !character.is_ascii_alphanumeric()).unwrap_or(after.len());
        let (word, behind) = after.split_at(end);
        short.push_str(before);
        short.push_str(if is_duration(word) { SHORT_WINDOW } else { word });
        rest = behind;
    }
    short + rest
}

fn is_duration(text: &str) -> bool {
    let number = text.strip_suffix(['s', 'm', 'h', 'd']).unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[test]
fn only_waits_and_windows_are_shortened() {
    let shortened = [
        ("        for: 15m", "        for: 2s"),
        (
            "increase(a[5m]) > 0 or (a unless present_over_time(a[1d] offset 2h)) > 0",
            "increase(a[20s]) > 0 or (a unless present_over_time(a[20s] offset 20s)) > 0",
        ),
        (r#"a{queue!~"(wait|dead)[.].+"} > 60"#, r#"a{queue!~"(wait|dead)[.].+"} > 60"#),
        ("summary: Orders wait for: 5m", "summary: Orders wait for: 5m"),
    ];
    for (line, wanted) in shortened {
        assert_eq!(shorten(line), wanted);
    }
}
