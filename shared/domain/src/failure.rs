//! What a failure is, as far as it can be told from another one: the fingerprint that failures alike have in common.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    StepName,
    ids::{IdError, OrderId, base32, digest, text_id},
    saga::CauseClass,
};

/// With the version of the normal form in it: another version is another fingerprint for every failure, so that two builds
/// never tell different failures by the same one.
const DOMAIN: &str = "orderfleet/failure/1";
const FINGERPRINT_CHARS: usize = 16;
const FINGERPRINT_BYTES: usize = 10;
/// Longest answer that is kept with a failure.
const ANSWER_CHARS_MAX: usize = 512;
const NORMAL_CHARS_MAX: usize = 256;
const NUMBER: &str = "<n>";
const ID: &str = "<id>";
const TEXT: &str = "<text>";

text_id! {
    /// 16 characters of lower-case base32: SHA-256, cut to 10 bytes, over `"orderfleet/failure/1"` and the length-prefixed
    /// step (empty where none is known), class and normal form of the answer.
    ///
    /// It is the same for every order, worker and build that meets the failure. It is no secret and proves nothing.
    FailureFingerprint, "failure fingerprint", "16 characters of a-z and 2-7",
    |text| text.len() == FINGERPRINT_CHARS && text.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b))
}

/// Why something ended as a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The step it happened at, where that is known.
    pub step: Option<StepName>,
    /// What kind of failure.
    pub class: FailureClass,
    /// The downstream's own word for it, such as `out_of_stock`.
    pub code: Option<String>,
    answer: String,
}

/// Kinds of failure that end as a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// The order's run was given up for this cause.
    Run(CauseClass),
    /// The order waits for a person: an undo was refused for good.
    Held,
    /// Workers crashed or panicked over the message.
    Crashed,
    /// No worker can work with the message.
    Unreadable,
    /// Another body was posted under the order's key before.
    Conflict,
    /// Nothing tells.
    Unknown,
}

impl Failure {
    /// A failure with the downstream's answer, or the reason that a worker gave: control characters become blanks, and
    /// what is longer than 512 characters is cut.
    #[must_use]
    pub fn new(step: Option<StepName>, class: FailureClass, code: Option<String>, answer: &str) -> Self {
        let answer = answer.chars().map(|c| if c.is_control() { ' ' } else { c });
        Self { step, class, code, answer: answer.take(ANSWER_CHARS_MAX).collect() }
    }

    /// The downstream's answer, or the reason that a worker gave.
    #[must_use]
    pub fn answer(&self) -> &str {
        &self.answer
    }

    /// What failures alike have in common. A downstream's code counts as the beginning of its answer.
    #[must_use]
    pub fn fingerprint(&self) -> FailureFingerprint {
        let told = match &self.code {
            Some(code) => format!("{code}: {}", self.answer),
            None => self.answer.clone(),
        };
        let step = self.step.as_ref().map_or("", StepName::as_str);
        let hash = digest(DOMAIN, &[step, self.class.as_str(), &normalise(&told)]);
        FailureFingerprint(base32(&hash[..FINGERPRINT_BYTES]))
    }
}

impl FailureClass {
    /// Every class.
    pub const ALL: [Self; 11] = [
        Self::Run(CauseClass::Refused),
        Self::Run(CauseClass::Cancelled),
        Self::Run(CauseClass::AttemptsExhausted),
        Self::Run(CauseClass::DeadlinePassed),
        Self::Run(CauseClass::Tombstone),
        Self::Run(CauseClass::Discarded),
        Self::Held,
        Self::Crashed,
        Self::Unreadable,
        Self::Conflict,
        Self::Unknown,
    ];

    /// The word stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run(class) => class.as_str(),
            Self::Held => "held",
            Self::Crashed => "crashed",
            Self::Unreadable => "unreadable",
            Self::Conflict => "conflict",
            Self::Unknown => "unknown",
        }
    }

    /// The class of a word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }
}

