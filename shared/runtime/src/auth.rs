//! Who is calling: `Authorization: Bearer <API key>`, nothing else. The account never comes from a body or a path.

use axum::http::{HeaderMap, StatusCode, header};

use crate::{
    keys::{Caller, Keys},
    problem::Problem,
};

/// The caller of a request.
///
/// # Errors
/// A 401 problem that does not say what was wrong with the key.
pub fn authenticate<'a>(keys: &'a Keys, headers: &HeaderMap) -> Result<&'a Caller, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let only = values.next().filter(|_| values.next().is_none());
    let presented = only.and_then(|value| value.to_str().ok());
    let key = presented.and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    key.and_then(|key| keys.verify(key)).ok_or_else(|| {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "A valid API key is needed")
            .detail("send it as: Authorization: Bearer <key>")
    })
}
