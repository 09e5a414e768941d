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
    answer: oneshot::Sender<Joined>,
}

/// What became of a do that was to go in a batch.
#[derive(Debug, Clone)]
pub(crate) enum Joined {
    Answered(CallOutcome),
    /// Not sent: there are no others, or none goes in a batch just now. It is to go alone.
    NotSent,
    /// Sent, and nobody said what became of it. It is to be repeated alone.
    Sent,
}

/// A batch that tells of no do what became of it.
struct Unanswered {
    why: String,
    joined: Joined,
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

    /// Sends the do of this instance, a member of `calls`, with the others that are ready just now. An outcome is of this do and
    /// of no other. Who stops waiting may have been sent all the same.
    pub(crate) async fn join(self: &Arc<Self>, instance: String, call: Box<RawValue>) -> Joined {
        let (answer, answered) = oneshot::channel();
        let boards = {
            let mut gathering = self.gathering();
            if gathering.apart_until.is_some_and(|until| Instant::now() < until) {
                return Joined::NotSent;
            }
            gathering.waiting.push_back(Member { instance, call, answer });
            !mem::replace(&mut gathering.boarding, true)
        };
        if boards {
            // A task of its own: who asked for it may stop waiting, and the others' calls must not end with that.
            tokio::spawn(Arc::clone(self).board());
        }
        answered.await.unwrap_or(Joined::Sent)
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
                let _ = member.answer.send(Joined::NotSent);
            }
        }
    }

    async fn send(self: Arc<Self>, members: Vec<Member>) {
        let joined = match self.outcomes(&members).await {
            Ok(outcomes) => {
                self.gathering().pauses.reset();
                outcomes.into_iter().map(Joined::Answered).collect()
            }
            Err(Unanswered { why, joined }) => {
                let apart = self.gathering().part(Instant::now());
                self.failed.increment(1);
                tracing::warn!(
                    url = self.url,
                    calls = members.len(),
                    why,
                    apart_s = apart.as_secs(),
                    "a batch was not answered do by do; each goes alone"
                );
                vec![joined; members.len()]
            }
        };
        for (member, joined) in members.into_iter().zip(joined) {
            let _ = member.answer.send(joined);
        }
    }

    async fn outcomes(&self, members: &[Member]) -> Result<Vec<CallOutcome>, Unanswered> {
        let body = Body { calls: members.iter().map(|member| &*member.call).collect() };
        let request = self.client.post(&self.url).json(&body).timeout(self.timeout);
        let response = request.send().await.map_err(|error| match error {
            error if error.is_connect() => {
                Unanswered { why: "no connection".into(), joined: Joined::NotSent }
            }
            error if error.is_timeout() => Unanswered { why: "timeout".into(), joined: Joined::Sent },
            _ => Unanswered { why: "connection lost".into(), joined: Joined::Sent },
        })?;
        let status = response.status();
        if !status.is_success() {
            return Err(Unanswered { why: status.to_string(), joined: Joined::Sent });
        }
        let instances: Vec<_> = members.iter().map(|member| &*member.instance).collect();
        let outcomes = classify_batch(response, &instances).await;
        outcomes.map_err(|why| Unanswered { why, joined: Joined::Sent })
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

    /// Every do goes alone for a while; how much longer. Batches that were under way together fail together, which is one failure.
    fn part(&mut self, now: Instant) -> Duration {
        let left = self.apart_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        if !left.is_zero() {
            return left;
        }
        let apart = self.pauses.next_delay();
        self.apart_until = Some(now + apart);
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
    fn waiting(sizes: &[usize]) -> (Gathering, Vec<oneshot::Receiver<Joined>>) {
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

    #[test]
    fn failures_of_the_same_time_are_one_and_further_ones_keep_dos_apart_for_longer() {
        let (mut gathering, now) = (Gathering::new(), Instant::now());
        let first = gathering.part(now);
        assert_eq!(gathering.part(now), first);
        assert!(first >= APART / 2 && first <= APART * 2, "{first:?}");
        let mut later = now;
        for _ in 0..20 {
            later = gathering.apart_until.unwrap();
            gathering.part(later);
        }
        let longest = gathering.apart_until.unwrap() - later;
        assert!(longest >= APART_MAX / 2 && longest <= APART_MAX * 2, "{longest:?}");
    }
}
