//! Fault rules as people write them: parsed from a flag or from JSON, with errors that name the field.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::call::Verb;

const LATENCY_MS_MAX: u64 = 600_000;
const FAULT_NAMES: &str = "refuse_sku, refuse_country, refuse, latency_ms, error_rate, error_country, lost_reply, \
                           hang, unavailable, ignore_keys, ignore_tombstones";

/// One scripted misbehaviour: which calls it is for, and what happens to them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "RuleFields")]
pub struct Rule {
    fields: RuleFields,
    pub(crate) fault: Fault,
    pub(crate) share: f64,
}

/// What happens to a call that a rule picks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    RefuseSku(String),
    RefuseCountry(String),
    Refuse,
    Latency(Duration),
    Error,
    ErrorCountry(String),
    Unavailable,
    Hang,
    LostReply,
    IgnoreKeys,
    IgnoreTombstones,
}

impl Rule {
    /// Parses the form of the `--fault` flag, such as `fulfilment:refuse_sku=85123A,share=0.5`.
    ///
    /// # Errors
    /// Names the field that is wrong and what would be right.
    pub fn from_flag(text: &str) -> Result<Self, RuleError> {
        let (service, rest) = text.split_once(':').ok_or_else(|| {
            RuleError::new("write SERVICE:FAULT[=VALUE][,verb=…][,share=…][,times=…], as in inventory:hang")
        })?;
        let mut fields = Map::from_iter([("service".to_owned(), Value::from(service))]);
        for part in rest.split(',') {
            let (name, value) = match part.split_once('=') {
                // These are text even when they look like a number.
                Some((name @ ("refuse_sku" | "refuse_country" | "error_country"), text)) => {
                    (name, Value::from(text))
                }
                Some((name, text)) => (name, serde_json::from_str(text).unwrap_or_else(|_| text.into())),
                None => (part, Value::Bool(true)),
            };
            if fields.insert(name.to_owned(), value).is_some() {
                return Err(RuleError::new(format!("{name}: given twice")));
            }
        }
        serde_path_to_error::deserialize(Value::Object(fields)).map_err(RuleError::from_json)
    }

    /// Parses one rule from JSON, such as `{"service":"inventory","hang":true,"times":3}`.
    ///
    /// # Errors
    /// Names the field that is wrong and what would be right.
    pub fn from_json(text: &[u8]) -> Result<Self, RuleError> {
        parse_json(text)
    }

    /// Parses a JSON list of rules.
    ///
    /// # Errors
    /// Names the position in the list and the field that is wrong, and what would be right.
    pub fn list_from_json(text: &[u8]) -> Result<Vec<Self>, RuleError> {
        parse_json(text)
    }

    pub(crate) fn is_for(&self, service: &str, verb: Verb) -> bool {
        let service_matches = match self.fields.service {
            ServiceScope::Any => true,
            ServiceScope::Inventory => service == "inventory",
            ServiceScope::Fulfilment => service == "fulfilment",
            ServiceScope::Accounting => service == "accounting",
        };
        let verb_matches = match self.fields.verb {
            VerbScope::Both => true,
            VerbScope::Do => verb == Verb::Do,
            VerbScope::Undo => verb == Verb::Undo,
        };
        service_matches && verb_matches
    }

    /// Whether a rule that fired this often may fire again.
    pub(crate) fn is_live(&self, fired: u64) -> bool {
        self.fields.times.is_none_or(|times| fired < times)
    }

    /// Whether every do that this service gets now is one that the rule is for.
    pub(crate) fn picks_every_do(&self, service: &str, fired: u64) -> bool {
        self.share >= 1.0 && self.is_for(service, Verb::Do) && self.is_live(fired)
    }

    /// The rule as JSON, with the number of times it fired.
    pub(crate) fn listed(&self, fired: u64) -> impl Serialize + use<> {
        RuleFields { fired: Some(fired), ..self.fields.clone() }
    }
}

fn parse_json<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, RuleError> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let parsed = serde_path_to_error::deserialize(&mut reader).map_err(RuleError::from_json)?;
    reader.end().map_err(|error| RuleError::new(error.to_string()))?;
    Ok(parsed)
}