/// An answer without what differs from order to order: case, blanks and control characters are folded; quoted texts become
/// `<text>`; UUIDs and order ids become `<id>`; every other word with a digit in it (numbers, times, hex, keys) becomes `<n>`.
/// At most 256 characters. The same for every build that makes the same fingerprints.
#[must_use]
pub fn normalise(answer: &str) -> String {
    let folded: Vec<char> = answer
        .chars()
        .take(ANSWER_CHARS_MAX * 2)
        .map(|c| if c.is_control() || c.is_whitespace() { ' ' } else { c })
        .flat_map(char::to_lowercase)
        .collect();
    let mut normal = Normal::default();
    let mut rest = folded.as_slice();
    while let Some(&first) = rest.first() {
        let taken = if let Some(length) = quoted(rest, normal.last) {
            normal.push(TEXT);
            length
        } else if first.is_alphanumeric() {
            let length = word(rest);
            normal.word(&rest[..length]);
            length
        } else {
            normal.other(first);
            1
        };
        normal.last = Some(rest[taken - 1]);
        rest = &rest[taken..];
    }
    normal.text.trim_end().chars().take(NORMAL_CHARS_MAX).collect()
}

/// A normal form under way.
#[derive(Default)]
struct Normal {
    text: String,
    /// The last character of what was taken.
    last: Option<char>,
}

impl Normal {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Blanks in a row are one, and none stands at the beginning.
    fn other(&mut self, c: char) {
        let redundant = c == ' ' && (self.text.is_empty() || self.text.ends_with(' '));
        if !redundant {
            self.text.push(c);
        }
    }

    /// A word and what hangs together with it by hyphens.
    fn word(&mut self, word: &[char]) {
        let text: String = word.iter().collect();
        if is_uuid(&text) || text.parse::<OrderId>().is_ok() {
            return self.push(ID);
        }
        for (place, part) in text.split('-').enumerate() {
            if place > 0 {
                self.text.push('-');
            }
            // Article numbers, keys and times differ from order to order, with letters in them or without.
            self.push(if part.bytes().any(|b| b.is_ascii_digit()) { NUMBER } else { part });
        }
    }
}

/// Length of the quoted text that begins here, quotes included. A quote that stands in a word, as an apostrophe does, begins
/// none, nor does one that is never closed.
fn quoted(rest: &[char], before: Option<char>) -> Option<usize> {
    let close = match rest[0] {
        quote @ ('"' | '\'' | '`') => quote,
        '\u{201c}' | '\u{201e}' => '\u{201d}',
        '\u{2018}' => '\u{2019}',
        '\u{ab}' => '\u{bb}',
        _ => return None,
    };
    if before.is_some_and(char::is_alphanumeric) {
        return None;
    }
    let closes = |place: usize| {
        let after = rest.get(place + 1);
        rest[place] == close && !after.is_some_and(|c| c.is_alphanumeric())
    };
    (1..rest.len()).find(|place| closes(*place)).map(|place| place + 1)
}

/// Length of the word that begins here: letters and digits, hyphens between them, and what separates the digits of a number.
fn word(rest: &[char]) -> usize {
    let (mut length, mut is_number) = (1, rest[0].is_ascii_digit());
    while let Some(&c) = rest.get(length) {
        let next = rest.get(length + 1);
        let before = rest[length - 1];
        if c.is_alphanumeric() {
            // After a hyphen a number may begin.
            is_number = (is_number || before == '-') && c.is_ascii_digit();
        } else if c == '-' && next.is_some_and(|c| c.is_alphanumeric()) {
            is_number = false;
        } else if !(is_number && is_separator(c) && next.is_some_and(char::is_ascii_digit)) {
            break;
        }
        length += 1;
    }
    length
}

