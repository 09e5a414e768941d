//! What travels on the exchange `orders`: JSON with an explicit schema version.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{AccountId, Fingerprint, Order, OrderId, StepName, saga::Cause};

/// Newest message schema this build can read. A newer message waits for a newer build. A message is written with the lowest
/// version that has all of it, so that older builds go on reading what they can; by the next build, as tests play it (feature
/// `next-build`), with its own.
pub const SCHEMA_VERSION: u32 = if IS_NEXT { 3 } else { 2 };
const IS_NEXT: bool = cfg!(feature = "next-build");
/// The first version in which a further run can bring an order along.
const VERSION_OF_EDITED_RUNS: u32 = 2;

/// A message about one order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Command {
    /// Which order.
    pub order_id: OrderId,
    /// Whose order.
    pub account: AccountId,
    /// Which run, from 1.
    pub generation: u32,
    /// Fingerprint of the order, where the sender knows it.
    pub fp: Option<Fingerprint>,
    /// What is asked.
    pub kind: CommandKind,
}

/// What a message asks for. The document decides what happens, never the message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum CommandKind {
    /// Work a posted order. The only kind that can create a document.
    Place {
        /// The order.
        order: Box<Order>,
        /// When the producer accepted it.
        accepted_at: Timestamp,
    },
    /// Go on with an order that has a document.
    Resume {},
    /// Start run `generation` of an order whose run before ended UNDONE and not final.
    Run {
        /// What this run and the later ones work on instead of the posted order, as a person corrected it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        order: Option<Box<Order>>,
    },
    /// Undo an order that failed: the compensating event.
    Compensate {
        /// Why.
        cause: Cause,
        /// The steps to undo, in the order of undoing; for readers, the document decides.
        undo: Vec<StepName>,
    },
    /// Cancel the order if its pivot has not been attempted.
    Cancel {
        /// When the customer asked.
        requested_at: Timestamp,
    },
    /// Apply a person's decision to the hold of this id.
    Resolve {
        /// The hold.
        hold: String,
        /// The decision.
        decision: Decision,
        /// Why, and by whom.
        reason: String,
    },
}

impl CommandKind {
    /// The word used as the AMQP message type and in metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Place { .. } => "place",
            Self::Resume {} => "resume",
            Self::Run { .. } => "run",
            Self::Compensate { .. } => "compensate",
            Self::Cancel { .. } => "cancel",
            Self::Resolve { .. } => "resolve",
        }
    }

    fn version(&self) -> u32 {
        match self {
            _ if IS_NEXT => SCHEMA_VERSION,
            Self::Run { order: Some(_) } => VERSION_OF_EDITED_RUNS,
            _ => 1,
        }
    }
}

/// What a person can decide about a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Try the step again.
    Release,
    /// The step has been undone by hand: go on with the one before. While the order still goes forward, as `Release`.
    Settle,
    /// Give the order up: it ends UNDONE for good. While it still goes forward, its steps are undone as after a refusal; where
    /// an undo was refused, everything left has been dealt with by hand.
    Discard,
}

/// Why bytes are not a command.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A newer build wrote it: wait for one, at no cost.
    #[error("schema version {0} is newer than this build's {SCHEMA_VERSION}")]
    Newer(u32),
    /// No build can read it.
    #[error("not a command: {0}")]
    Malformed(String),
}

#[derive(Serialize)]
struct WireOut<'a> {
    v: u32,
    order_id: &'a OrderId,
    account: &'a AccountId,
    #[serde(rename = "gen")]
    generation: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    fp: Option<&'a Fingerprint>,
    command: &'a CommandKind,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireIn {
    #[serde(rename = "v")]
    _v: u32,
    order_id: OrderId,
    account: AccountId,
    #[serde(rename = "gen")]
    generation: u32,
    #[serde(default)]
    fp: Option<Fingerprint>,
    command: CommandKind,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

impl Command {
    /// The message body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let wire = WireOut {
            v: self.kind.version(),
            order_id: &self.order_id,
            account: &self.account,
            generation: self.generation,
            fp: self.fp.as_ref(),
            command: &self.kind,
        };
        serde_json::to_vec(&wire).expect("a command holds only strings, numbers and maps with string keys")
    }

    /// Reads a message body; the order in it is validated as the producer did.
    ///
    /// # Errors
    /// [`DecodeError::Newer`] for a newer schema version, otherwise [`DecodeError::Malformed`] with what is wrong,
    /// without repeating the content.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let malformed = |error: serde_json::Error| DecodeError::Malformed(describe(&error));
        let Version { v } = serde_json::from_slice(body).map_err(malformed)?;
        if v > SCHEMA_VERSION {
            return Err(DecodeError::Newer(v));
        }
        let wire: WireIn = serde_json::from_slice(body).map_err(malformed)?;
        let command = Self {
            order_id: wire.order_id,
            account: wire.account,
            generation: wire.generation,
            fp: wire.fp,
            kind: wire.command,
        };
        command.check().map_err(|problem| DecodeError::Malformed(problem.to_owned()))?;
        Ok(command)
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.generation == 0 {
            return Err("gen must be 1 or more");
        }
        match &self.kind {
            CommandKind::Place { .. } if self.generation != 1 => Err("only run 1 can carry an order"),
            CommandKind::Place { order, .. } => match &self.fp {
                None => Err("fp is missing"),
                Some(fp) if fp.is_current_version() && *fp != Fingerprint::of(order) => {
                    Err("fp is not the fingerprint of the order")
                }
                Some(_) => Ok(()),
            },
            CommandKind::Run { .. } if self.generation < 2 => Err("a further run has gen 2 or more"),
            _ => Ok(()),
        }
    }
}

