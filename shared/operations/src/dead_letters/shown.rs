//! One dead letter, shown with everything that helps to decide about it, and without personal data.

use jiff::Timestamp;
use orderfleet_domain::{
    Command, CommandKind, DecodeError, Fingerprint, Order, OrderId, StepName,
    saga::{Cause, StepState},
};
use orderfleet_storage::{Attempt, Content, Letter, OrderView, StoreError};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Asked, DeadLetterError, DeadLetters, Revealed};

/// What is shown of an order that waits for a person.
const HELD: &str = "HELD";

/// A dead letter, what its message asks for, and how its order stands.
#[derive(Clone, Serialize)]
pub struct Shown {
    /// The letter.
    pub letter: Letter,
    /// Its headers; none of them holds personal data.
    pub headers: Vec<(String, String)>,
    /// Its message: what it asks for, with personal data left out. One that workers ended over is not read here either.
    pub message: Value,
    /// Whether a person has corrected the order for its next run.
    pub is_corrected: bool,
    /// Its order, as it stands now.
    pub order: Standing,
    /// The other dead letters of the order, oldest first.
    pub others: Vec<Letter>,
    /// The message with personal data, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revealed: Option<Revealed>,
}

/// What is known of the order of a dead letter.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Its document says so.
    Known(Box<OrderStanding>),
    /// Nothing.
    Unknown(Skipped),
}

/// Why nothing is known of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Skipped {
    /// The dead letter does not tell which order it is about.
    NoOrder,
    /// No worker has inserted it.
    NoDocument,
    /// Its document cannot be read by this build.
    UnreadableDocument,
}

/// How an order stands, without what was ordered.
#[derive(Debug, Clone, Serialize)]
pub struct OrderStanding {
    /// Its id.
    pub order_id: OrderId,
    /// `HELD` while it waits for a person, else the phase.
    pub status: &'static str,
    /// The run it is in.
    #[serde(rename = "gen")]
    pub generation: u32,
    /// Whether no further run may follow.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Its steps, first to last, with what is recorded of them.
    pub steps: Vec<StepStanding>,
    /// The step in hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepName>,
    /// Why its run was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Why it waits for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// Whether its customer asked to cancel.
    pub cancel_requested: bool,
    /// Other bodies that were posted under its key.
    pub conflicts: usize,
    /// Fingerprint of its body.
    pub body_fingerprint: Fingerprint,
    /// What happened to it, oldest first; the newest 64 entries.
    pub history: Vec<Attempt>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When a worker inserted it.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
}

/// What is recorded of a step in the current run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepStanding {
    /// The step.
    pub step: StepName,
    /// What is recorded; nothing of a step that has not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<StepState>,
}

impl DeadLetters {
    /// A dead letter, open or not, and all that helps to decide about it; `None` if there is no such letter.
    ///
    /// With `asked` the message's personal data comes along, and that it was looked at is recorded before.
    ///
    /// # Errors
    /// The database failed, or the operator log refused the record.
    pub async fn show(&self, id: &str, asked: Option<&Asked>) -> Result<Option<Shown>, DeadLetterError> {
        let act = match asked {
            Some(asked) => {
                let act = Self::act(asked, "dlq.reveal", format!("dead letter {id}"));
                Some(self.log.begin(&act).await?)
            }
            None => None,
        };
        let found = self.store.letter(id).await?;
        if let Some(act) = act {
            self.log.end(&act, if found.is_some() { "shown" } else { "there is no such letter" }).await?;
        }
        let Some((letter, content)) = found else { return Ok(None) };
        let order = self.standing(&letter).await?;
        let others = match &letter.order_id {
            Some(order_id) => self.store.all_letters_of(order_id).await?,
            None => Vec::new(),
        };
        Ok(Some(Shown {
            message: if letter.is_unread() { json!({ "unread": letter.reason }) } else { masked(&content) },
            is_corrected: content.correction.is_some(),
            order,
            others: others.into_iter().filter(|other| other.id != letter.id).collect(),
            revealed: asked.map(|_| Revealed::from(&content)),
            headers: content.headers,
            letter,
        }))
    }

    async fn standing(&self, letter: &Letter) -> Result<Standing, DeadLetterError> {
        let (Some(order_id), Some(account)) = (&letter.order_id, &letter.account) else {
            return Ok(Standing::Unknown(Skipped::NoOrder));
        };
        match self.store.find_for_account(order_id, account).await {
            Ok(Some(view)) => Ok(Standing::Known(Box::new(view.into()))),
            Ok(None) => Ok(Standing::Unknown(Skipped::NoDocument)),
            Err(StoreError::Unreadable { .. }) => Ok(Standing::Unknown(Skipped::UnreadableDocument)),
            Err(error) => Err(error.into()),
        }
    }
}