/// Stands between the digits of a decimal, a time, an IP address or a port.
fn is_separator(c: char) -> bool {
    matches!(c, '.' | ',' | ':')
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = "eu1-vqhnbfvs-dw3nwqzm4jeqqutrep4bxjfyvskigkny";

    fn failure(step: &str, class: FailureClass, answer: &str) -> Failure {
        Failure::new(Some(step.parse().unwrap()), class, None, answer)
    }

    const EXHAUSTED: FailureClass = FailureClass::Run(CauseClass::AttemptsExhausted);

    #[test]
    fn what_differs_from_order_to_order_is_left_out() {
        let cases = [
            ("503 Service Unavailable", "<n> service unavailable"),
            ("  No\tanswer\n in  2000 ms ", "no answer in <n> ms"),
            ("no answer in 1.5s", "no answer in <n>"),
            ("connect to 10.0.0.17:8080 failed", "connect to <n> failed"),
            ("at 2026-01-02T03:04:05.678Z", "at <n>-<n>-<n>:<n>"),
            ("country 'IE' is not served", "country <text> is not served"),
            ("country \u{201c}IE\u{201d}, \"GB\"", "country <text>, <text>"),
            ("can't reach the carrier's 'dock'", "can't reach the carrier's <text>"),
            ("an 'open end", "an 'open end"),
            ("id 550E8400-e29b-41d4-a716-446655440000!", "id <id>!"),
            ("commit deadbeef01 at 0x7ffe", "commit <n> at <n>"),
            ("key pay_1A2b3C4d5E6f7 refused", "key pay_<n> refused"),
            ("shop-12 has sku 85123A", "shop-<n> has sku <n>"),
            ("decade and facade", "decade and facade"),
            ("Zürich/Straße 5", "zürich/straße <n>"),
            ("", ""),
            ("\u{7}\u{1b}[2J", "[<n>"),
        ];
        for (answer, normal) in cases {
            assert_eq!(normalise(answer), normal, "{answer:?}");
        }
        assert_eq!(normalise(&format!("{ORDER}.1.inventory gone")), "<id>.<n>.inventory gone");
        assert_eq!(normalise(&"x ".repeat(10_000)).chars().count(), NORMAL_CHARS_MAX);
    }

    #[test]
    fn a_normal_form_stays_as_it_is() {
        for text in ["<n> service unavailable", "id <id>, <text>!", "a b"] {
            assert_eq!(normalise(text), text);
        }
    }

    /// Computed with Python's hashlib from the description on [`FailureFingerprint`]. Fingerprints are stored: a change of
    /// the normal form needs another version, never other values here.
    #[test]
    fn fingerprints_match_the_published_vectors() {
        let cases = [
            (failure("fulfilment", EXHAUSTED, "503 Service Unavailable"), "syhfgrmrratw5vn7"),
            (failure("inventory", FailureClass::Held, "in_use: 'B 7' is in use"), "pw6ft62upab2xm5h"),
            (Failure::new(None, FailureClass::Crashed, None, "crashed workers"), "iytvxsz66rgqvhwv"),
        ];
        for (failure, fingerprint) in cases {
            assert_eq!(failure.fingerprint().as_str(), fingerprint, "{failure:?}");
        }
    }

    #[test]
    fn failures_alike_have_one_fingerprint_and_others_have_others() {
        let one = failure("fulfilment", EXHAUSTED, "country 'IE' is not served (7)");
        let same = failure("fulfilment", EXHAUSTED, "Country 'FR'  is not served (12)");
        assert_eq!(one.fingerprint(), same.fingerprint());
        let others = [
            failure("accounting", EXHAUSTED, one.answer()),
            failure("fulfilment", FailureClass::Run(CauseClass::DeadlinePassed), one.answer()),
            failure("fulfilment", EXHAUSTED, "the carrier is not served"),
            Failure { code: Some("no".into()), ..one.clone() },
            Failure { step: None, ..one.clone() },
        ];
        for other in others {
            assert_ne!(one.fingerprint(), other.fingerprint(), "{other:?}");
        }
    }

    #[test]
    fn an_answer_is_short_and_cannot_drive_a_terminal() {
        let failure = failure("fulfilment", EXHAUSTED, &format!("a\u{1b}[2J\n{}", "x".repeat(9_999)));
        assert!(failure.answer().starts_with("a [2J x"));
        assert_eq!(failure.answer().chars().count(), ANSWER_CHARS_MAX);
    }

    #[test]
    fn a_class_is_known_by_its_word() {
        for class in FailureClass::ALL {
            assert_eq!(FailureClass::of_word(class.as_str()), Some(class));
        }
        assert_eq!(FailureClass::of_word("novel"), None);
    }
}
