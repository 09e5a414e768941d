//! The fault proxies between the parts of the fleet, as seen through their control port.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use anyhow::Context as _;
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Member, chaos::Harm, member};

const PROXY: &str = "orderfleet-fault-proxy";
const LISTENS: &str = "fault proxy control on ";

const DELAY_MS: u64 = 400;
/// From the first lost reply to the end of its connection.
const CLOSE_AFTER_MS: u64 = 300;

/// One link: who connects to `listen` reaches `target`.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) name: String,
    pub(super) listen: SocketAddr,
    pub(super) target: SocketAddr,
}

/// All links, in one proxy process that nobody harms.
#[derive(Debug)]
pub struct Links {
    listens: BTreeMap<String, SocketAddr>,
    http: Client,
    control_url: String,
    _proxy: Member,
}

/// How much a kind of harm has really hit on a link so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Hits {
    /// Connections.
    pub connections: u64,
    /// Bytes withheld, delayed or thrown away.
    pub bytes: u64,
}

impl Links {
    pub(super) async fn start(folder: &Path, http: &Client, routes: Vec<Route>) -> anyhow::Result<Self> {
        let mut command = member::command(PROXY);
        for Route { name, listen, target } in &routes {
            command.arg("--link").arg(format!("{name}={listen}={target}"));
        }
        command.args(["--control", "127.0.0.1:0"]);
        let mut proxy = Member::start(folder, "fault-proxy", &command);
        let control_url = proxy
            .logged("where it listens", |line| line.split_once(LISTENS).map(|(_, url)| url.trim().to_owned()))
            .await;
        let listens = routes.into_iter().map(|route| (route.name, route.listen)).collect();
        Ok(Self { listens, http: http.clone(), control_url, _proxy: proxy })
    }

    /// Where a link listens.
    ///
    /// # Panics
    /// When there is no such link.
    #[must_use]
    pub fn listen(&self, link: &str) -> SocketAddr {
        self.listens[link]
    }

    /// Harms a link until [`Links::heal`]; a harm before is replaced.
    ///
    /// # Errors
    /// When the proxy does not take it.
    pub async fn harm(&self, link: &str, harm: Harm) -> anyhow::Result<()> {
        let fault = match harm {
            Harm::Reset => json!({ "kind": kind(harm) }),
            Harm::BlackHole => json!({ "kind": kind(harm), "direction": "both" }),
            Harm::Delay => json!({ "kind": kind(harm), "delay_ms": DELAY_MS }),
            Harm::HalfClose => json!({ "kind": kind(harm), "direction": "down" }),
            Harm::DropReplies => json!({ "kind": kind(harm), "close_after_ms": CLOSE_AFTER_MS }),
        };
        let request = self.http.put(self.url(link, "fault")).json(&fault);
        ok(request).await.with_context(|| format!("harm {link} by {fault}"))
    }

    /// Takes a harm away.
    ///
    /// # Errors
    /// When the proxy does not answer.
    pub async fn heal(&self, link: &str) -> anyhow::Result<()> {
        ok(self.http.delete(self.url(link, "fault"))).await.with_context(|| format!("heal {link}"))
    }

    /// Resets the connections that are open now.
    ///
    /// # Errors
    /// When the proxy does not answer.
    pub async fn reset(&self, link: &str) -> anyhow::Result<()> {
        ok(self.http.post(self.url(link, "reset"))).await.with_context(|| format!("reset {link}"))
    }

    /// How much a harm has hit on a link since the start.
    ///
    /// # Errors
    /// When the proxy does not answer.
    pub async fn hits(&self, link: &str, harm: Harm) -> anyhow::Result<Hits> {
        let answer = self.http.get(format!("{}/links/{link}", self.control_url)).send().await?;
        let mut status: Value = answer.error_for_status()?.json().await?;
        serde_json::from_value(status["hits"][kind(harm)].take()).context("the proxy's hits")
    }

    fn url(&self, link: &str, what: &str) -> String {
        format!("{}/links/{link}/{what}", self.control_url)
    }
}

/// The proxy's word for a harm.
fn kind(harm: Harm) -> &'static str {
    match harm {
        Harm::Reset => "reset",
        Harm::BlackHole => "black_hole",
        Harm::Delay => "delay",
        Harm::HalfClose => "half_close",
        Harm::DropReplies => "drop_replies",
    }
}

async fn ok(request: reqwest::RequestBuilder) -> anyhow::Result<()> {
    let answer = request.send().await?;
    let status = answer.status();
    anyhow::ensure!(status.is_success(), "{status}: {}", answer.text().await.unwrap_or_default());
    Ok(())
}
