//! What the broker answers, and what it means where it is not what was asked for.

use std::time::Duration;

use lapin::ErrorKind;
use tokio::time::timeout;

use super::Item;
use crate::ConnectError;

/// Longest wait for an answer of the broker.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const PRECONDITION_FAILED: u16 = 406;
pub(super) const NOT_IMPLEMENTED: u16 = 540;
pub(super) const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;

/// A look or a change that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum InspectionError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The broker said no.
    #[error("the broker refuses to {what}: {text}")]
    Refused {
        /// What was asked.
        what: String,
        /// Its words.
        text: String,
    },
    /// A queue that was to be deleted holds messages or has consumers, or an exchange has bindings.
    #[error("{name} is not empty or in use: {text}")]
    InUse {
        /// Its name.
        name: String,
        /// How it is used.
        text: String,
    },
    /// A queue was deleted, and the broker says that it held messages, although it had just said that there was none.
    #[error(
        "{name} was deleted with {messages} messages in it: `orderfleet audit` names the orders that are missing"
    )]
    Lost {
        /// Its name.
        name: String,
        /// How many.
        messages: u32,
    },
    /// The broker has no guarded deletion for this kind of queue.
    #[error("the broker cannot check whether {name} is empty and unused: it is a quorum queue")]
    Unguarded {
        /// Its name.
        name: String,
    },
    /// The topology declares nothing of this name.
    #[error("the topology declares no {0}")]
    Undeclared(Item),
    /// No answer, or none in time.
    #[error("the broker did not {what}: {text}")]
    NoAnswer {
        /// What was asked; it may still happen.
        what: String,
        /// Why not, as far as is known.
        text: String,
    },
}

/// Waits for an answer, and says what was asked where there is none.
pub(super) async fn answer<T>(
    what: impl Fn() -> String,
    asked: impl Future<Output = lapin::Result<T>>,
) -> Result<T, InspectionError> {
    match timeout(ANSWER_TIMEOUT, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if code(&error).is_some() => {
            Err(InspectionError::Refused { what: what(), text: told(&error) })
        }
        Ok(Err(error)) => Err(InspectionError::NoAnswer { what: what(), text: told(&error) }),
        Err(_) => {
            let text = format!("no answer within {} s", ANSWER_TIMEOUT.as_secs());
            Err(InspectionError::NoAnswer { what: what(), text })
        }
    }
}

/// The code of an error that the broker sent.
pub(super) fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

/// The broker's own words, where it has sent some.
pub(super) fn told(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        _ => error.to_string(),
    }
}

/// A queue that is only out of reach, for want of a leader for example, has the same code.
pub(super) fn is_missing(error: &lapin::Error) -> bool {
    let text = told(error);
    code(error) == Some(NOT_FOUND) && (text.contains("no queue '") || text.contains("no exchange '"))
}
