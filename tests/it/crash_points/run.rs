//! Crashes one process after the other, each at its point, over orders of one way; a healthy worker finishes every round.

use std::{collections::BTreeMap, env, fmt::Write as _};

use fastrand::Rng;
use orderfleet_native::Signal;
use orderfleet_runtime::crash;
use orderfleet_tests::{
    Broker, Fleet, Member,
    chaos::{Clients, Requests},
    until,
};

use super::life::Life;

const ROUNDS: u32 = 3;
/// As a shell tells of a process that was ended by SIGKILL.
const KILLED: Option<i32> = Some(137);
/// A queue that gets every event.
pub(super) const EVENTS: &str = "events.seen";
/// Tries at a crash that has to come after a signal and may come before it.
const TRIES_MAX: u32 = 20;

/// A fleet whose orders all take one way, and what is known of them.
pub(super) struct Run {
    pub(super) life: Life,
    pub(super) fleet: Fleet,
    pub(super) broker: Broker,
    pub(super) clients: Clients,
    /// Further runs that were asked for.
    pub(super) asked: Requests,
    /// Orders that are at the start of this round's way, for the ways that do not begin with a new order.
    pub(super) ready: Vec<String>,
    /// Orders of which only dead letters are known.
    pub(super) parked: Vec<String>,
    /// How often the log of a crashed process named a point that was to be hit.
    pub(super) hits: BTreeMap<&'static str, u32>,
    pub(super) posted: u32,
    pub(super) started: u32,
}

