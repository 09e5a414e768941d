//! Where a service is.

use std::{fmt, str::FromStr};

use reqwest::Url;

/// Base URL of a step's service, as in the settings of the workers: the step instance is appended to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUrl(Url);

/// A text that is no base URL of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// No URL, or none that workers could call.
    #[error("write it like http://HOST:PORT/PATH or https://HOST/PATH")]
    Malformed,
    /// A user or a password in it.
    #[error("credentials do not belong into a URL, which others can read; send them as a header")]
    Credentials,
    /// A query or a fragment, to which no instance can be appended.
    #[error("the step instance is appended to it, so it cannot have a ? or a #")]
    Query,
}

impl ServiceUrl {
    pub(super) fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.0.as_str().trim_end_matches('/'))
    }

    pub(super) fn is_plain_http(&self) -> bool {
        self.0.scheme() == "http"
    }
}

impl FromStr for ServiceUrl {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let url: Url = text.parse().map_err(|_| BadUrl::Malformed)?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(BadUrl::Malformed);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadUrl::Credentials);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(BadUrl::Query);
        }
        Ok(Self(url))
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_can_be_appended_to_an_address() {
        for text in ["http://127.0.0.1:7070/inventory/steps", "http://127.0.0.1:7070/inventory/steps/"] {
            let url: ServiceUrl = text.parse().unwrap();
            assert_eq!(url.at("a.1.b"), "http://127.0.0.1:7070/inventory/steps/a.1.b");
        }
        assert_eq!("http://shop".parse::<ServiceUrl>().unwrap().at("a"), "http://shop/a");
    }

    #[test]
    fn what_workers_could_not_call_is_refused() {
        for text in ["", "inventory/steps", "localhost:7070", "ftp://shop/x"] {
            assert_eq!(text.parse::<ServiceUrl>(), Err(BadUrl::Malformed), "{text}");
        }
        assert_eq!("http://jo:pw@shop/".parse::<ServiceUrl>(), Err(BadUrl::Credentials));
        assert_eq!("http://shop/?a=b".parse::<ServiceUrl>(), Err(BadUrl::Query));
    }
}
