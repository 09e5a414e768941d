//! The first exchange of an AMQP 0-9-1 connection, which a broker answers only when it is ready for clients.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// AMQP 0-9-1 specification, section 4.2.2: protocol header.
const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
/// Section 4.2.3, frame type 1 (method) on channel 0; bytes 3 to 6 are the size. Then `connection.start` = 10, 10.
const FRAME_START: [u8; 3] = [1, 0, 0];
const CONNECTION_START: [u8; 4] = [0, 10, 0, 10];
/// Section 4.2.5.5: in the table of the server's properties, the name with its length, then a long string.
const VERSION_FIELD: &[u8] = b"\x07versionS";
const FRAME_BYTES_MAX: u32 = 64 * 1024;

/// Opens a connection: all there is to see of a port mapper.
pub(super) async fn connect(port: u16) -> Result<(), String> {
    TcpStream::connect(("127.0.0.1", port)).await.map(drop).map_err(|error| error.to_string())
}

/// Opens a connection and reads `connection.start`.
pub(super) async fn begin(port: u16) -> Result<(), String> {
    version(port).await.map(drop)
}

/// The version that the broker tells in `connection.start`.
pub(super) async fn version(port: u16) -> Result<String, String> {
    let payload = answer(port).await.map_err(|error| error.to_string())?;
    if !payload.starts_with(&CONNECTION_START) {
        return Err(format!("what answers on port {port} does not speak AMQP"));
    }
    version_in(&payload).ok_or_else(|| format!("the broker on port {port} does not tell its version"))
}

async fn answer(port: u16) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(PROTOCOL_HEADER).await?;
    let mut frame = [0; 7];
    stream.read_exact(&mut frame).await?;
    let [a, b, c, size @ ..] = frame;
    let size = u32::from_be_bytes(size);
    if [a, b, c] != FRAME_START || size > FRAME_BYTES_MAX {
        return Ok(Vec::new());
    }
    let mut payload = Vec::new();
    stream.take(size.into()).read_to_end(&mut payload).await?;
    Ok(payload)
}

fn version_in(payload: &[u8]) -> Option<String> {
    let name = payload.windows(VERSION_FIELD.len()).position(|window| window == VERSION_FIELD)?;
    let value = payload.get(name + VERSION_FIELD.len()..)?;
    let size = u32::from_be_bytes(value.get(..4)?.try_into().ok()?);
    let text = value.get(4..4 + usize::try_from(size).ok()?)?;
    Some(String::from_utf8_lossy(text).into_owned())
}
