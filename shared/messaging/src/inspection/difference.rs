//! What the broker says of a difference, taken apart as far as it can be.

/// How something declared differs from what is there, as the broker told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The argument that differs.
    pub argument: Option<String>,
    /// Its declared value.
    pub declared: Option<String>,
    /// Its value on the broker.
    pub current: Option<String>,
    /// The broker's own words, from which the rest was read.
    pub text: String,
}

impl Difference {
    /// Reads `… inequivalent arg 'x' for queue 'q' in vhost '/': received … but current is …`, of which long names may have
    /// cut the end: the text has at most 255 bytes.
    pub(crate) fn parse(text: &str) -> Self {
        let argument = text.split_once("inequivalent arg '").and_then(|(_, rest)| rest.split_once('\''));
        let received = text.split_once(": received ").map(|(_, rest)| rest);
        let (declared, current) = match received.map(|rest| rest.split_once(" but current is ")) {
            Some(Some((declared, current))) => (value(declared), value(current)),
            _ => (None, None),
        };
        Self { argument: argument.map(|(name, _)| name.to_owned()), declared, current, text: text.to_owned() }
    }
}

/// `'topic'`, `the value '20' of type 'signedint'`, or `none`.
fn value(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text.strip_prefix("the value ").unwrap_or(text);
    let value = match text.strip_prefix('\'') {
        Some(quoted) => {
            quoted.split_once("' of type").map_or(quoted.trim_end_matches('\''), |(value, _)| value)
        }
        None => text,
    };
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argument_and_values_are_read_from_the_brokers_words() {
        let begin = "PRECONDITION_FAILED - inequivalent arg";
        for (rest, expected) in [
            (
                "'x-delivery-limit' for queue 'orders.retry' in vhost '/': received '20' but current is '7'",
                (Some("x-delivery-limit"), Some("20"), Some("7")),
            ),
            (
                "'x-overflow' for queue 'q' in vhost 'v': received the value 'reject-publish' of type 'longstr' but current is none",
                (Some("x-overflow"), Some("reject-publish"), Some("none")),
            ),
            (
                "'type' for exchange 'orders' in vhost '/': received 'topic' but current is 'fanout'",
                (Some("type"), Some("topic"), Some("fanout")),
            ),
            ("'x-overflow' for queue 'very-long", (Some("x-overflow"), None, None)),
            (" is nothing we know", (None, None, None)),
        ] {
            let text = format!("{begin} {rest}");
            let Difference { argument, declared, current, text: kept } = Difference::parse(&text);
            assert_eq!((argument.as_deref(), declared.as_deref(), current.as_deref()), expected);
            assert_eq!(kept, text);
        }
    }
}
