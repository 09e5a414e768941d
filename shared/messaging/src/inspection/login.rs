//! Who we are to the broker: for its management API, and for telling trouble without secrets.

use std::fmt;

use lapin::uri::{AMQPAuthority, AMQPUri, AMQPUserInfo};

use super::answer::{ACCESS_REFUSED, code};
use crate::{BrokerSettings, ConnectError, connection::chain};

/// No such virtual host, or this user has no access to it.
const NOT_ALLOWED: u16 = 530;

/// What the broker's address says of us and of the place. `Debug` does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub username: String,
    /// The password.
    pub password: String,
    /// The virtual host.
    pub vhost: String,
    /// The broker's host and port.
    pub host: String,
}

impl BrokerSettings {
    /// What the address says about who we are.
    ///
    /// # Errors
    /// Wrong settings, or a file with the address that cannot be read. An address that is none has no login: then the
    /// defaults of RabbitMQ are returned, and connecting will say what is wrong.
    pub fn login(&self) -> Result<Login, ConnectError> {
        let uri: AMQPUri = self.address()?.parse().unwrap_or_default();
        let AMQPAuthority { userinfo, host, port } = uri.authority;
        let AMQPUserInfo { username, password } = userinfo;
        Ok(Login { username, password, vhost: uri.vhost, host: format!("{host}:{port}") })
    }
}

impl ConnectError {
    /// Whether the broker is there and did not let this user in, or not into this virtual host.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Connect(error) if matches!(code(error), Some(ACCESS_REFUSED | NOT_ALLOWED)))
    }

    /// The error and its causes in one line, without the address that was used: a client library may repeat it.
    #[must_use]
    pub fn told_without_secrets(&self, settings: &BrokerSettings) -> String {
        let text = chain(self);
        match settings.address() {
            Ok(address) if !address.is_empty() => text.replace(&address, "***"),
            _ => text,
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = out.debug_struct("Login");
        shown.field("username", &self.username).field("vhost", &self.vhost).field("host", &self.host);
        shown.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_login_is_read_from_the_address_and_its_password_not_shown() {
        let url = "amqp://me:s3cret@host:1/a%2Fb".to_owned();
        let login = BrokerSettings { url, ..BrokerSettings::default() }.login().unwrap();
        assert_eq!((login.username.as_str(), login.password.as_str()), ("me", "s3cret"));
        assert_eq!((login.vhost.as_str(), login.host.as_str()), ("a/b", "host:1"));
        assert!(!format!("{login:?}").contains("s3cret"));
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_not_told() {
        let settings = BrokerSettings { url: "me:s3cret@host".into(), ..BrokerSettings::default() };
        let error = crate::connection::connect(&settings.url, "test").await.unwrap_err();
        let told = error.told_without_secrets(&settings);
        assert!(!told.contains("s3cret") && !error.is_refusal(), "{told}");
    }
}
