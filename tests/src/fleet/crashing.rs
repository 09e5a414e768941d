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
        let (producer, client, _) = self.start_producer_with(name, &[], &[(CRASH_AT, point)]).await;
        (producer, client)
    }

    /// Starts one more producer with these settings, such as `producer.acceptance_log=/dev/full`, and variables in its environment.
    /// Returns a client of its and where it serves `/metrics`, too.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start_producer_with(
        &self,
        name: &str,
        sets: &[&str],
        variables: &[(&str, &str)],
    ) -> (Member, Client, String) {
        let log = self.folder.path().join(format!("acceptance-{name}.jsonl"));
        let mut all = vec![
            format!("producer.order_url={}", self.client.query_url),
            format!("producer.acceptance_log={}", log.display()),
        ];
        all.extend(sets.iter().map(|set| (*set).to_owned()));
        let mut command = self.command(PRODUCER, &all);
        command.envs(variables.iter().copied());
        let mut producer = Member::start(self.folder.path(), name, &command);
        let addresses = producer.addresses().await;
        self.until_ready(&format!("http://{}/readyz", addresses.admin)).await;
        let producer_urls = vec![format!("http://{}", addresses.listen.unwrap())];
        let client = Client { producer_urls, ..self.client.clone() };
        (producer, client, addresses.admin.to_string())
    }
}