/// Has a process crash at every point of a way, as often as there are rounds, and judges what is left.
pub(super) async fn crash_everywhere(life: Life) {
    let rounds = env::var("ORDERFLEET_CRASH_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut run = Run::start(life).await;
    for round in 0..rounds {
        run.round(round).await;
    }
    let told = run.table();
    assert!(run.hits.values().all(|hits| *hits >= rounds), "{told}");
    run.judge().await;
    eprint!("{told}");
}

impl Run {
    async fn start(life: Life) -> Self {
        let fleet = Fleet::start_as(life.plan()).await;
        let broker = fleet.broker().await;
        broker.keep(EVENTS, "orders.events", "#").await;
        let hits = life.points().into_iter().map(|(point, _)| (point, 0)).collect();
        let (clients, asked) = (Clients::default(), Requests::default());
        let (ready, parked) = (Vec::new(), Vec::new());
        Self { life, fleet, broker, clients, asked, ready, parked, hits, posted: 0, started: 0 }
    }

    /// Every point once, in another order each time, so that orders which crashed one worker crash the next elsewhere; the
    /// later the round, the later the passing. A round is short enough for the delivery limit.
    async fn round(&mut self, round: u32) {
        let mut points = self.life.points();
        Rng::with_seed(round.into()).shuffle(&mut points);
        self.prepare(points.len()).await;
        for (point, passings) in points {
            self.crash(point, 1 + round % passings).await;
        }
        if matches!(self.life, Life::Deferring | Life::Draining | Life::Cancelling) {
            self.fleet.sandbox.heal().await;
        }
        self.drain().await;
    }

    /// Brings orders to the start of the way.
    async fn prepare(&mut self, crashes: usize) {
        self.fleet.sandbox.heal().await;
        self.ready.clear();
        let orders = match self.life {
            life if life.starts_done() => 1,
            Life::Replaying => crashes,
            _ => 0,
        };
        self.life.harm(&self.fleet.sandbox).await;
        for _ in 0..orders {
            let placed = self.post().await;
            self.ready.push(placed);
        }
        if orders > 0 {
            self.drain().await;
        }
        if self.life == Life::Replaying {
            self.fleet.sandbox.heal().await;
        }
    }

    async fn crash(&mut self, point: &'static str, passing: u32) {
        match self.life {
            Life::Accepting | Life::AcceptingCancels => self.crash_producer(point).await,
            Life::Draining => {
                let mut tries = 0;
                while !self.crash_while_draining(point, passing).await {
                    tries += 1;
                    assert!(tries < TRIES_MAX, "no worker came to {point} while draining");
                }
            }
            life => {
                let fed = self.feed().await;
                if let Some(first) = life.crashes_first_at(point) {
                    self.crash_worker(first, 1, &fed).await;
                }
                self.crash_worker(point, passing, &fed).await;
                if life == Life::Parking {
                    // What ends several workers that read it is not read again.
                    self.drain().await;
                }
            }
        }
    }

    async fn crash_worker(&mut self, point: &'static str, passing: u32, order_id: &str) {
        let mut worker = self.worker(point, passing);
        if self.life == Life::Cancelling {
            self.cancel_while_a_call_hangs(&mut worker, order_id).await;
        }
        let ended = worker.ended(&format!("crashes at {point}")).await;
        self.count_crash(&worker, ended, point);
        // Or the next message comes to the next worker as one that was delivered before.
        self.fleet.broker().await.until_unconsumed("orders.new.0").await;
    }

    fn worker(&mut self, point: &str, passing: u32) -> Member {
        self.started += 1;
        self.fleet.start_crashing_worker(&format!("crashing-{}", self.started), point, passing)
    }

    /// An earlier cancel may crash the worker before.
    async fn cancel_while_a_call_hangs(&mut self, worker: &mut Member, order_id: &str) {
        let hangs = until("the order is at fulfilment", async || {
            let order = self.fleet.client.order(order_id).await.json();
            let hangs = order["steps"][1]["state"] == "running";
            if hangs || !worker.is_running() { Ok(hangs) } else { Err(order) }
        });
        if hangs.await {
            self.clients.cancels.insert(order_id.to_owned());
            assert_eq!(self.fleet.client.cancel(order_id).await.status, 202);
            self.clients.cancels_accepted.insert(order_id.to_owned());
        }
    }

    /// Whether the worker crashed after it was told to end, and not by an earlier order before, or not at all.
    async fn crash_while_draining(&mut self, point: &'static str, passing: u32) -> bool {
        let order_id = self.post().await;
        let mut worker = self.worker(point, passing);
        let is_in_hand = until("the order is in hand", async || {
            let order = self.fleet.client.order(&order_id).await.json();
            let is_in_hand = order["status"] == "RUN";
            if is_in_hand || !worker.is_running() { Ok(is_in_hand) } else { Err(order) }
        });
        let is_in_hand = is_in_hand.await && worker.is_running();
        worker.signal(Signal::Term);
        let ended = worker.ended(&format!("crashes at {point}, or ends")).await;
        if ended == Some(0) {
            return false;
        }
        assert_crashed(&worker, ended, point);
        if is_in_hand {
            self.count(point);
        }
        is_in_hand
    }

    /// The client gets no answer and repeats its request to another producer.
    async fn crash_producer(&mut self, point: &'static str) {
        self.started += 1;
        let name = format!("crashing-{}", self.started);
        let (mut producer, client) = self.fleet.start_crashing_producer(&name, point).await;
        if self.life == Life::AcceptingCancels {
            let order_id = self.ready[0].clone();
            self.clients.cancels.insert(order_id.clone());
            assert!(client.try_cancel(&order_id).await.is_err(), "no answer");
            assert_eq!(self.fleet.client.cancel(&order_id).await.status, 202);
            self.clients.cancels_accepted.insert(order_id);
        } else {
            let (key, body) = self.next_order();
            assert!(client.try_post(0, &key, &body).await.is_err(), "no answer");
            self.accept(&key, &body).await;
        }
        let ended = producer.ended(&format!("crashes at {point}")).await;
        self.count_crash(&producer, ended, point);
    }

    fn count_crash(&mut self, process: &Member, ended: Option<i32>, point: &str) {
        assert_crashed(process, ended, point);
        self.count(point);
    }

    /// A point at which a worker crashes only to bring a message to another one may be none of the table.
    fn count(&mut self, point: &str) {
        if let Some(hits) = self.hits.get_mut(point) {
            *hits += 1;
        }
    }

    fn table(&self) -> String {
        let mut table = String::new();
        for (point, hits) in &self.hits {
            let _ = writeln!(table, "{point:<36} {:<18} {hits:>4}", format!("{:?}", self.life));
        }
        table
    }
}

/// Checks that a process has ended by SIGKILL, and that its own log says once that it did so at this point.
fn assert_crashed(process: &Member, ended: Option<i32>, point: &str) {
    let (log, evidence) = (process.log(), format!("{}{point}", crash::EVIDENCE));
    let hits = log.lines().filter(|line| *line == evidence).count();
    assert!(ended == KILLED && hits == 1, "{ended:?}, {hits} x {point}:\n{log}");
}
