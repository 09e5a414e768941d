//! One call of the contract: what is asked of which step instance, under which key and fence.

use orderfleet_domain::{
    AccountId, Order, OrderId, StepName,
    saga::{Verb, step_instance, step_key},
};
use reqwest::Method;
use serde_json::{Value, json};

/// The first worker that takes charge of an order.
const FIRST_FENCE: u64 = 1;

/// The three calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Do,
    Undo,
    Look,
}

/// One step of one run of an order that no shop has posted.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) order_id: OrderId,
    pub(super) generation: u32,
    pub(super) step: StepName,
}

/// A call as it is sent; sending it again is a repeat.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) ask: Ask,
    pub(super) instance: Instance,
    pub(super) key: Option<String>,
    pub(super) fence: Option<u64>,
    pub(super) body: Option<Body>,
    /// A part of the path that no service knows.
    pub(super) astray: Option<&'static str>,
}

/// Body of a do.
#[derive(Debug, Clone)]
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    /// For the report, which shows no orders.
    pub(super) what: &'static str,
    /// Workers send such bodies.
    is_usual: bool,
}

impl Ask {
    pub(super) fn method(self) -> Method {
        match self {
            Self::Do => Method::PUT,
            Self::Undo => Method::DELETE,
            Self::Look => Method::GET,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Do => "do",
            Self::Undo => "undo",
            Self::Look => "look",
        }
    }
}

impl Instance {
    pub(super) fn name(&self) -> String {
        step_instance(&self.order_id, self.generation, &self.step)
    }

    /// The same step of the same order, run again by an operator.
    pub(super) fn next_run(&self) -> Self {
        Self { generation: self.generation + 1, ..self.clone() }
    }

    /// The body of a do of this instance.
    pub(super) fn body(&self, account: &AccountId, order: &Order) -> Value {
        let Self { order_id, generation, step } = self;
        json!({ "order_id": order_id, "gen": generation, "step": step, "account": account, "order": order })
    }

    fn key(&self, verb: Verb) -> String {
        step_key(&self.order_id, self.generation, &self.step, verb)
    }
}

impl Body {
    pub(super) fn new(body: &Value, what: &'static str) -> Self {
        Self { bytes: body.to_string().into_bytes(), what, is_usual: true }
    }

    /// The first half of a body: no JSON.
    pub(super) fn cut_off(mut self) -> Self {
        self.bytes.truncate(self.bytes.len() / 2);
        Self { what: "the first half of a body", ..self.odd() }
    }

    /// The same body, as one that no worker sends here.
    pub(super) fn odd(self) -> Self {
        Self { is_usual: false, ..self }
    }
}

impl Call {
    pub(super) fn to_do(instance: &Instance, body: Body) -> Self {
        let key = Some(instance.key(Verb::Do));
        Self { key, body: Some(body), ..Self::new(Ask::Do, instance) }
    }

    pub(super) fn to_undo(instance: &Instance) -> Self {
        Self { key: Some(instance.key(Verb::Undo)), ..Self::new(Ask::Undo, instance) }
    }

    pub(super) fn to_look(instance: &Instance) -> Self {
        Self { fence: None, ..Self::new(Ask::Look, instance) }
    }

    pub(super) fn with_fence(self, fence: u64) -> Self {
        Self { fence: Some(fence), ..self }
    }

    pub(super) fn with_key(self, key: String) -> Self {
        Self { key: Some(key), ..self }
    }

    /// The same call under a key that nobody has used.
    pub(super) fn with_another_key(self) -> Self {
        let key = self.key.as_ref().map(|key| format!("{key}-another"));
        Self { key, ..self }
    }

    pub(super) fn with_body(self, body: Body) -> Self {
        Self { body: Some(body), ..self }
    }

    pub(super) fn astray(self, part: &'static str) -> Self {
        Self { astray: Some(part), ..self }
    }

    /// Whether workers send such calls, so that a definite answer is owed.
    pub(super) fn is_usual(&self) -> bool {
        self.astray.is_none() && self.body.as_ref().is_none_or(|body| body.is_usual)
    }

    /// The step instances of dos, in their order.
    pub(super) fn instances(dos: &[Self]) -> Vec<String> {
        dos.iter().map(|call| call.instance.name().clone()).collect()
    }

    /// The do as one of a batch, which can hold no body but JSON.
    pub(super) fn in_batch(&self) -> Value {
        let body = self.body.as_ref().and_then(|body| serde_json::from_slice::<Value>(&body.bytes).ok());
        json!({ "instance": self.instance.name(), "key": self.key, "fence": self.fence, "body": body })
    }

    fn new(ask: Ask, instance: &Instance) -> Self {
        let instance = instance.clone();
        Self { ask, instance, key: None, fence: Some(FIRST_FENCE), body: None, astray: None }
    }
}
