//! Posting orders over a fixed number of connections: as fast as answers come (closed loop), or by a schedule (open loop).

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::Full;
use hyper::{Method, Request, header};
use tokio::{
    sync::{
        Mutex,
        mpsc::{UnboundedReceiver, unbounded_channel},
    },
    task::JoinSet,
};

use super::{bodies::Bodies, connection::Connection, schedule::Schedule};

/// Longer latencies are counted as this one.
const LATENCY_MAX: Duration = Duration::from_secs(600);

/// What is posted and where.
#[derive(Debug, Clone)]
pub(super) struct Posting {
    pub(super) address: SocketAddr,
    pub(super) api_key: String,
    pub(super) bodies: Arc<Bodies>,
    /// Begins every idempotency key: no two loads of a run share one.
    pub(super) name: String,
    /// Number of the first order, added to that of the pace.
    pub(super) first: u32,
}

/// When the next order is sent.
#[derive(Debug)]
pub(super) enum Pace {
    /// At once, until so many have been sent or the time is over.
    Closed { orders: u32, until: Option<Instant> },
    /// When its time has come.
    Open(Schedule),
}

/// What came of a load.
#[derive(Debug)]
pub(super) struct Answers {
    /// The numbers of the orders that were answered 202.
    pub(super) accepted: Vec<u32>,
    /// Other answers by status; 0 for none at all.
    pub(super) others: BTreeMap<u16, u64>,
    /// Of the accepted, from the intended moment to the answer, in microseconds.
    pub(super) latency: Histogram<u64>,
    /// Of the accepted, from the moment it was really sent.
    pub(super) service: Histogram<u64>,
    /// From the first request to the last answer.
    pub(super) took: Duration,
}

enum Numbers {
    Closed { next: AtomicU32, orders: u32, until: Option<Instant> },
    Open(Mutex<UnboundedReceiver<(u32, Instant)>>),
}

impl Posting {
    /// The idempotency key of an order.
    pub(super) fn key(&self, number: u32) -> String {
        format!("{}-{number}", self.name)
    }

    /// Posts over so many connections until the pace ends and everything is answered.
    pub(super) async fn run(&self, connections: u32, pace: Pace) -> Answers {
        let numbers = Arc::new(match pace {
            Pace::Closed { orders, until } => Numbers::Closed { next: AtomicU32::new(0), orders, until },
            Pace::Open(schedule) => {
                let (sender, receiver) = unbounded_channel();
                std::thread::spawn(move || schedule.pace(&sender));
                Numbers::Open(Mutex::new(receiver))
            }
        });
        let begun = Instant::now();
        let mut clients = JoinSet::new();
        for _ in 0..connections {
            clients.spawn(self.clone().client(Arc::clone(&numbers)));
        }
        let mut answers = Answers::new();
        while let Some(of_one) = clients.join_next().await {
            answers.add(of_one.expect("a client does not panic"));
        }
        answers.took = begun.elapsed();
        answers
    }

    async fn client(self, numbers: Arc<Numbers>) -> Answers {
        let mut connection = Connection::new(self.address);
        let mut answers = Answers::new();
        while let Some((number, intended)) = numbers.next().await {
            let (number, sent) = (self.first + number, Instant::now());
            match connection.send(self.request(number)).await {
                Ok(202) => {
                    record(&mut answers.latency, intended.elapsed());
                    record(&mut answers.service, sent.elapsed());
                    answers.accepted.push(number);
                }
                other => *answers.others.entry(other.unwrap_or(0)).or_default() += 1,
            }
        }
        answers
    }

    fn request(&self, number: u32) -> Request<Full<Bytes>> {
        Request::builder()
            .method(Method::POST)
            .uri("/v1/orders")
            .header(header::HOST, "bench")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.api_key))
            .header(header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", self.key(number))
            .body(Full::new(self.bodies.of(number)))
            .expect("the parts are well-formed")
    }
}

impl Numbers {
    async fn next(&self) -> Option<(u32, Instant)> {
        match self {
            Self::Closed { next, orders, until } => {
                let now = Instant::now();
                if until.is_some_and(|until| now >= until) {
                    return None;
                }
                let number = next.fetch_add(1, Ordering::Relaxed);
                (number < *orders).then_some((number, now))
            }
            Self::Open(numbers) => numbers.lock().await.recv().await,
        }
    }
}

impl Answers {
    fn new() -> Self {
        Self {
            accepted: Vec::new(),
            others: BTreeMap::new(),
            latency: histogram(),
            service: histogram(),
            took: Duration::ZERO,
        }
    }

    fn add(&mut self, other: Self) {
        self.accepted.extend(other.accepted);
        for (status, count) in other.others {
            *self.others.entry(status).or_default() += count;
        }
        self.latency.add(other.latency).expect("the bounds are the same");
        self.service.add(other.service).expect("the bounds are the same");
    }

    /// Orders accepted per second.
    pub(super) fn rate(&self) -> f64 {
        count(self.accepted.len()) / self.took.as_secs_f64()
    }

    /// Orders that were answered at all, or were not.
    pub(super) fn sent(&self) -> u64 {
        self.accepted.len() as u64 + self.others.values().sum::<u64>()
    }
}

/// An empty histogram of microseconds, three digits fine.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, micros(LATENCY_MAX), 3)
        .expect("the bounds are in order and 3 digits allowed")
}

/// Counts a latency.
pub(super) fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    histogram.saturating_record(micros(latency));
}

/// A percentile in milliseconds.
pub(super) fn percentile_ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    Duration::from_micros(histogram.value_at_quantile(quantile)).as_secs_f64() * 1_000.0
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A number of orders to compute with.
#[expect(clippy::cast_precision_loss, reason = "numbers of orders are far below 2^52")]
pub(super) fn count(orders: usize) -> f64 {
    orders as f64
}
