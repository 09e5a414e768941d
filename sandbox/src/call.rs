//! What a call says about itself: the step instance, the two headers, and the words for its outcome.

use std::fmt;

use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};

const INSTANCE_BYTES_MAX: usize = 200;
const KEY_BYTES_MAX: usize = 255;

/// The two calls that may have an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verb {
    Do,
    Undo,
}

/// One step of one run of one order, written `<order id>.<gen>.<step>`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StepInstance {
    #[serde(rename = "instance")]
    pub(crate) id: String,
    pub(crate) order_id: String,
    #[serde(rename = "gen")]
    pub(crate) generation: u64,
    pub(crate) step: String,
}

/// A call to do or undo a step instance, without its body.
pub(crate) struct Call {
    pub(crate) instance: StepInstance,
    pub(crate) key: String,
    pub(crate) fence: u64,
}

/// A business "no": final for this order unless somebody changes something.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) message: String,
}

/// A call that does not follow the contract; the text names the part that is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) String);

impl StepInstance {
    pub(crate) fn parse(id: &str) -> Result<Self, Malformed> {
        let is_allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
        };
        if id.len() > INSTANCE_BYTES_MAX || !id.bytes().all(is_allowed) {
            return Err(Malformed(format!(
                "instance: must be at most {INSTANCE_BYTES_MAX} characters of a-z, 0-9, '.', '_' and '-'"
            )));
        }
        let mut parts = id.rsplitn(3, '.');
        let (step, generation, order_id) = (parts.next(), parts.next(), parts.next());
        let generation = generation.and_then(|text| text.parse().ok());
        match (order_id, generation, step) {
            (Some(order_id), Some(generation), Some(step)) if !order_id.is_empty() && !step.is_empty() => {
                Ok(Self {
                    id: id.to_owned(),
                    order_id: order_id.to_owned(),
                    generation,
                    step: step.to_owned(),
                })
            }
            _ => Err(Malformed(
                "instance: must be <order id>.<gen>.<step>, such as eu1-k3v9a.1.inventory".to_owned(),
            )),
        }
    }
}

impl Call {
    pub(crate) fn parse(instance: &str, headers: &HeaderMap) -> Result<Self, Malformed> {
        let key = headers.get("idempotency-key").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let call = Self::new(instance, key, 0)?;
        Ok(Self { fence: fence(headers)?, ..call })
    }

    pub(crate) fn new(instance: &str, key: &str, fence: u64) -> Result<Self, Malformed> {
        let instance = StepInstance::parse(instance)?;
        if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Malformed(format!(
                "Idempotency-Key: the header must hold 1 to {KEY_BYTES_MAX} visible ASCII characters"
            )));
        }
        Ok(Self { instance, key: key.to_owned(), fence })
    }
}

fn fence(headers: &HeaderMap) -> Result<u64, Malformed> {
    headers
        .get("orderfleet-fence")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            Malformed("Orderfleet-Fence: the header must hold a whole number from 0 to 2^64-1".to_owned())
        })
}

impl Refusal {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Do => "do",
            Self::Undo => "undo",
        })
    }
}
