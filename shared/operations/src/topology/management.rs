//! What only RabbitMQ's management API tells: bindings, all arguments, queues that nobody declares.

use std::{collections::BTreeMap, fmt, time::Duration};

use orderfleet_messaging::{Binding, Login, Topology};
use reqwest::{Client, StatusCode, Url, redirect};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// No answer is read further.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Queues told at once; RabbitMQ takes at most 500.
const PAGE_SIZE: u32 = 500;
/// No more of our queues are read.
const PAGES_MAX: u32 = 20;
const QUEUE_COLUMNS: &str = "name,arguments,messages,consumers,leader,members,online";

/// The management API of the broker. `Debug` does not show the password.
#[derive(Debug, Clone)]
pub struct Management {
    http: Client,
    url: Url,
    login: Login,
}

/// Why the management API did not tell.
#[derive(Debug, thiserror::Error)]
pub enum ManagementError {
    /// The address is none. It is not told: it may hold a password.
    #[error("no http or https address of a management API, without credentials in it")]
    Url,
    /// No HTTP client could be made.
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
    /// No answer.
    #[error("the management API does not answer")]
    NoAnswer(#[source] reqwest::Error),
    /// The user is unknown, or not allowed to ask.
    #[error("the management API refuses the user {0}; it needs the tag `monitoring` or `management`")]
    Refused(String),
    /// An answer that is none of a management API.
    #[error("the management API answers {path} with {status}")]
    Status {
        /// What was asked.
        path: String,
        /// The answer.
        status: u16,
    },
    /// An answer that cannot be read, or is too large.
    #[error("the management API's answer to {path} cannot be read: {why}")]
    Malformed {
        /// What was asked.
        path: String,
        /// Why not.
        why: String,
    },
}

/// What the broker has under our names.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) queues: BTreeMap<String, ObservedQueue>,
    /// Of our queues to our exchanges.
    pub(super) bindings: Vec<Binding>,
}

/// A queue as the management API tells of it. Its figures are up to 5 s old.
#[derive(Debug, Default)]
pub(crate) struct ObservedQueue {
    pub(super) arguments: BTreeMap<String, String>,
    /// All: ready, in hand, and on their way to a dead-letter exchange.
    pub(super) messages: Option<u64>,
    pub(super) consumers: Option<u32>,
    /// The node of its leader, as far as one is known.
    pub(crate) leader: Option<String>,
    /// Nodes that have a replica of it; none where that is not told.
    pub(crate) members: Vec<String>,
    /// Those of them where it runs.
    pub(crate) online: Vec<String>,
}

#[derive(Deserialize)]
struct Page {
    items: Vec<QueueItem>,
    #[serde(default)]
    page_count: u32,
}

#[derive(Default)]
struct QueueItem {
    name: String,
    arguments: Value,
    messages: Option<u64>,
    consumers: Option<u32>,
    leader: Option<String>,
    members: Vec<String>,
    online: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct BindingItem {
    source: String,
    destination: String,
    destination_type: String,
    routing_key: String,
}

impl Management {
    /// For the API at this address, such as `http://127.0.0.1:15672`. Opens no connection yet.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(url: &str, login: Login) -> Result<Self, ManagementError> {
        let url: Url = url.trim_end_matches('/').parse().map_err(|_| ManagementError::Url)?;
        let plain = url.scheme() == "http";
        // Credentials in an address would be seen by others.
        if !(plain || url.scheme() == "https") || !url.username().is_empty() {
            return Err(ManagementError::Url);
        }
        let mut http = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy();
        if plain {
            // A machine without CA certificates is fine.
            http = http.tls_certs_only([]);
        }
        Ok(Self { http: http.build().map_err(ManagementError::Client)?, url, login })
    }

    /// What the broker has under our names, in bounded memory.
    pub(crate) async fn observe(&self, topology: &Topology) -> Result<Observed, ManagementError> {
        let mut observed = Observed::default();
        for page in 1..=PAGES_MAX {
            let Page { items, page_count } = self.queues(topology, page).await?;
            observed.queues.extend(items.into_iter().map(QueueItem::observed));
            if page >= page_count {
                break;
            }
        }
        let mut exchanges: Vec<_> = topology.bindings().iter().map(|binding| &binding.exchange).collect();
        exchanges.sort_unstable();
        exchanges.dedup();
        for exchange in exchanges {
            observed.bindings.extend(self.bindings(exchange).await?);
        }
        Ok(observed)
    }

    async fn queues(&self, topology: &Topology, page: u32) -> Result<Page, ManagementError> {
        // Own names hold nothing but dots that means something in a regular expression.
        let own = format!("^{}\\.", topology.own_prefix().replace('.', "\\."));
        let mut url = self.path(&["api", "queues", &self.login.vhost]);
        url.query_pairs_mut()
            .append_pair("page", &page.to_string())
            .append_pair("page_size", &PAGE_SIZE.to_string())
            .append_pair("name", &own)
            .append_pair("use_regex", "true")
            .append_pair("columns", QUEUE_COLUMNS);
        self.get(url).await
    }

