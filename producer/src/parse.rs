//! From a body to a valid order, or to a problem that names what is wrong.

use axum::http::StatusCode;
use orderfleet_domain::{Object, Order, OrderInput};
use orderfleet_runtime::problem::Problem;
use serde_json::{error::Category, json};
use serde_path_to_error::Segment;

const FIELD_NAME_BYTES_MAX: usize = 40;

/// The order in a body. Broken JSON is malformed (400); JSON of another shape names the field (422), as does a rule that
/// does not hold. Messages never repeat what was posted.
pub(crate) fn parse(body: &[u8]) -> Result<Order, Problem> {
    let input: Object<OrderInput> = match serde_json::from_slice(body) {
        Ok(input) => input,
        Err(_) => located(body)?,
    };
    Order::try_from(input).map_err(|violations| {
        invalid()
            .detail(violations.to_string())
            .with("violations", &violations.listed)
            .with("violations_total", violations.total)
    })
}

/// Once more, remembering where it is: that is only worth its price for a body that is wrong.
fn located(body: &[u8]) -> Result<Object<OrderInput>, Problem> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let input: Result<Object<OrderInput>, _> = serde_path_to_error::deserialize(&mut json);
    let input = input.map_err(|error| match error.inner().classify() {
        Category::Data => misshapen(&error),
        _ => malformed(error.inner()),
    })?;
    json.end().map_err(|error| malformed(&error))?;
    Ok(input)
}

fn invalid() -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-order", "The order breaks a rule")
}

fn malformed(error: &serde_json::Error) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed", "The body is not JSON").detail(format!(
        "at line {} column {}",
        error.line(),
        error.column()
    ))
}

/// Shape errors, in our own words: serde's would show Rust types and what was posted.
fn misshapen(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let text = error.inner().to_string();
    let named = text.split('`').nth(1).unwrap_or_default();
    let path = field_path(error.path());
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let (field, rule, message) = if text.starts_with("unknown field") {
        (path, "unknown_field", "is not a field of an order")
    } else if text.starts_with("missing field") {
        (below(named), "missing_field", "is missing")
    } else if text.starts_with("duplicate field `metadata`") {
        (path, "duplicate_field", "holds a key more than once")
    } else if text.starts_with("duplicate field") {
        (below(named), "duplicate_field", "is there more than once")
    } else {
        (path, "type", expected_type(&text))
    };
    let field = if field.is_empty() { "the order".to_owned() } else { field };
    let violation = json!({ "field": field, "rule": rule, "message": message });
    invalid().detail(format!("{field} {message}")).with("violations", [violation]).with("violations_total", 1)
}

/// The path of a field. Names that are no plain words were made up by whoever posted them and are not repeated.
fn field_path(path: &serde_path_to_error::Path) -> String {
    let plain = |key: &str| {
        key.len() <= FIELD_NAME_BYTES_MAX && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    path.iter().fold(String::new(), |path, segment| match segment {
        Segment::Seq { index } => format!("{path}[{index}]"),
        Segment::Map { key } | Segment::Enum { variant: key } if plain(key) => {
            if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            }
        }
        Segment::Map { .. } | Segment::Enum { .. } => format!("{path}.…").trim_start_matches('.').to_owned(),
        Segment::Unknown => path,
    })
}

fn expected_type(text: &str) -> &'static str {
    match text.rsplit_once("expected ").map_or("", |(_, expected)| expected) {
        expected if expected.starts_with("a string") => "must be a string",
        expected if expected.starts_with("i64") => "must be a whole number",
        expected if expected.starts_with("a sequence") => "must be a list",
        _ => "must be an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(body: &str) -> (u16, String) {
        let problem = parse(body.as_bytes()).unwrap_err();
        (problem.status().as_u16(), serde_json::to_string(&problem).unwrap())
    }

    const GOOD: &str = r#"{"channel":"retail","currency":"GBP","payment_ref":"p","ship_to":{"country":"GB"},
        "lines":[{"sku":"A","quantity":1,"unit_price":"0.001"}]}"#;

    #[test]
    fn broken_json_is_malformed_and_other_shapes_name_the_field() {
        assert!(parse(GOOD.as_bytes()).is_ok());
        let nested = "[".repeat(100_000);
        let huge = GOOD.replace("\"quantity\":1", "\"quantity\":1e400");
        for (body, status, word) in [
            ("", 400, "malformed"),
            ("{", 400, "malformed"),
            (nested.as_str(), 422, "invalid-order"),
            (huge.as_str(), 400, "malformed"),
            (&format!("{GOOD} x"), 400, "malformed"),
            ("[]", 422, "invalid-order"),
            (&GOOD.replace("\"quantity\":1", "\"quantity\":\"1\""), 422, "lines[0].quantity"),
            (&GOOD.replace("\"quantity\":1", "\"quantity\":1.5"), 422, "lines[0].quantity"),
            (&GOOD.replace("\"quantity\":1", "\"quantity\":99999999999999999999"), 422, "lines[0].quantity"),
            (&GOOD.replace("\"0.001\"", "0.001"), 422, "lines[0].unit_price"),
            (&GOOD.replace("\"0.001\"", "\"1e400\""), 422, "lines[0].unit_price"),
            (&GOOD.replace("\"sku\"", "\"phase\":\"DONE\",\"sku\""), 422, "lines[0].phase"),
            (
                &GOOD.replace("\"currency\":\"GBP\",", ""),
                422,
                "\"field\":\"currency\",\"message\":\"is missing\"",
            ),
            (&GOOD.replace("\"sku\":\"A\",", ""), 422, "lines[0].sku is missing"),
            (
                &GOOD.replace("{\"sku", "[{\"sku").replace("\"}]}", "\"}]]}"),
                422,
                "lines[0] must be an object",
            ),
            (&GOOD.replace("{\"country\":\"GB\"}", "[null]"), 422, "ship_to must be an object"),
            (
                &GOOD.replace("\"channel\"", "\"channel\":\"retail\",\"channel\""),
                422,
                "channel is there more than once",
            ),
            (&GOOD.replace("\"sku\"", "\"secret-word@x\":1,\"sku\""), 422, "lines[0].… is not a field"),
            (
                &GOOD.replace("\"lines\"", "\"metadata\":{\"secret-word@x\":1},\"lines\""),
                422,
                "metadata.… must be a string",
            ),
            (&GOOD.replace("0.001", &format!("{}1", "0".repeat(500_000))), 422, "lines[0].unit_price"),
            (&GOOD.replace("retail", "secret-word"), 422, "channel"),
        ] {
            let (got, text) = problem(body);
            assert_eq!(got, status, "{body:.60}: {text}");
            assert!(text.contains(word), "{body:.60}: {text}");
            assert!(!text.contains("secret-word"), "{text}");
        }
    }
}