/// What is wrong and where, cut before anything that could be content.
fn describe(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Data => "wrong shape or value",
        serde_json::error::Category::Eof => "ends too early",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "no JSON",
    };
    format!("{kind} at line {} column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Command {
        let order: Order = serde_json::from_str(
            r#"{"channel":"retail","currency":"GBP","payment_ref":"p","ship_to":{},"lines":[{"sku":"A","quantity":1,"unit_price":"1"}]}"#,
        )
        .unwrap();
        let account: AccountId = "demo".parse().unwrap();
        Command {
            order_id: OrderId::derive(&"eu1".parse().unwrap(), &account, &"k".parse().unwrap()),
            account,
            generation: 1,
            fp: Some(Fingerprint::of(&order)),
            kind: CommandKind::Place {
                order: Box::new(order),
                accepted_at: "2026-01-01T00:00:00Z".parse().unwrap(),
            },
        }
    }

    #[test]
    fn a_command_survives_the_wire() {
        let command = place();
        assert_eq!(Command::decode(&command.encode()).unwrap(), command);
        let resume = Command { kind: CommandKind::Resume {}, fp: None, ..command };
        assert_eq!(Command::decode(&resume.encode()).unwrap(), resume);
    }

    #[test]
    fn whatever_a_producer_accepts_a_worker_can_read() {
        let texts = ["A", "Zoë", "a b", "\u{1f4e6}", "0000-01-01T00:00:00Z", "9999-12-30T22:00:00.9+14:00"];
        let times = [
            "0000-01-01T00:00:00Z",
            "0000-01-01T00:00:00+05:30",
            "9999-12-30T22:00:00.900-05:00",
            "2010-12-01T08:26:60Z",
        ];
        let mut accepted = 0;
        for text in texts {
            for time in times {
                let order = serde_json::from_value::<Order>(serde_json::json!({
                    "customer_ref": text, "channel": "retail", "currency": "GBP", "payment_ref": text, "placed_at": time,
                    "ship_to": {"name": text, "country": "GB"}, "metadata": {text: text},
                    "lines": [{"sku": text, "description": text, "quantity": 1, "unit_price": "0.1000"}]
                }));
                let Ok(order) = order else { continue };
                accepted += 1;
                let command = Command {
                    fp: Some(Fingerprint::of(&order)),
                    kind: CommandKind::Place { order: Box::new(order), accepted_at: Timestamp::UNIX_EPOCH },
                    ..place()
                };
                assert_eq!(Command::decode(&command.encode()).unwrap(), command);
            }
        }
        assert!(accepted >= texts.len() * 2, "{accepted}");
    }

    #[test]
    fn a_newer_version_waits_whatever_else_it_holds() {
        assert!(matches!(Command::decode(br#"{"v":3,"novel":true}"#), Err(DecodeError::Newer(3))));
    }

    #[test]
    fn a_run_with_a_corrected_order_waits_for_builds_that_know_it_and_any_other_run_does_not() {
        let CommandKind::Place { order, .. } = place().kind else { unreachable!() };
        let run = |order| Command { generation: 2, fp: None, kind: CommandKind::Run { order }, ..place() };
        for (command, version) in [(run(None), r#""v":1"#), (run(Some(order)), r#""v":2"#)] {
            let text = String::from_utf8(command.encode()).unwrap();
            assert!(text.contains(version), "{text}");
            assert_eq!(Command::decode(text.as_bytes()).unwrap(), command);
        }
    }

    #[test]
    fn bad_bytes_are_malformed_and_not_repeated() {
        let text = String::from_utf8(place().encode()).unwrap();
        let tampered = text.replace(r#""quantity":1"#, r#""quantity":2"#);
        let zero = text.replace(r#""quantity":1"#, r#""quantity":0"#);
        let second_run = text.replace(r#""gen":1"#, r#""gen":2"#);
        for bad in [
            "",
            "\u{0}\u{1}",
            "{",
            "[]",
            "{\"v\":1}",
            &tampered,
            &zero,
            &second_run,
            &text.replace("\"v\":1", "\"v\":-1"),
        ] {
            let error = Command::decode(bad.as_bytes()).unwrap_err();
            assert!(matches!(error, DecodeError::Malformed(_)), "{bad}");
            assert!(!error.to_string().contains("demo"));
        }
    }
}
