//! A fleet whose publisher reaches the broker over a link that can fail, while the test's own connection cannot.

use std::sync::Arc;

use orderfleet_sandbox::proxy::{FaultProxy, Link, LinkSpec, ProxyOptions};

use super::Fleet;

/// A fleet behind a fault proxy, with a single publishing connection.
pub(crate) struct Faulty {
    pub(crate) fleet: Fleet,
    proxy: FaultProxy,
}

impl Faulty {
    pub(crate) async fn new() -> Self {
        let mut fleet = Fleet::new().await;
        let (credentials, place) = fleet.settings.url.rsplit_once('@').unwrap();
        let (target, vhost) = place.split_once('/').unwrap();
        let link = LinkSpec::on_free_port("broker", target);
        let proxy = FaultProxy::start(ProxyOptions::on_free_port(vec![link])).await.unwrap();
        let address = proxy.links()[0].address();
        fleet.settings.url = format!("{credentials}@{address}/{vhost}");
        fleet.settings.publish_connections = 1;
        Self { fleet, proxy }
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.proxy.links()[0]
    }

    /// Connections that were opened so far.
    pub(crate) fn opened(&self) -> u64 {
        self.link().status().connections.accepted
    }
}
