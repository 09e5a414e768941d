//! Batches: dos of one step that are ready at the same moment go to its service in one request (docs/DOWNSTREAM.md). No do
//! waits for others, and none is judged by what became of another.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use metrics::{Counter, Histogram};
use orderfleet_domain::saga::{CallOutcome, StepSettings};
use orderfleet_messaging::Delays;
use reqwest::Client;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use crate::answer::classify_batch;

/// Of the calls in one request: what proxies commonly let through is twice as much.
const BYTES_MAX: usize = 512 * 1024;
/// After a batch was not answered as one every do goes alone for about so long, twice as long after each further one.
const APART: Duration = Duration::from_secs(30);
const APART_MAX: Duration = Duration::from_secs(900);

/// The dos of one step, gathered for a moment each.
#[derive(Debug)]
pub(crate) struct Batches {
    client: Client,
    url: String,
    timeout: Duration,
    count_max: usize,
    sizes: Histogram,
    failed: Counter,
    gathering: Mutex<Gathering>,
}

#[derive(Debug)]
struct Gathering {
    waiting: VecDeque<Member>,
    /// A task is about to take those who wait.
    boarding: bool,
    pauses: Delays,
    apart_until: Option<Instant>,
}

#[derive(Debug)]
struct Member {
    instance: String,
    call: Box<RawValue>,
    /// `None`: it is to go alone.
    answer: oneshot::Sender<Option<CallOutcome>>,
}

#[derive(Serialize)]
struct Body<'a> {
    calls: Vec<&'a RawValue>,
}

impl Batches {
    /// For a step whose service offers them.
    pub(crate) fn new(client: &Client, settings: &StepSettings) -> Arc<Self> {
        metrics::describe_histogram!("orderfleet_batch_size", "Dos that were ready at the same moment");
        metrics::describe_counter!("orderfleet_batches_failed_total", "Batches not answered do by do");
        let step = settings.name.to_string();
        Arc::new(Self {
            client: client.clone(),
            url: format!("{}/batch", settings.url.trim_end_matches('/')),
            timeout: Duration::from_millis(settings.timeout_ms),
            count_max: settings.batch_max.into(),
            sizes: metrics::histogram!("orderfleet_batch_size", "step" => step.clone()),
            failed: metrics::counter!("orderfleet_batches_failed_total", "step" => step),
            gathering: Mutex::new(Gathering::new()),
        })
    }

    /// Sends the do of this instance, a member of `calls`, with the others that are ready just now. `None` if it is to go alone:
    /// there are no others, or whoever answered the batch did not say what became of each do. No order pays for what
    /// another one makes of a batch. Who stops waiting may have been sent all the same.
    pub(crate) async fn join(self: &Arc<Self>, instance: String, call: Box<RawValue>) -> Option<CallOutcome> {
        let (answer, answered) = oneshot::channel();
        let boards = {
            let mut gathering = self.gathering();
            if gathering.apart_until.is_some_and(|until| Instant::now() < until) {
                return None;
            }
            gathering.waiting.push_back(Member { instance, call, answer });
            !mem::replace(&mut gathering.boarding, true)
        };
        if boards {
            // A task of its own: who asked for it may stop waiting, and the others' calls must not end with that.
            tokio::spawn(Arc::clone(self).board());
        }
        answered.await.unwrap_or(None)
    }

    /// Sends all who wait, and ends.
    async fn board(self: Arc<Self>) {
        // Whoever is ready just now gets aboard.
        tokio::task::yield_now().await;
        loop {
            let Some(mut members) = self.gathering().next(self.count_max) else { return };
            self.sizes.record(u32::try_from(members.len()).unwrap_or(u32::MAX));
            if members.len() > 1 {
                tokio::spawn(Arc::clone(&self).send(members));
            } else if let Some(member) = members.pop() {
                // It waits no more if nobody receives this.
                let _ = member.answer.send(None);
            }
        }
    }