/// A rule as it is spelled. Exactly one of the fault fields is set.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RuleFields {
    service: ServiceScope,
    #[serde(default)]
    verb: VerbScope,
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refuse_sku: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refuse_country: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    refuse: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_country: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    lost_reply: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    hang: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    unavailable: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    ignore_keys: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    ignore_tombstones: bool,
    /// Written when rules are listed; ignored when read, so that a listing can be sent back as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    fired: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum ServiceScope {
    #[default]
    #[serde(rename = "*")]
    Any,
    Inventory,
    Fulfilment,
    Accounting,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum VerbScope {
    #[default]
    Do,
    Undo,
    Both,
}

impl TryFrom<RuleFields> for Rule {
    type Error = RuleError;

    fn try_from(fields: RuleFields) -> Result<Self, RuleError> {
        let fault = fields.fault()?;
        let share = fields.share.or(fields.error_rate).unwrap_or(1.0);
        let share_field = if fields.error_rate.is_some() { "error_rate" } else { "share" };
        require((0.0..=1.0).contains(&share), || {
            format!("{share_field}: must be a number from 0 to 1, got {share}")
        })?;
        require(fields.share.is_none() || fields.error_rate.is_none(), || {
            "share: leave it out beside error_rate, which is a share already".to_owned()
        })?;
        require(fields.times != Some(0), || "times: must be at least 1".to_owned())?;
        fault.check_verb(fields.verb)?;
        Ok(Self { fields: RuleFields { fired: None, ..fields }, fault, share })
    }
}

impl Fault {
    fn check_verb(&self, verb: VerbScope) -> Result<(), RuleError> {
        let reason = match self {
            Self::RefuseSku(_) | Self::RefuseCountry(_) => "since an undo carries no order; use refuse",
            Self::ErrorCountry(_) => "since an undo carries no order; use error_rate",
            Self::IgnoreKeys | Self::IgnoreTombstones => "since only a do takes effect anew",
            _ => return Ok(()),
        };
        require(verb == VerbScope::Do, || format!("verb: must be do for this fault, {reason}"))
    }
}

impl RuleFields {
    fn fault(&self) -> Result<Fault, RuleError> {
        let named = [
            self.refuse_sku.clone().map(Fault::RefuseSku),
            self.refuse_country.clone().map(Fault::RefuseCountry),
            self.refuse.then_some(Fault::Refuse),
            self.latency_ms.map(|ms| Fault::Latency(Duration::from_millis(ms))),
            self.error_rate.map(|_| Fault::Error),
            self.error_country.clone().map(Fault::ErrorCountry),
            self.lost_reply.then_some(Fault::LostReply),
            self.hang.then_some(Fault::Hang),
            self.unavailable.then_some(Fault::Unavailable),
            self.ignore_keys.then_some(Fault::IgnoreKeys),
            self.ignore_tombstones.then_some(Fault::IgnoreTombstones),
        ];
        let mut named = named.into_iter().flatten();
        let fault = named
            .next()
            .ok_or_else(|| RuleError::new(format!("the rule names no fault; give one of {FAULT_NAMES}")))?;
        require(named.next().is_none(), || {
            format!("the rule names several faults; give one of {FAULT_NAMES}")
        })?;
        self.check_values()?;
        Ok(fault)
    }

    fn check_values(&self) -> Result<(), RuleError> {
        require(self.refuse_sku.as_deref() != Some(""), || {
            "refuse_sku: must be a SKU such as \"85123A\"".to_owned()
        })?;
        let is_country = |code: &str| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
        let countries = [("refuse_country", &self.refuse_country), ("error_country", &self.error_country)];
        for (name, code) in countries {
            require(code.as_deref().is_none_or(is_country), || {
                format!("{name}: must be an ISO 3166-1 alpha-2 code such as \"DE\"")
            })?;
        }
        require(self.latency_ms.is_none_or(|ms| ms <= LATENCY_MS_MAX), || {
            format!("latency_ms: must be at most {LATENCY_MS_MAX}")
        })
    }
}

fn require(holds: bool, problem: impl FnOnce() -> String) -> Result<(), RuleError> {
    if holds { Ok(()) } else { Err(RuleError::new(problem())) }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Why a fault rule was refused; the text names the field and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(String);

impl RuleError {
    fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }

    fn from_json(error: serde_path_to_error::Error<serde_json::Error>) -> Self {
        let path = error.path().to_string();
        let problem = error.into_inner();
        Self(if path == "." { problem.to_string() } else { format!("{path}: {problem}") })
    }
}
