//! What clients sent and were answered: in memory for the checker, and as JSON lines for people.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use anyhow::Context as _;
use fastrand::Rng;
use serde::Serialize;
use serde_json::Value;

use crate::chaos::{Attempt, Clients, Identity};

/// What a request was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// To place an order.
    Place,
    /// To cancel one.
    Cancel,
}

/// How a request ended.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Answered {
    /// With a complete answer.
    Status {
        /// The status code.
        status: u16,
        /// The last part of the problem's type, if it was one.
        #[serde(skip_serializing_if = "String::is_empty")]
        problem: String,
    },
    /// Without one: cut, timed out, not connected.
    Nothing {
        /// Why.
        error: String,
    },
}

/// Sums over all requests.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Tally {
    /// Requests sent.
    pub requests: u64,
    /// Answered 202.
    pub accepted: u64,
    /// Answered 503.
    pub unavailable: u64,
    /// Not answered at all.
    pub unanswered: u64,
    /// Answered otherwise.
    pub others: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    at_ms: u128,
    took_ms: u128,
    asked: Asked,
    producer: usize,
    order_id: &'a str,
    fp: &'a str,
    #[serde(flatten)]
    answered: &'a Answered,
}

#[derive(Serialize)]
struct FirstLine<'a> {
    at_ms: u128,
    #[serde(flatten)]
    identity: &'a Identity,
    account: &'a str,
    key: &'a str,
    body: &'a Value,
}

/// The log. Its file is written through at [`ClientLog::finish`].
#[derive(Debug)]
pub struct ClientLog {
    started: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    clients: Clients,
    /// The accepted, in the order of their first 202, for whoever wants to read one.
    accepted: Vec<Identity>,
    tally: Tally,
    file: Option<BufWriter<File>>,
}

impl ClientLog {
    /// A log that also goes to a file, if one is named.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn new(file: Option<&Path>) -> anyhow::Result<Self> {
        let open =
            |path: &Path| File::create(path).with_context(|| format!("cannot write {}", path.display()));
        let file = file.map(open).transpose()?.map(BufWriter::new);
        let inner =
            Inner { clients: Clients::default(), accepted: Vec::new(), tally: Tally::default(), file };
        Ok(Self { started: Instant::now(), inner: Mutex::new(inner) })
    }

    /// Notes that a body is about to be posted for the first time, before anything is sent.
    pub fn attempt(&self, identity: &Identity, attempt: Attempt, key: &str, body: &Value) {
        let at_ms = self.started.elapsed().as_millis();
        let mut inner = self.lock();
        inner.write(&FirstLine { at_ms, identity, account: &attempt.account, key, body });
        inner.clients.attempts.entry(identity.clone()).or_insert(attempt);
    }

    /// Notes that an order's cancelling is about to be asked for.
    pub fn cancel(&self, identity: &Identity) {
        self.lock().clients.cancels.insert(identity.order_id.clone());
    }

    /// Notes a 202 for a cancel.
    pub fn cancel_accepted(&self, identity: &Identity) {
        self.lock().clients.cancels_accepted.insert(identity.order_id.clone());
    }

    /// Notes how a request ended that was sent at an instant.
    pub fn answered(
        &self,
        sent: Instant,
        producer: usize,
        asked: Asked,
        identity: &Identity,
        answered: &Answered,
    ) {
        let at_ms = sent.duration_since(self.started).as_millis();
        let mut inner = self.lock();
        inner.tally.requests += 1;
        *match answered {
            Answered::Status { status: 202, .. } => &mut inner.tally.accepted,
            Answered::Status { status: 503, .. } => &mut inner.tally.unavailable,
            Answered::Status { .. } => &mut inner.tally.others,
            Answered::Nothing { .. } => &mut inner.tally.unanswered,
        } += 1;
        let Identity { order_id, fp } = identity;
        let took_ms = sent.elapsed().as_millis();
        inner.write(&Line { at_ms, took_ms, asked, producer, order_id, fp, answered });
    }

    /// Notes a 202 for a body.
    pub fn accepted(&self, identity: &Identity) {
        let mut inner = self.lock();
        let Some(attempt) = inner.clients.attempts.get_mut(identity) else { return };
        if !std::mem::replace(&mut attempt.accepted, true) {
            inner.accepted.push(identity.clone());
        }
    }

    /// An accepted order, and the account it belongs to.
    pub fn any_accepted(&self, rng: &mut Rng) -> Option<(Identity, String)> {
        let inner = self.lock();
        let identity = rng.choice(&inner.accepted)?.clone();
        let account = inner.clients.attempts.get(&identity)?.account.clone();
        Some((identity, account))
    }

    /// The accepted orders, in the order of their first 202.
    pub fn accepted_orders(&self) -> Vec<Identity> {
        self.lock().accepted.clone()
    }

    /// How many orders were accepted.
    pub fn accepted_count(&self) -> usize {
        self.lock().accepted.len()
    }

    /// Notes an end that was shown to a client.
    pub fn shown(&self, order_id: &str, end: &str) {
        self.lock().clients.shown.entry(order_id.to_owned()).or_default().insert(end.to_owned());
    }

    /// Notes an answer that breaks the contract.
    pub fn broken_answer(&self, what: String) {
        self.lock().clients.broken_answers.push(what);
    }

    /// Sums so far.
    pub fn tally(&self) -> Tally {
        self.lock().tally
    }

    /// Writes the file through, and returns what the clients know.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(&self) -> anyhow::Result<Clients> {
        let mut inner = self.lock();
        if let Some(file) = &mut inner.file {
            file.flush().context("cannot write the clients' log")?;
        }
        Ok(inner.clients.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// A line that cannot be written is missing in the file only; the checker reads memory.
    fn write(&mut self, line: &impl Serialize) {
        if let Some(file) = &mut self.file
            && serde_json::to_writer(&mut *file, line).is_ok()
        {
            let _ = file.write_all(b"\n");
        }
    }
}