    async fn send(self: Arc<Self>, members: Vec<Member>) {
        let outcomes = match self.outcomes(&members).await {
            Ok(outcomes) => {
                self.gathering().pauses.reset();
                outcomes.into_iter().map(Some).collect()
            }
            Err(why) => {
                let apart = self.gathering().part();
                self.failed.increment(1);
                tracing::warn!(
                    url = self.url,
                    calls = members.len(),
                    why,
                    apart_s = apart.as_secs(),
                    "a batch was not answered do by do; each goes alone"
                );
                vec![None; members.len()]
            }
        };
        for (member, outcome) in members.into_iter().zip(outcomes) {
            let _ = member.answer.send(outcome);
        }
    }

    async fn outcomes(&self, members: &[Member]) -> Result<Vec<CallOutcome>, String> {
        let body = Body { calls: members.iter().map(|member| &*member.call).collect() };
        let request = self.client.post(&self.url).json(&body).timeout(self.timeout);
        let response = request.send().await.map_err(|error| match error {
            error if error.is_timeout() => "timeout".to_owned(),
            error if error.is_connect() => "no connection".to_owned(),
            _ => "connection lost".to_owned(),
        })?;
        let status = response.status();
        if !status.is_success() {
            return Err(status.to_string());
        }
        let instances: Vec<_> = members.iter().map(|member| &*member.instance).collect();
        classify_batch(response, &instances).await
    }

    fn gathering(&self) -> MutexGuard<'_, Gathering> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathering {
    fn new() -> Self {
        let pauses = Delays::new(APART, APART_MAX);
        Self { waiting: VecDeque::new(), boarding: false, pauses, apart_until: None }
    }

    /// Every do goes alone for a while; how long.
    fn part(&mut self) -> Duration {
        let apart = self.pauses.next_delay();
        self.apart_until = Some(Instant::now() + apart);
        apart
    }

    /// Takes as many as fit, without those who wait no more. `None` when nothing waits: then the boarding is over.
    fn next(&mut self, count_max: usize) -> Option<Vec<Member>> {
        let (mut members, mut bytes) = (Vec::new(), 0);
        while members.len() < count_max
            && let Some(member) = self.waiting.pop_front()
        {
            let length = member.call.get().len();
            if member.answer.is_closed() {
                continue;
            }
            if !members.is_empty() && bytes + length > BYTES_MAX {
                self.waiting.push_front(member);
                break;
            }
            bytes += length;
            members.push(member);
        }
        self.boarding = !members.is_empty();
        self.boarding.then_some(members)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::to_raw_value;

    use super::*;

    /// Members of these sizes, and whoever waits for them.
    fn waiting(sizes: &[usize]) -> (Gathering, Vec<oneshot::Receiver<Option<CallOutcome>>>) {
        let mut gathering = Gathering { boarding: true, ..Gathering::new() };
        let wait = |(number, size): (usize, &usize)| {
            let (answer, answered) = oneshot::channel();
            let call = to_raw_value(&"x".repeat(*size)).unwrap();
            gathering.waiting.push_back(Member { instance: number.to_string(), call, answer });
            answered
        };
        let answers = sizes.iter().enumerate().map(wait).collect();
        (gathering, answers)
    }

    fn batches(gathering: &mut Gathering, count_max: usize) -> Vec<String> {
        let names = |batch: Vec<Member>| batch.into_iter().map(|member| member.instance).collect::<String>();
        let batches = std::iter::from_fn(|| gathering.next(count_max)).map(names).collect();
        assert!(!gathering.boarding, "the boarding is over when nothing waits");
        batches
    }

    #[test]
    fn a_batch_is_bounded_in_dos_and_in_bytes_but_for_a_single_one() {
        let (mut gathering, _answers) = waiting(&[1; 7]);
        assert_eq!(batches(&mut gathering, 3), ["012", "345", "6"]);
        let large = [BYTES_MAX / 2, BYTES_MAX / 3, BYTES_MAX / 3, 2 * BYTES_MAX, 1];
        let (mut gathering, _answers) = waiting(&large);
        assert_eq!(batches(&mut gathering, 9), ["01", "2", "3", "4"]);
    }

    #[test]
    fn who_waits_no_more_is_not_sent() {
        let (mut gathering, mut answers) = waiting(&[1; 3]);
        drop(answers.remove(1));
        assert_eq!(batches(&mut gathering, 9), ["02"]);
    }
}
