//! What a filter expression speaks of, and the values of each.

use std::fmt;

use orderfleet_domain::{failure::FailureClass, saga::Millis};
use orderfleet_storage::{Condition, LetterState, queue_of_word};

const FINGERPRINT_CHARS_MAX: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Queue,
    Fingerprint,
    Step,
    Class,
    Account,
    Build,
    Kind,
    Order,
    Id,
    Age,
    Is,
}

impl Field {
    pub(super) const ALL: [(&'static str, Self); 11] = [
        ("queue", Self::Queue),
        ("fingerprint", Self::Fingerprint),
        ("step", Self::Step),
        ("class", Self::Class),
        ("account", Self::Account),
        ("build", Self::Build),
        ("kind", Self::Kind),
        ("order", Self::Order),
        ("id", Self::Id),
        ("age", Self::Age),
        ("is", Self::Is),
    ];

    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, field)| field)
    }

    pub(super) fn names() -> String {
        Self::ALL.map(|(name, _)| name).join(", ")
    }

    /// The condition that the field has this value.
    pub(super) fn condition(self, text: &str) -> Result<Condition, String> {
        let wrong = |error: &dyn fmt::Display| error.to_string();
        match self {
            Self::Queue => queue_of_word(text)
                .map(Condition::Queue)
                .ok_or_else(|| "expected a step, or poison, held, conflict".into()),
            Self::Fingerprint => fingerprint(text).map(Condition::Fingerprint),
            Self::Step => text.parse().map(Condition::Step).map_err(|error| wrong(&error)),
            Self::Class => class(text).map(Condition::Class),
            Self::Account => text.parse().map(Condition::Account).map_err(|error| wrong(&error)),
            Self::Build => Ok(Condition::Build(text.to_owned())),
            Self::Kind => Ok(Condition::Kind(text.to_owned())),
            Self::Order => text.parse().map(|id| Condition::Order(vec![id])).map_err(|error| wrong(&error)),
            Self::Id => Ok(Condition::Id(vec![text.to_owned()])),
            Self::Is => state(text).map(Condition::State),
            // Read apart, by its own operators.
            Self::Age => Err("expected `>` or `<`".into()),
        }
    }
}

fn fingerprint(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    let is_base32 = text.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b));
    let fits = (1..=FINGERPRINT_CHARS_MAX).contains(&text.len());
    if is_base32 && fits {
        Ok(text)
    } else {
        Err("expected a failure fingerprint, or its beginning: at most 16 of a-z and 2-7".into())
    }
}

fn class(text: &str) -> Result<String, String> {
    let word = text.to_ascii_lowercase();
    let words = || FailureClass::ALL.map(FailureClass::as_str).join(", ");
    match FailureClass::of_word(&word) {
        Some(_) => Ok(word),
        None => Err(format!("expected one of {}", words())),
    }
}

fn state(text: &str) -> Result<LetterState, String> {
    match text.to_ascii_lowercase().as_str() {
        "open" => Ok(LetterState::Open),
        "ended" => Ok(LetterState::Ended),
        "any" => Ok(LetterState::Any),
        _ => Err("expected open, ended or any".into()),
    }
}

/// Numbers with a unit each, added up.
pub(super) fn millis(text: &str) -> Option<Millis> {
    let mut rest = text;
    let mut sum: Millis = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: Millis = rest[..digits].parse().ok()?;
        let unit = rest[digits..].chars().next()?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        sum = sum.checked_add(number.checked_mul(seconds * 1_000)?)?;
        rest = &rest[digits + unit.len_utf8()..];
    }
    (!text.is_empty()).then_some(sum)
}
