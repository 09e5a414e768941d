//! Reading a request's body within bounds, so that the answer reaches the client whatever it sends.

use axum::{
    body::{Body, Bytes, HttpBody as _},
    http::{HeaderMap, StatusCode, header},
};
use http_body_util::BodyExt as _;
use orderfleet_runtime::problem::Problem;

/// How much of a body that is too large is read and thrown away. Whoever is still sending when the connection is closed
/// loses the answer to a reset, and would repeat a request that cannot succeed.
const DISCARDED_BYTES_MAX: usize = 32 << 20;

/// The whole body.
///
/// # Errors
/// A problem: 413 for more than `bytes_max`, 400 for a body that was cut off.
pub(crate) async fn read(headers: &HeaderMap, mut body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    let announced = body.size_hint().lower();
    if announced > bytes_max as u64 && headers.contains_key(header::EXPECT) {
        // The client waits for a 100 and has sent nothing yet.
        return Err(too_large(bytes_max));
    }
    let mut read = Vec::new();
    let mut bytes_seen = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| unreadable())?;
        let Ok(data) = frame.into_data() else { continue };
        bytes_seen += data.len();
        if bytes_seen <= bytes_max {
            read.extend_from_slice(&data);
        } else if bytes_seen > bytes_max + DISCARDED_BYTES_MAX {
            break;
        }
    }
    if bytes_seen > bytes_max { Err(too_large(bytes_max)) } else { Ok(read.into()) }
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The order is too large")
        .detail(format!("a body has at most {bytes_max} bytes"))
}

fn unreadable() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed", "The body could not be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn outcome(headers: &HeaderMap, bytes: usize) -> Result<usize, StatusCode> {
        let body = Body::from(vec![b'x'; bytes]);
        read(headers, body, 10).await.map(|read| read.len()).map_err(|problem| problem.status())
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_the_limit() {
        let mut headers = HeaderMap::new();
        assert_eq!(outcome(&headers, 0).await, Ok(0));
        assert_eq!(outcome(&headers, 10).await, Ok(10));
        assert_eq!(outcome(&headers, 11).await, Err(StatusCode::PAYLOAD_TOO_LARGE));
        headers.insert(header::EXPECT, "100-continue".parse().unwrap());
        assert_eq!(outcome(&headers, 10).await, Ok(10));
        assert_eq!(outcome(&headers, 11).await, Err(StatusCode::PAYLOAD_TOO_LARGE));
    }
}
