//! What a person needs to know once the fleet is ready.

use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use orderfleet_domain::{AccountId, IdempotencyKey, OrderId, Region};

use super::folder::{DEMO_ACCOUNT, DEMO_KEY, DEMO_REGION, Folder};
use super::settings::Endpoints;

const FIRST_KEY: &str = "first-order";
const FIRST_ORDER: &str = r#"{"channel": "retail", "currency": "GBP", "payment_ref": "pay_1", "ship_to": {"country": "GB"},
       "lines": [{"sku": "85123A", "quantity": 6, "unit_price": "2.55"}]}"#;

pub(super) struct Announcement<'a> {
    folder: &'a Folder,
    endpoints: &'a Endpoints,
    first_order: OrderId,
}

impl<'a> Announcement<'a> {
    pub(super) fn new(folder: &'a Folder, endpoints: &'a Endpoints) -> anyhow::Result<Self> {
        Ok(Self { folder, endpoints, first_order: first_order_id().context("the id of the first order")? })
    }
}

impl fmt::Display for Announcement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoints { producer_url, query_url, sandbox_url, .. } = self.endpoints;
        let folder = self.folder.shown();
        let key_file = shell_word(&folder.join(DEMO_KEY));
        let authorization = format!("-H \"Authorization: Bearer $(cat {key_file})\"");
        writeln!(f, "\nThe fleet is running.\n")?;
        writeln!(f, "  producer  {producer_url}")?;
        writeln!(f, "  query     {query_url}")?;
        writeln!(f, "  sandbox   {sandbox_url}  (plays inventory, fulfilment and accounting)")?;
        if self.endpoints.rabbitmqctl.is_some() {
            let script = shell_word(&folder.join("rabbitmq/rabbitmqctl"));
            writeln!(f, "  broker    {script} list_queues")?;
        }
        let Endpoints { producer_admin_url, query_admin_url, .. } = self.endpoints;
        writeln!(f, "  metrics   {producer_admin_url}/metrics and {query_admin_url}/metrics, also /readyz")?;
        writeln!(f, "  logs      {}", shell_word(&folder.join("logs")))?;
        writeln!(f, "\nPost an order:\n")?;
        writeln!(f, "  curl -i {producer_url}/v1/orders {authorization} \\")?;
        writeln!(f, "    -H 'Idempotency-Key: {FIRST_KEY}' -H 'Content-Type: application/json' \\")?;
        writeln!(f, "    -d '{FIRST_ORDER}'")?;
        writeln!(f, "\nSee what became of it; the Location of the answer is this URL:\n")?;
        writeln!(f, "  curl {query_url}/v1/orders/{} {authorization}", self.first_order)?;
        writeln!(f, "\nCtrl-C stops all of it; the data stays in {}.", folder.display())
    }
}

/// An order id is a function of the account and the key, so it is known before the order is posted.
fn first_order_id() -> anyhow::Result<OrderId> {
    let (region, account): (Region, AccountId) = (DEMO_REGION.parse()?, DEMO_ACCOUNT.parse()?);
    let key: IdempotencyKey = FIRST_KEY.parse()?;
    Ok(OrderId::derive(&region, &account, &key))
}

/// A path as a shell takes it: in quotes if it holds anything unusual.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unusual_path_is_quoted() {
        assert_eq!(shell_word(Path::new(".orderfleet/demo.key")), ".orderfleet/demo.key");
        assert_eq!(shell_word(Path::new("it's here")), r"'it'\''s here'");
    }

    #[test]
    fn the_first_order_has_an_id() {
        assert!(first_order_id().unwrap().as_str().starts_with("eu1-"));
    }
}
