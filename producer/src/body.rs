//! Reading a request's body within bounds, so that the answer reaches the client whatever it sends.

use axum::{
    body::{Body, Bytes, HttpBody as _},
    http::{HeaderMap, StatusCode, header},
};
use http_body_util::BodyExt as _;
use metrics::Gauge;
use orderfleet_runtime::{http::overloaded, problem::Problem};
use tokio::sync::Semaphore;

/// How much of a body that is too large is read and thrown away. Whoever is still sending when the connection is closed
/// loses the answer to a reset, and would repeat a request that cannot succeed.
const DISCARDED_BYTES_MAX: usize = 32 << 20;

/// Bytes of bodies at once, all requests together.
const ROOM_BYTES: usize = 64 << 20;

/// What bodies may take of the memory. Each takes room as it arrives, and until its request is answered: who sends slowly takes none
/// from others.
#[derive(Debug)]
pub(crate) struct Room {
    bytes: Semaphore,
    taken: Gauge,
}

/// Room that is taken.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    room: &'a Room,
    bytes: u32,
}

impl Room {
    pub(crate) fn new() -> Self {
        let taken = metrics::gauge!("orderfleet_http_body_bytes");
        Self { bytes: Semaphore::new(ROOM_BYTES), taken }
    }

    /// The whole body, and its room.
    ///
    /// # Errors
    /// A problem: 413 for more than `bytes_max`, 400 for a body that was cut off, 503 when there is no room.
    pub(crate) async fn read(
        &self,
        headers: &HeaderMap,
        mut body: Body,
        bytes_max: usize,
    ) -> Result<(Bytes, Taken<'_>), Problem> {
        let announced = body.size_hint().lower();
        if announced > bytes_max as u64 && headers.contains_key(header::EXPECT) {
            // The client waits for a 100 and has sent nothing yet.
            return Err(too_large(bytes_max));
        }
        let mut taken = Taken { room: self, bytes: 0 };
        let mut read = Vec::new();
        let mut bytes_seen = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| unreadable())?;
            let Ok(data) = frame.into_data() else { continue };
            bytes_seen += data.len();
            if bytes_seen <= bytes_max {
                taken.extend(data.len())?;
                read.extend_from_slice(&data);
            } else if bytes_seen > bytes_max + DISCARDED_BYTES_MAX {
                break;
            }
        }
        if bytes_seen > bytes_max { Err(too_large(bytes_max)) } else { Ok((read.into(), taken)) }
    }
}

impl Taken<'_> {
    fn extend(&mut self, bytes: usize) -> Result<(), Problem> {
        let no_room = || overloaded("Too much is being posted at once");
        let bytes = u32::try_from(bytes).map_err(|_| no_room())?;
        self.room.bytes.try_acquire_many(bytes).map_err(|_| no_room())?.forget();
        self.room.taken.increment(bytes);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.room.taken.decrement(self.bytes);
        self.room.bytes.add_permits(self.bytes as usize);
    }
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
        let (room, body) = (Room::new(), Body::from(vec![b'x'; bytes]));
        let read = room.read(headers, body, 10).await;
        read.map(|(read, _)| read.len()).map_err(|problem| problem.status())
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

    #[tokio::test]
    async fn bodies_have_room_as_long_as_there_is_some_and_then_a_503_at_once() {
        let (room, headers, most) = (Room::new(), HeaderMap::new(), 16 << 20);
        let large = Bytes::from(vec![b'x'; most]);
        let mut taken = Vec::new();
        for _ in 0..ROOM_BYTES / most {
            taken.push(room.read(&headers, Body::from(large.clone()), most).await.unwrap());
        }
        let refused = room.read(&headers, Body::from("x"), most).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(room.read(&headers, Body::empty(), most).await.is_ok());
        taken.pop();
        assert!(room.read(&headers, Body::from("x"), most).await.is_ok(), "what is answered makes room");
    }
}
