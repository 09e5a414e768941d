//! Commands to a mongod past the code that is tested. Sources: MongoDB manual, "MongoDB Wire Protocol" (`OP_MSG`), and
//! bsonspec.org.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const OP_MSG: u32 = 2013;
const HEADER_BYTES: usize = 16;

/// The port of the first server that an address names.
pub(crate) fn first_port(uri: &str) -> u16 {
    let place = uri.rsplit(['@', '/']).find(|part| part.contains(':') && !part.contains('?')).unwrap();
    let (_, port) = place.split(',').next().unwrap().rsplit_once(':').unwrap();
    port.parse().unwrap()
}

/// Sends a command of texts alone, to a server on this machine, which says that it did it.
pub(crate) async fn command(port: u16, fields: &[(&str, &str)]) {
    let reply = ask(port, &document(fields)).await;
    // A double, in little-endian order.
    let done = [b"\x01ok\0".as_slice(), &1.0_f64.to_le_bytes()].concat();
    let told = || String::from_utf8_lossy(&reply).into_owned();
    assert!(reply.windows(done.len()).any(|window| window == done), "{}", told());
}

async fn ask(port: u16, document: &[u8]) -> Vec<u8> {
    let size = u32::try_from(HEADER_BYTES + 5 + document.len()).unwrap();
    let header = [size, 1, 0, OP_MSG, 0].map(u32::to_le_bytes).concat();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(&[&header, [0].as_slice(), document].concat()).await.unwrap();
    let size = stream.read_u32_le().await.unwrap();
    let mut reply = vec![0; usize::try_from(size).unwrap() - 4];
    stream.read_exact(&mut reply).await.unwrap();
    reply
}

fn document(fields: &[(&str, &str)]) -> Vec<u8> {
    let texts = fields.iter().flat_map(|(name, text)| {
        let size = u32::try_from(text.len() + 1).unwrap().to_le_bytes();
        [&[2], name.as_bytes(), &[0], &size, text.as_bytes(), &[0]].concat()
    });
    let texts: Vec<u8> = texts.collect();
    let size = u32::try_from(texts.len() + 5).unwrap().to_le_bytes();
    [size.as_slice(), &texts, &[0]].concat()
}
