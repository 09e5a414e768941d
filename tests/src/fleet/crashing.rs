//! Processes of a fleet that are told to crash.

use super::{Fleet, PRODUCER};
use crate::{Client, Member};

const CRASH_AT: &str = "ORDERFLEET_CRASH_AT";

impl Fleet {
    /// Starts a worker that ends itself at a passing of a crash point, counted from 1. Nothing is waited for.
    #[must_use]
    pub fn start_crashing_worker(&self, name: &str, point: &str, passing: u32) -> Member {
        self.start_worker_with(name, &[(CRASH_AT, &format!("{point}:{passing}"))])
    }

    /// Starts one more producer, which ends itself at the first passing of a crash point, and a client of its.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start_crashing_producer(&self, name: &str, point: &str) -> (Member, Client) {
        let log = self.folder.path().join(format!("acceptance-{name}.jsonl"));
        let sets = [
            format!("producer.order_url={}", self.client.query_url),
            format!("producer.acceptance_log={}", log.display()),
        ];
        let mut command = self.command(PRODUCER, &sets);
        command.env(CRASH_AT, point);
        let mut producer = Member::start(self.folder.path(), name, &command);
        let addresses = producer.addresses().await;
        self.until_ready(&format!("http://{}/readyz", addresses.admin)).await;
        let producer_urls = vec![format!("http://{}", addresses.listen.unwrap())];
        (producer, Client { producer_urls, ..self.client.clone() })
    }
}
