//! Connection strings without their secrets.

/// Options of a connection string whose values are secrets.
const SECRET_OPTIONS: [&str; 3] = ["password", "authmechanismproperties", "secret"];

/// The connection string with `***` for the password and for options that hold secrets.
pub(crate) fn redact(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else { return "***".into() };
    let (credentials, rest) = match rest.rsplit_once('@') {
        Some((credentials, rest)) => (Some(credentials), rest),
        None => (None, rest),
    };
    let (place, options) = match rest.split_once('?') {
        Some((place, options)) => (place, Some(options)),
        None => (rest, None),
    };
    let user = credentials.map(|text| match text.split_once(':') {
        Some((user, _)) => format!("{user}:***@"),
        None => format!("{text}@"),
    });
    let options = options.map(|text| {
        let shown: Vec<_> = text.split('&').map(redact_option).collect();
        format!("?{}", shown.join("&"))
    });
    format!("{scheme}://{}{place}{}", user.unwrap_or_default(), options.unwrap_or_default())
}

/// A message about the connection string without the user's name and password.
pub(crate) fn redact_message(message: &str, uri: &str) -> String {
    let credentials = uri.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map(|(text, _)| text);
    let Some(credentials) = credentials.filter(|text| !text.is_empty()) else { return message.to_owned() };
    let password = credentials.split_once(':').map_or("", |(_, password)| password);
    let message = message.replace(credentials, "***");
    if password.is_empty() { message } else { message.replace(password, "***") }
}

fn redact_option(option: &str) -> String {
    let Some((name, _)) = option.split_once('=') else { return option.to_owned() };
    let lower = name.to_ascii_lowercase();
    if SECRET_OPTIONS.iter().any(|secret| lower.contains(secret)) {
        format!("{name}=***")
    } else {
        option.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_replaced_and_the_rest_is_kept() {
        for (uri, shown) in [
            ("mongodb://127.0.0.1:27017/?replicaSet=rs0", "mongodb://127.0.0.1:27017/?replicaSet=rs0"),
            ("mongodb+srv://u:p@db.example/x", "mongodb+srv://u:***@db.example/x"),
            ("mongodb://u:p@ss/w@a,b/?w=1", "mongodb://u:***@a,b/?w=1"),
            ("mongodb://u@a/?authMechanism=X", "mongodb://u@a/?authMechanism=X"),
            (
                "mongodb://a/?tlsCertificateKeyFilePassword=x&w=1",
                "mongodb://a/?tlsCertificateKeyFilePassword=***&w=1",
            ),
            (
                "mongodb://a/?authMechanismProperties=AWS_SESSION_TOKEN:x",
                "mongodb://a/?authMechanismProperties=***",
            ),
            ("hunter2", "***"),
        ] {
            assert_eq!(redact(uri), shown);
        }
    }

    #[test]
    fn a_message_loses_what_it_repeats_of_the_credentials() {
        let message = redact_message("bad host u:hunter2 or hunter2", "mongodb://u:hunter2@a/");
        assert_eq!(message, "bad host *** or ***");
    }
}
