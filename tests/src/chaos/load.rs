//! Shops that post orders at a steady pace, whatever the answers: open-loop, well below what the fleet can take.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use reqwest::Client;
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    Answer,
    chaos::{
        Answered, Asked, Attempt, ClientLog, Identity,
        bodies::{body, crashing_body},
    },
};

/// How long a client repeats a request that was not answered.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two requests for the same order.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(8);
/// Between a 202 and the repeat of its request, at most.
const REPEAT_AFTER_MAX_MS: u64 = 8_000;
/// Between a 202 and the wish to cancel, at most: short, so that some come in time.
const CANCEL_AFTER_MAX_MS: u64 = 300;
const READ_EVERY: Duration = Duration::from_millis(200);

/// A shop.
#[derive(Debug, Clone)]
pub struct Shop {
    /// Its account.
    pub account: String,
    /// Its home region.
    pub region: String,
    /// Its API key.
    pub api_key: String,
}

/// The load and where it goes.
#[derive(Debug)]
pub struct Load {
    /// Client for all requests; it has a timeout.
    pub http: Client,
    /// Base addresses of the producers.
    pub producers: Vec<String>,
    /// Base address of the query service.
    pub query: String,
    /// Who orders.
    pub shops: Vec<Shop>,
    /// Decides what is ordered.
    pub seed: u64,
    /// Orders per second.
    pub rate: u32,
    /// Where everything is noted.
    pub log: Arc<ClientLog>,
    /// How many orders over which workers abort there have been.
    pub crashing: AtomicU64,
}

/// One order as its client knows it.
#[derive(Debug, Clone)]
pub(super) struct Posting {
    shop: Shop,
    key: String,
    body: Value,
    pub(super) identity: Identity,
}

/// What a client does with an answer.
enum Then {
    Accepted,
    Refused,
    Repeat,
}

