//! What a failed call means to an order: the one place where errors of the driver become answers to the saga core.

use mongodb::error::{ErrorKind, WriteFailure};
use orderfleet_domain::{OrderId, saga::StoreReply};

use crate::StoreError;

const DUPLICATE_KEY: i32 = 11_000;
/// Server errors that the same document would meet again: failed validation, too large, or of a shape that cannot be
/// stored or updated. Whatever is about the server or its settings is not among them: no order is to blame for that.
const REFUSALS: [i32; 10] = [
    14,     // TypeMismatch
    22,     // InvalidBSON
    28,     // PathNotViable
    52,     // DollarPrefixedFieldName
    55,     // InvalidDBRef
    121,    // DocumentValidationFailure
    10_334, // BSONObjectTooLarge
    17_280, // KeyTooLong
    17_419, // resulting document after update is larger than allowed
    17_420, // document to upsert is larger than allowed
];

/// The answer to the core for a call that failed. A write-concern error, a timeout, a lost connection, a change of the
/// primary and everything unheard of are unknown outcomes: what was asked may have been applied, now or later.
pub(crate) fn reply(order_id: &OrderId, error: &StoreError) -> StoreReply {
    let StoreError::Call { operation, source } = error else {
        tracing::warn!(order.id = %order_id, %error, "database outcome unknown");
        return StoreReply::Unknown;
    };
    let reason = describe(source);
    match code(source) {
        Some(code) if REFUSALS.contains(&code) => StoreReply::Refused(refusal(&reason)),
        _ if matches!(**source, ErrorKind::InvalidArgument { .. }) => StoreReply::Refused(refusal(&reason)),
        _ => {
            tracing::warn!(order.id = %order_id, operation, reason, "database outcome unknown");
            StoreReply::Unknown
        }
    }
}

/// Whether an insert met a document with the same `_id`.
pub(crate) fn is_duplicate(error: &StoreError) -> bool {
    matches!(error, StoreError::Call { source, .. } if code(source) == Some(DUPLICATE_KEY))
}

/// The text of [`StoreReply::Refused`].
pub(crate) fn refusal(reason: &str) -> String {
    format!("the database refuses the document: {reason}")
}

/// Code of an error that says the operation was not applied. A write-concern error says the opposite.
fn code(error: &ErrorKind) -> Option<i32> {
    match error {
        ErrorKind::Command(error) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        _ => None,
    }
}

/// What failed, without what was sent: server messages can repeat parts of a document.
fn describe(error: &ErrorKind) -> String {
    match error {
        ErrorKind::Command(error) => format!("{} ({})", error.code_name, error.code),
        ErrorKind::Write(WriteFailure::WriteError(error)) => {
            format!("{} ({})", error.code_name.as_deref().unwrap_or("write error"), error.code)
        }
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => {
            format!("write concern: {} ({})", error.code_name, error.code)
        }
        kind => kind.to_string(),
    }
}
