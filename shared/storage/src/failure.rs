//! What a failed call means to an order: the one place where errors of the driver become answers to the saga core, and
//! texts for people.

use std::fmt;

use mongodb::{
    bson,
    error::{ErrorKind, WriteFailure},
};
use orderfleet_domain::{OrderId, saga::StoreReply};

use crate::StoreError;

pub(crate) const DUPLICATE_KEY: i32 = 11_000;
const UNAUTHORIZED: i32 = 13;
const AUTHENTICATION_FAILED: i32 = 18;
/// LockBusy, and ConflictingOperationInProgress.
const BUSY: [i32; 2] = [46, 117];
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

/// Why the driver failed a call. Told without what was sent or read: texts of the driver and of the server can repeat parts
/// of a document, and these hold addresses.
#[derive(Clone)]
pub struct Failure(Box<ErrorKind>);

/// Why a document cannot be read, or written. Told without its contents, as [`Failure`] is.
#[derive(Clone)]
pub struct BadDocument(Box<bson::error::Error>);

impl Failure {
    pub(crate) fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// Whether the server does not let this user in, or not do this.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(*self.0, ErrorKind::Authentication { .. })
            || matches!(code(&self.0), Some(UNAUTHORIZED | AUTHENTICATION_FAILED))
    }
}

impl From<mongodb::error::Error> for Failure {
    fn from(error: mongodb::error::Error) -> Self {
        Self(error.kind)
    }
}

impl From<bson::error::Error> for BadDocument {
    fn from(error: bson::error::Error) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&describe(&self.0))
    }
}

impl fmt::Display for BadDocument {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&describe_bson(&self.0))
    }
}

impl fmt::Debug for Failure {
    /// Not derived: it would tell what [`Display`](fmt::Display) leaves out.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Failure({self})")
    }
}

impl fmt::Debug for BadDocument {
    /// Not derived, as that of [`Failure`].
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "BadDocument({self})")
    }
}

impl std::error::Error for Failure {}
impl std::error::Error for BadDocument {}

/// The answer to the core for a call that failed. A write-concern error, a timeout, a lost connection, a change of the
/// primary and everything unheard of are unknown outcomes: what was asked may have been applied, now or later.
pub(crate) fn reply(order_id: &OrderId, error: &StoreError) -> StoreReply {
    let StoreError::Call { operation, source } = error else {
        tracing::warn!(order.id = %order_id, %error, "database outcome unknown");
        return StoreReply::Unknown;
    };
    let reason = describe(source.kind());
    if is_refused(error) {
        return StoreReply::Refused(refusal(&reason));
    }
    tracing::warn!(order.id = %order_id, operation, reason, "database outcome unknown");
    StoreReply::Unknown
}

/// Whether the same document, or a command as large, would be refused again. Nothing is known of what else was in the command.
pub(crate) fn is_refused(error: &StoreError) -> bool {
    let StoreError::Call { source, .. } = error else { return false };
    let is_refusal = |code| REFUSALS.contains(&code);
    code(source.kind()).is_some_and(is_refusal) || matches!(source.kind(), ErrorKind::InvalidArgument { .. })
}

/// Whether an insert met a document with the same `_id`.
pub(crate) fn is_duplicate(error: &StoreError) -> bool {
    matches!(error, StoreError::Call { source, .. } if code(source.kind()) == Some(DUPLICATE_KEY))
}

/// Whether something else is in the way of a change of the cluster, for now: nothing was done.
pub(crate) fn is_busy(error: &StoreError) -> bool {
    matches!(error, StoreError::Call { source, .. } if code(source.kind()).is_some_and(|code| BUSY.contains(&code)))
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

/// What failed, without what was sent. Of texts only those are told that are about servers and connections.
fn describe(error: &ErrorKind) -> String {
    match error {
        ErrorKind::Command(error) => format!("{} ({})", error.code_name, error.code),
        ErrorKind::Write(WriteFailure::WriteError(error)) => {
            format!("{} ({})", error.code_name.as_deref().unwrap_or("write error"), error.code)
        }
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => {
            format!("write concern: {} ({})", error.code_name, error.code)
        }
        ErrorKind::Bson(error) => describe_bson(error),
        ErrorKind::InvalidArgument { .. } => "an invalid argument".into(),
        ErrorKind::InvalidResponse { .. } => "an invalid response of the server".into(),
        ErrorKind::Internal { .. } => "an internal error of the driver".into(),
        ErrorKind::Io(_)
        | ErrorKind::Authentication { .. }
        | ErrorKind::DnsResolve { .. }
        | ErrorKind::InvalidTlsConfig { .. }
        | ErrorKind::ServerSelection { .. }
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::Shutdown => error.to_string(),
        _ => "an error of the driver".into(),
    }
}

/// What is wrong and where, without the value that is.
pub(crate) fn describe_bson(error: &bson::error::Error) -> String {
    match (&error.key, error.index) {
        (Some(key), _) => format!("{} at key {key}", error.kind),
        (None, Some(index)) => format!("{} at index {index}", error.kind),
        (None, None) => error.kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{doc, rawdoc};
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Numbered {
        #[serde(rename = "city")]
        _city: i32,
    }

    #[test]
    fn a_value_that_cannot_be_read_is_not_told() {
        let raw = rawdoc! { "city": "Canary-City" };
        let error = bson::deserialize_from_slice::<Numbered>(raw.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("Canary-City"), "{error}");
        let told = BadDocument::from(error.clone());
        let failure = Failure::from(mongodb::error::Error::from(error));
        for text in [format!("{told} {told:?}"), format!("{failure} {failure:?}")] {
            assert!(text.contains("deserialization") && !text.contains("Canary"), "{text}");
        }
    }

    #[test]
    fn what_the_driver_says_of_an_argument_is_not_told() {
        let failure = Failure::from(mongodb::error::Error::from(ErrorKind::Custom(std::sync::Arc::new(
            doc! { "name": "Canary-Name" }.to_string(),
        ))));
        assert_eq!(failure.to_string(), "an error of the driver");
    }
}