impl Load {
    /// Posts orders until it is told to stop, then waits until every client has its answer or has given up.
    pub async fn run(self: Arc<Self>, stop: Arc<AtomicBool>) {
        let mut every = interval(Duration::from_secs(1) / self.rate.max(1));
        every.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut clients = JoinSet::new();
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            every.tick().await;
            clients.spawn(Arc::clone(&self).client(number));
            while clients.try_join_next().is_some() {}
        }
        while clients.join_next().await.is_some() {}
    }

    /// Reads accepted orders again and again, to see that an end that was shown stays. Runs until it is dropped.
    pub async fn read(self: Arc<Self>) {
        let mut rng = Rng::with_seed(self.seed ^ 0x5eed);
        loop {
            sleep(READ_EVERY).await;
            let Some((identity, account)) = self.log.any_accepted(&mut rng) else { continue };
            let Some(shop) = self.shops.iter().find(|shop| shop.account == account) else { continue };
            let url = format!("{}/v1/orders/{}", self.query, identity.order_id);
            let Ok(response) = self.http.get(url).bearer_auth(&shop.api_key).send().await else { continue };
            let Ok(answer) = Answer::read(response).await else { continue };
            let order = answer.json();
            let ended = order["status"] == "DONE" || (order["status"] == "UNDONE" && order["final"] == true);
            if let Some(status) = order["status"].as_str().filter(|_| ended) {
                self.log.shown(&identity.order_id, status);
            }
        }
    }

    /// One client with one order, or with two bodies under one key.
    async fn client(self: Arc<Self>, number: u64) {
        let mut rng = Rng::with_seed(self.seed.wrapping_mul(1_000_003).wrapping_add(number));
        let key = format!("order-{number}");
        let shop = &self.shops[rng.usize(..self.shops.len())];
        let first = self.posting(shop, &key, body(&mut rng));
        match rng.u32(..100) {
            0 => {
                let second = self.posting(shop, &key, body(&mut rng));
                tokio::join!(self.place(&first, 0), self.place(&second, 1));
            }
            1 => {
                if self.place(&first, 0).await {
                    sleep(Duration::from_millis(rng.u64(..REPEAT_AFTER_MAX_MS))).await;
                    self.place(&first, 1).await;
                }
            }
            2 => {
                if self.place(&first, 0).await {
                    sleep(Duration::from_millis(rng.u64(..CANCEL_AFTER_MAX_MS))).await;
                    self.cancel(&first).await;
                }
            }
            other => {
                let producer = usize::from(other % 2 == 0);
                self.place(&first, producer).await;
            }
        }
    }

    /// One more order over which workers abort, not posted yet.
    pub(super) fn crashing_order(&self) -> Posting {
        let number = self.crashing.fetch_add(1, Ordering::Relaxed);
        let mut rng = Rng::with_seed(self.seed.wrapping_add(number));
        let key = format!("crashing-{number}");
        self.posting(&self.shops[0], &key, crashing_body(&mut rng))
    }

    fn posting(&self, shop: &Shop, key: &str, body: Value) -> Posting {
        let (identity, attempt) = Attempt::expect(&shop.account, &shop.region, key, &body)
            .expect("generated bodies are valid, as their test says");
        self.log.attempt(&identity, attempt, key, &body);
        Posting { shop: shop.clone(), key: key.to_owned(), body, identity }
    }

    /// Posts an order until it is accepted, refused, or patience ends. Whether it was accepted.
    pub(super) async fn place(&self, posting: &Posting, first_producer: usize) -> bool {
        let path = "/v1/orders";
        let request = |url: String| {
            let request = self.http.post(url).header("Idempotency-Key", &posting.key);
            request.json(&posting.body)
        };
        let judge = |answer: &Answer| match answer.status {
            202 => {
                self.check_accepted(posting, answer);
                self.log.accepted(&posting.identity);
                Then::Accepted
            }
            422 if answer.problem() == "key-reused" => Then::Refused,
            503 => Then::Repeat,
            other => {
                let about = &posting.identity.order_id;
                self.log.broken_answer(format!("POST of {about} answered {other}: {}", answer.text));
                Then::Refused
            }
        };
        self.until_answered(posting, Asked::Place, first_producer, path, request, judge).await
    }

    async fn cancel(&self, posting: &Posting) -> bool {
        self.log.cancel(&posting.identity);
        let path = format!("/v1/orders/{}/cancel", posting.identity.order_id);
        let judge = |answer: &Answer| match answer.status {
            200..300 => {
                self.log.cancel_accepted(&posting.identity);
                Then::Accepted
            }
            503 => Then::Repeat,
            _ => Then::Refused,
        };
        self.until_answered(posting, Asked::Cancel, 0, &path, |url| self.http.post(url), judge).await
    }

    async fn until_answered(
        &self,
        posting: &Posting,
        asked: Asked,
        first_producer: usize,
        path: &str,
        request: impl Fn(String) -> reqwest::RequestBuilder,
        judge: impl Fn(&Answer) -> Then,
    ) -> bool {
        let started = Instant::now();
        for turn in first_producer.. {
            let producer = turn % self.producers.len();
            let url = format!("{}{path}", self.producers[producer]);
            let sent = Instant::now();
            let answer = send(request(url).bearer_auth(&posting.shop.api_key)).await;
            self.log.answered(sent, producer, asked, &posting.identity, &shown(&answer));
            match answer.as_ref().map_or(Then::Repeat, &judge) {
                Then::Accepted => return true,
                Then::Refused => return false,
                Then::Repeat if started.elapsed() > PATIENCE => return false,
                Then::Repeat => sleep(pause(turn - first_producer)).await,
            }
        }
        false
    }

    fn check_accepted(&self, posting: &Posting, answer: &Answer) {
        let (accepted, identity) = (answer.json(), &posting.identity);
        if accepted["order_id"] != *identity.order_id || accepted["fingerprint"] != *identity.fp {
            self.log.broken_answer(format!("the 202 for {identity:?} says {accepted}"));
        }
    }
}

/// Longer after every repeat, up to some seconds, and never the same for two clients.
fn pause(repeats: usize) -> Duration {
    let longest = PAUSE_MIN.saturating_mul(1 << repeats.min(8)).min(PAUSE_MAX);
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}

async fn send(request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
    Answer::read(request.send().await?).await
}

fn shown(answer: &reqwest::Result<Answer>) -> Answered {
    match answer {
        Ok(answer) => Answered::Status { status: answer.status, problem: answer.problem() },
        Err(error) => Answered::Nothing { error: chain(error) },
    }
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
