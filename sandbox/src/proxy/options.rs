//! The command line of the fault proxy, which is also how tests configure one in-process.

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use clap::Parser;

const AFTER_HELP: &str = "\
Control API, for this machine alone:
  GET    /links               every link: target, connections, bytes each way, and what each fault really hit
  GET    /links/NAME          one link
  PUT    /links/NAME/fault    sets the fault, for live and new connections, in place of the one in force
  DELETE /links/NAME/fault    heals the link; connections that were broken stay broken
  POST   /links/NAME/reset    resets all live connections once
  GET    /healthz             200 while it runs

Faults; up is towards the target, and DIRECTION is up, down or both:
  {\"kind\":\"reset\"}                                live and new connections are reset
  {\"kind\":\"black_hole\",\"direction\":DIRECTION}     nothing passes, connections stay open; healing lets all of it pass
  {\"kind\":\"delay\",\"delay_ms\":N}                   everything passes N milliseconds late, in order
  {\"kind\":\"half_close\",\"direction\":DIRECTION}     up: the target reads the end of the stream; down: the client does
  {\"kind\":\"drop_replies\",\"close_after_ms\":N}      requests pass, replies are thrown away, then comes a reset
  {\"kind\":\"trickle\",\"bytes_per_s\":N}              everything passes slowly, in small pieces
The answer's hits count connections and bytes by kind; a fault that met no traffic shows zeros.

Examples:
  orderfleet-fault-proxy --link broker=0=127.0.0.1:5672 --link shop=127.0.0.1:7071=127.0.0.1:7070
  curl -X PUT    localhost:7079/links/broker/fault -d '{\"kind\":\"black_hole\",\"direction\":\"down\"}'
  curl -X DELETE localhost:7079/links/broker/fault";

/// A TCP proxy that makes connections fail on request, and counts what each fault has really hit.
#[derive(Debug, Clone, Parser)]
#[command(name = "orderfleet-fault-proxy", version, after_help = AFTER_HELP)]
pub struct ProxyOptions {
    /// A link, written NAME=LISTEN=TARGET; may be given several times.
    ///
    /// LISTEN is an address or a port of the loopback interface; port 0 picks a free one and prints it.
    /// TARGET is host:port, looked up and connected to anew for every connection.
    #[arg(long = "link", value_name = "NAME=LISTEN=TARGET", required = true)]
    pub links: Vec<LinkSpec>,

    /// Loopback address of the control API; port 0 picks a free one and prints it.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7079", value_parser = parse_listen)]
    pub control: SocketAddr,
}

/// A link to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSpec {
    /// Letters, digits, `-`, `_` and `.`; unique within a proxy.
    pub name: String,
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Host and port to carry connections to.
    pub target: String,
}

impl ProxyOptions {
    /// These links, with the control API on a free port.
    pub fn on_free_port(links: Vec<LinkSpec>) -> Self {
        Self { links, control: free_port() }
    }
}

impl LinkSpec {
    /// A link to this target (host:port) that listens on a free port of the loopback interface.
    pub fn on_free_port(name: &str, target: impl Into<String>) -> Self {
        Self { name: name.to_owned(), listen: free_port(), target: target.into() }
    }
}

impl FromStr for LinkSpec {
    type Err = LinkSpecError;

    fn from_str(text: &str) -> Result<Self, LinkSpecError> {
        let wrong = |problem: &str| LinkSpecError(problem.to_owned());
        let mut parts = text.splitn(3, '=');
        let (Some(name), Some(listen), Some(target)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong("write NAME=LISTEN=TARGET, as in broker=0=127.0.0.1:5672"));
        };
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || !name.bytes().all(is_allowed) {
            return Err(wrong("NAME must be letters, digits, '-', '_' and '.'"));
        }
        let listen = parse_listen(listen)
            .map_err(|_| wrong("LISTEN must be a port or an address such as 127.0.0.1:0"))?;
        let port = target.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none_or(|port| port == 0) {
            return Err(wrong("TARGET must be host:port"));
        }
        Ok(Self { name: name.to_owned(), listen, target: target.to_owned() })
    }
}

fn parse_listen(text: &str) -> Result<SocketAddr, std::net::AddrParseError> {
    match text.parse::<u16>() {
        Ok(port) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        Err(_) => text.parse(),
    }
}

fn free_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// Why a link was refused; the text says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LinkSpecError(String);
