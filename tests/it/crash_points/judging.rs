//! What is still open, and whether what is left in the end is right.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt as _;
use mongodb::bson::doc;
use orderfleet_domain::CommandKind;
use orderfleet_tests::{
    Count, SERVICES,
    chaos::{self, Counts, Evidence},
    until,
};

use super::{
    life::Life,
    posting::message,
    run::{EVENTS, Run},
};

const LONG_WAITS: [&str; 4] = ["orders.wait.30s", "orders.wait.2m", "orders.wait.10m", "orders.wait.1h"];

impl Run {
    /// Has a healthy worker finish everything.
    pub(super) async fn drain(&mut self) {
        loop {
            self.fleet.start_worker().await;
            until("every order has ended and nothing waits", async || {
                self.end_long_waits().await;
                let open = self.open().await;
                if open.is_empty() { Ok(()) } else { Err(open) }
            })
            .await;
            self.fleet.stop_workers().await;
            // A delivery in hand counts nowhere until it is given back.
            if self.open().await.is_empty() {
                return;
            }
        }
    }

    /// An order that met the failures of several crashes would wait for minutes.
    pub(super) async fn end_long_waits(&self) {
        if self.life != Life::Deferring {
            return;
        }
        for tier in LONG_WAITS {
            for message in self.broker.take_all(tier).await {
                self.broker.publish("orders.retry", &message.body).await;
            }
        }
    }

    /// What is not at its end.
    pub(super) async fn open(&self) -> BTreeMap<String, u64> {
        let orders = self.orders().await;
        let mut open = BTreeMap::new();
        for (what, filter) in [
            ("unfinished", doc! { "phase": { "$in": ["RUN", "COMP"] }, "hold": null }),
            ("owing", doc! { "evp": true }),
        ] {
            open.insert(what.to_owned(), orders.count_documents(filter).await.unwrap());
        }
        let stored = orders.count_documents(doc! {}).await.unwrap();
        let ids: BTreeSet<_> = self.clients.attempts.keys().map(|identity| &identity.order_id).collect();
        open.insert("not stored".to_owned(), (ids.len() as u64).saturating_sub(stored));
        let waiting = if self.life == Life::Parking {
            self.broker.depths().await
        } else {
            chaos::left_in_queues(&self.broker).await
        };
        open.extend(waiting.into_iter().map(|(queue, depth)| (queue, u64::from(depth))));
        open.retain(|_, count| *count > 0);
        open
    }

    /// Judges what is left, and whether it stays so when every order's message comes once more.
    pub(super) async fn judge(mut self) {
        if self.life == Life::Parking {
            return self.judge_parked().await;
        }
        let ledgers = chaos::ledgers(&self.fleet.sandbox).await;
        self.remind().await;
        self.drain().await;
        let (sandbox, database) = (&self.fleet.sandbox, self.fleet.mongodb().await);
        let evidence = Evidence {
            ledgers,
            ledgers_later: chaos::ledgers(sandbox).await,
            holdings: chaos::holdings(sandbox).await.unwrap(),
            stored: chaos::stored(&database).await.unwrap(),
            left_in_queues: chaos::left_in_queues(&self.broker).await,
            parked: chaos::parked(&self.broker).await,
            events: chaos::events(&self.broker, EVENTS).await,
            clients: std::mem::take(&mut self.clients),
            asked: std::mem::take(&mut self.asked),
            ..Evidence::default()
        };
        self.broker.remove(EVENTS).await;
        let verdict = chaos::judge(&evidence);
        assert_eq!(verdict.violations, [], "{:?}", self.life);
        assert!(ends_as_it_should(self.life, &verdict.counts), "{:?}: {:?}", self.life, verdict.counts);
    }

    /// One more message about every order, with all services well: nothing may come of it.
    async fn remind(&self) {
        self.fleet.sandbox.heal().await;
        let orders = self.orders().await.find(doc! {}).projection(doc! { "gen": 1 }).await.unwrap();
        for order in orders.try_collect::<Vec<_>>().await.unwrap() {
            let generation = u32::try_from(order.get_i64("gen").unwrap()).unwrap();
            let resume = message(order.get_str("_id").unwrap(), generation, None, CommandKind::Resume {});
            self.broker.publish("orders.retry", &resume).await;
        }
    }

    /// The order is held, once, and nothing was done for it.
    pub(super) async fn judge_parked(&self) {
        let letters = self.fleet.dead_letters().await;
        assert_eq!(letters.len(), self.parked.len(), "{letters:#?}");
        let effects = self.fleet.sandbox.effects().await;
        for order_id in &self.parked {
            self.fleet.client.until_ended(order_id, "HELD").await;
            let of_it =
                letters.values().filter(|letter| letter.get_str("order_id").is_ok_and(|of| of == order_id));
            assert_eq!(of_it.count(), 1, "{order_id}");
            for service in SERVICES {
                assert_eq!(effects.of(service, order_id), Count::default(), "{order_id} at {service}");
            }
        }
        self.broker.remove(EVENTS).await;
    }
}

/// Whether the orders went the way they were to go, and no other.
fn ends_as_it_should(life: Life, counts: &Counts) -> bool {
    let all = counts.accepted;
    match life {
        Life::Compensating | Life::Failing => counts.undone == all,
        Life::Holding => counts.held == all,
        Life::Cancelling => counts.undone > 0 && counts.undone + counts.done == all,
        Life::Conflicting => counts.conflict > 0 && counts.conflict + counts.done == all,
        _ => counts.done == all,
    }
}