    /// Bindings of queues to an exchange; none if it is not there.
    async fn bindings(&self, exchange: &str) -> Result<Vec<Binding>, ManagementError> {
        let url = self.path(&["api", "exchanges", &self.login.vhost, exchange, "bindings", "source"]);
        let found: Vec<BindingItem> = match self.get(url).await {
            Err(ManagementError::Status { status: 404, .. }) => Vec::new(),
            found => found?,
        };
        let of_queues = found.into_iter().filter(|binding| binding.destination_type == "queue");
        let binding = |BindingItem { source, destination, routing_key, .. }| Binding {
            exchange: source,
            queue: destination,
            routing_key,
        };
        Ok(of_queues.map(binding).collect())
    }

    fn path(&self, segments: &[&str]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    async fn get<T: DeserializeOwned>(&self, url: Url) -> Result<T, ManagementError> {
        let path = url.path().to_owned();
        let Login { username, password, .. } = &self.login;
        let request = self.http.get(url).basic_auth(username, Some(password));
        let mut response = request.send().await.map_err(ManagementError::NoAnswer)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(ManagementError::Refused(username.clone()));
            }
            status => return Err(ManagementError::Status { path, status: status.as_u16() }),
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(ManagementError::NoAnswer)? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES_MAX {
                let why = format!("more than {ANSWER_BYTES_MAX} bytes");
                return Err(ManagementError::Malformed { path, why });
            }
        }
        let read = serde_json::from_slice(&body);
        read.map_err(|error| ManagementError::Malformed { path, why: error.to_string() })
    }
}

impl QueueItem {
    fn observed(self) -> (String, ObservedQueue) {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let arguments = self.arguments.as_object().into_iter().flatten();
        let arguments = arguments.map(|(name, value)| (name.clone(), text(value))).collect();
        let Self { name, messages, consumers, leader, members, .. } = self;
        let online = self.online.unwrap_or_default();
        (name, ObservedQueue { arguments, messages, consumers, leader, members, online })
    }
}

/// By hand: RabbitMQ 3.10 names `online` and `leader` twice where a queue's last statistics differ from what it knows itself
/// (seen on 3.10.8). Without a leader there are no new statistics, so the fewer members count, and no leader before any.
impl<'de> Deserialize<'de> for QueueItem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(QueueVisitor)
    }
}

struct QueueVisitor;

impl<'de> Visitor<'de> for QueueVisitor {
    type Value = QueueItem;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a queue")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<QueueItem, A::Error> {
        let mut item = QueueItem::default();
        while let Some(field) = fields.next_key::<String>()? {
            match field.as_str() {
                "name" => item.name = fields.next_value()?,
                "arguments" => item.arguments = fields.next_value()?,
                "messages" => item.messages = fields.next_value()?,
                "consumers" => item.consumers = fields.next_value()?,
                "members" => item.members = fields.next_value()?,
                "leader" => {
                    let told: Option<String> = fields.next_value()?;
                    item.leader = item.leader.filter(String::is_empty).or(told);
                }
                "online" => {
                    let told: Vec<String> = fields.next_value()?;
                    item.online = item.online.filter(|before| before.len() <= told.len()).or(Some(told));
                }
                _ => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login { username: "u".into(), password: "s3cret".into(), vhost: "/".into(), host: "h:1".into() }
    }

    #[test]
    fn virtual_hosts_are_encoded_and_passwords_not_shown() {
        let management = Management::new("http://127.0.0.1:15672/", login()).unwrap();
        let url = management.path(&["api", "queues", "/"]);
        assert_eq!(url.as_str(), "http://127.0.0.1:15672/api/queues/%2F");
        assert!(!format!("{management:?}").contains("s3cret"));
    }

    #[test]
    fn an_address_that_is_none_or_holds_credentials_is_refused() {
        for bad in ["", "15672", "amqp://h", "http://u:p@h/"] {
            assert!(matches!(Management::new(bad, login()), Err(ManagementError::Url)), "{bad}");
        }
    }

    #[test]
    fn arguments_are_compared_as_text() {
        let item = serde_json::json!({
            "name": "q", "arguments": { "x-queue-type": "quorum", "x-delivery-limit": 20 }, "messages": 3
        });
        let (name, queue) = serde_json::from_value::<QueueItem>(item).unwrap().observed();
        assert_eq!((name.as_str(), queue.messages, queue.consumers), ("q", Some(3), None));
        assert_eq!(queue.arguments["x-delivery-limit"], "20");
        assert_eq!(queue.arguments["x-queue-type"], "quorum");
    }

    #[test]
    fn of_what_is_told_twice_the_worse_counts() {
        let [live, stale] = [r#""online":["a"],"leader":"""#, r#""online":["a","b","c"],"leader":"a""#];
        for told in [format!("{live},{stale}"), format!("{stale},{live}")] {
            let item = format!(r#"{{"name":"q","members":["a","b","c"],{told},"other":{{}}}}"#);
            let (_, queue) = serde_json::from_str::<QueueItem>(&item).unwrap().observed();
            assert_eq!(
                (queue.online.as_slice(), queue.leader.as_deref()),
                (["a".to_owned()].as_slice(), Some(""))
            );
        }
    }
}