impl From<OrderView> for OrderStanding {
    fn from(view: OrderView) -> Self {
        let record = view.record;
        let state = |step: &StepName| {
            let known = record.results.iter().find(|result| result.step == *step);
            StepStanding { step: step.clone(), state: known.map(|result| result.state) }
        };
        let in_hand = !record.phase.is_terminal() && record.is_consistent();
        Self {
            order_id: view.order_id,
            status: if record.hold.is_some() { HELD } else { record.phase.as_str() },
            generation: record.generation,
            is_final: record.is_final,
            steps: record.steps.iter().map(state).collect(),
            step: in_hand.then(|| record.step(record.cur).clone()),
            hold: record.hold.as_ref().map(|hold| format!("at {}: {}", hold.step, hold.reason)),
            cancel_requested: record.cancel,
            conflicts: view.conflicts,
            history: view.history.iter().map(Attempt::from).collect(),
            accepted_at: view.accepted_at,
            created_at: view.created_at,
            updated_at: view.updated_at,
            cause: record.cause,
            body_fingerprint: record.fp,
        }
    }
}

/// What a message asks for, without personal data. Of one that cannot be read nothing is told but why: whatever it holds may be
/// personal.
fn masked(content: &Content) -> Value {
    let command = match Command::decode(&content.body) {
        Ok(command) => command,
        Err(DecodeError::Newer(version)) => return json!({ "newer_schema": version }),
        Err(DecodeError::Malformed(why)) => return json!({ "unreadable": why }),
    };
    let mut message = json!({
        "kind": command.kind.as_str(),
        "order_id": command.order_id,
        "account": command.account,
        "gen": command.generation,
    });
    match &command.kind {
        CommandKind::Place { order, accepted_at } => {
            message["accepted_at"] = json!(accepted_at);
            message["order"] = masked_order(order);
        }
        CommandKind::Run { order: Some(order) } => message["order"] = masked_order(order),
        CommandKind::Compensate { cause, undo } => {
            message["cause"] = json!(cause);
            message["undo"] = json!(undo);
        }
        CommandKind::Cancel { requested_at } => message["requested_at"] = json!(requested_at),
        CommandKind::Resolve { hold, decision, reason } => {
            message["hold"] = json!(hold);
            message["decision"] = json!(decision);
            message["reason"] = json!(reason);
        }
        CommandKind::Resume {} | CommandKind::Run { order: None } => {}
    }
    message
}

fn masked_order(order: &Order) -> Value {
    let lines = order
        .lines
        .iter()
        .map(|line| json!({ "sku": line.sku, "quantity": line.quantity, "unit_price": line.unit_price }));
    json!({
        "channel": order.channel,
        "currency": order.currency,
        "country": order.ship_to.country,
        "placed_at": order.placed_at,
        "total": order.total(),
        "lines": lines.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use orderfleet_domain::AccountId;

    use super::*;

    fn content(body: Vec<u8>) -> Content {
        Content { headers: Vec::new(), body, correction: None }
    }

    #[test]
    fn what_is_shown_of_a_message_holds_no_personal_data() {
        let order: Order = serde_json::from_value(json!({
            "customer_ref": "Canary-1", "channel": "retail", "currency": "GBP", "payment_ref": "Canary-2",
            "ship_to": { "name": "Canary-3", "line1": "Canary-4", "city": "Canary-5", "country": "GB" },
            "lines": [{ "sku": "A", "description": "Canary-6", "quantity": 2, "unit_price": "1.50" }],
            "metadata": { "Canary-7": "Canary-8" },
        }))
        .unwrap();
        let account: AccountId = "demo".parse().unwrap();
        let command = Command {
            order_id: OrderId::derive(&"eu1".parse().unwrap(), &account, &"k".parse().unwrap()),
            account,
            generation: 1,
            fp: Some(Fingerprint::of(&order)),
            kind: CommandKind::Place { order: Box::new(order), accepted_at: Timestamp::UNIX_EPOCH },
        };
        let body = command.encode();
        let shown = masked(&content(body.clone()));
        assert_eq!((&shown["kind"], &shown["order"]["country"]), (&json!("place"), &json!("GB")));
        assert_eq!(shown["order"]["total"], "3.00");
        let tampered = String::from_utf8(body).unwrap().replace(r#""quantity":2"#, r#""quantity":0"#);
        let unreadable = masked(&content(tampered.into_bytes()));
        assert!(unreadable["unreadable"].is_string(), "{unreadable}");
        for shown in [shown, unreadable] {
            assert!(!shown.to_string().contains("Canary"), "{shown}");
        }
    }

    #[test]
    fn a_message_of_a_newer_build_is_said_to_be_one() {
        assert_eq!(masked(&content(br#"{"v":99,"name":"Canary"}"#.to_vec())), json!({ "newer_schema": 99 }));
    }
}
