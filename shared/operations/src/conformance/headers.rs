//! Further headers for services that want credentials.

use std::{fmt, str::FromStr};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

/// Named by the contract or by HTTP itself; a second value would make another call of it.
const RESERVED: [&str; 7] = [
    "idempotency-key",
    "orderfleet-fence",
    "content-type",
    "content-length",
    "host",
    "transfer-encoding",
    "connection",
];

/// Headers that every call carries, for example credentials. Neither `Debug` nor a report shows their values.
#[derive(Clone, Default)]
pub struct Headers(HeaderMap);

/// A line that is no header to send. The message never repeats its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHeaders {
    /// Not of the form `Name: value`.
    #[error("line {line}: write it as Name: value")]
    Malformed {
        /// Counted from one.
        line: usize,
    },
    /// A header that the calls carry already.
    #[error("line {line}: {name} is set by the check itself")]
    Reserved {
        /// Counted from one.
        line: usize,
        /// The header's name.
        name: String,
    },
}

impl Headers {
    pub(super) fn map(&self) -> &HeaderMap {
        &self.0
    }

    /// The values, for whoever must not show them.
    pub(super) fn values(&self) -> impl Iterator<Item = &str> {
        self.0.values().filter_map(|value| value.to_str().ok())
    }
}

impl FromStr for Headers {
    type Err = BadHeaders;

    /// One header per line; empty lines and lines that begin with `#` are skipped.
    fn from_str(text: &str) -> Result<Self, BadHeaders> {
        let mut headers = HeaderMap::new();
        for (line, header) in (1..).zip(text.lines().map(str::trim)) {
            if header.is_empty() || header.starts_with('#') {
                continue;
            }
            let (name, value) = parse(header).ok_or(BadHeaders::Malformed { line })?;
            if RESERVED.contains(&name.as_str()) {
                return Err(BadHeaders::Reserved { line, name: name.to_string() });
            }
            headers.append(name, value);
        }
        Ok(Self(headers))
    }
}

fn parse(header: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = header.split_once(':')?;
    let mut value = HeaderValue::from_str(value.trim()).ok()?;
    value.set_sensitive(true);
    Some((name.trim().parse().ok()?, value))
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_one_per_line_and_never_shown() {
        let headers: Headers =
            "# for staging\n\nAuthorization: Bearer s3cret-token\nX-Shop: a:b\n".parse().unwrap();
        assert_eq!(headers.values().collect::<Vec<_>>(), ["Bearer s3cret-token", "a:b"]);
        assert_eq!(format!("{headers:?}"), r#"["authorization", "x-shop"]"#);
    }

    #[test]
    fn a_wrong_line_is_named_without_its_value() {
        assert_eq!("A: b\ns3cret".parse::<Headers>().unwrap_err(), BadHeaders::Malformed { line: 2 });
        let reserved = "Idempotency-Key: k".parse::<Headers>().unwrap_err();
        assert_eq!(reserved.to_string(), "line 1: idempotency-key is set by the check itself");
    }
}
