//! The first exchange of an AMQP 0-9-1 connection, which a broker answers only when it is ready for clients.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// AMQP 0-9-1 specification, section 4.2.2: protocol header.
const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
/// Section 4.2.3, frame type 1 (method) on channel 0; bytes 3 to 6 are the size. Then `connection.start` = 10, 10.
const FRAME_START: [u8; 3] = [1, 0, 0];
const CONNECTION_START: [u8; 4] = [0, 10, 0, 10];

/// Opens a connection: all there is to see of a port mapper.
pub(super) async fn connect(port: u16) -> Result<(), String> {
    TcpStream::connect(("127.0.0.1", port)).await.map(drop).map_err(|error| error.to_string())
}

/// Opens a connection and reads `connection.start`.
pub(super) async fn begin(port: u16) -> Result<(), String> {
    match answer(port).await {
        Ok(frame) if frame[..3] == FRAME_START && frame[7..] == CONNECTION_START => Ok(()),
        Ok(_) => Err(format!("what answers on port {port} does not speak AMQP")),
        Err(error) => Err(error.to_string()),
    }
}

async fn answer(port: u16) -> std::io::Result<[u8; 11]> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(PROTOCOL_HEADER).await?;
    let mut frame = [0; 11];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}
