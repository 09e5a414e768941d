//! A client that speaks as much AMQP 0-9-1 as tests of a broker's start and faults take: one connection, one channel, one
//! message after the other. Sources: the protocol's specification, sections 4.2 (frames) and 1.4 to 1.8 (methods).

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xCE;

/// A connection with an open channel 1 in confirm mode.
pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) async fn connect(port: u16) -> io::Result<Self> {
        let mut client = Self(TcpStream::connect(("127.0.0.1", port)).await?);
        client.0.write_all(b"AMQP\x00\x00\x09\x01").await?;
        client.until(10, 10).await?;
        let login = [&[0; 4], &short("PLAIN")[..], &long(b"\0guest\0guest"), &short("en_US")].concat();
        client.send(0, METHOD, &method(10, 11, &login)).await?;
        client.until(10, 30).await?;
        let (channels, frame_bytes, heartbeat) = (8_u16.to_be_bytes(), 131_072_u32.to_be_bytes(), [0; 2]);
        client.send(0, METHOD, &method(10, 31, &[&channels[..], &frame_bytes, &heartbeat].concat())).await?;
        client.send(0, METHOD, &method(10, 40, &[&short("/")[..], &[0, 0]].concat())).await?;
        client.until(10, 41).await?;
        client.call(&method(20, 10, &[0]), 20, 11).await?;
        client.call(&method(85, 10, &[0]), 85, 11).await?;
        Ok(client)
    }

    /// Declares a durable quorum queue.
    pub(crate) async fn declare(&mut self, queue: &str) -> io::Result<()> {
        let arguments = [&short("x-queue-type")[..], b"S", &long(b"quorum")].concat();
        let rest = [&[0, 0], &short(queue)[..], &[0b10], &long(&arguments)].concat();
        self.call(&method(50, 10, &rest), 50, 11).await
    }

    /// Publishes a persistent message to a queue and waits for the broker's confirm.
    pub(crate) async fn publish(&mut self, queue: &str, body: &[u8]) -> io::Result<()> {
        self.send(1, METHOD, &method(60, 40, &[&[0, 0], &short("")[..], &short(queue), &[0]].concat()))
            .await?;
        let size = (body.len() as u64).to_be_bytes();
        let header = [&[0, 60, 0, 0], &size[..], &0x1000_u16.to_be_bytes(), &[2]].concat();
        self.send(1, HEADER, &header).await?;
        self.send(1, BODY, body).await?;
        self.until(60, 80).await.map(drop)
    }

    /// What the broker says when it closes the connection.
    pub(crate) async fn until_closed(&mut self) -> io::Result<String> {
        let arguments = self.until(10, 50).await?;
        let text = arguments.get(3..).unwrap_or_default();
        Ok(String::from_utf8_lossy(&text[..text.len().min(usize::from(arguments[2]))]).into_owned())
    }

    async fn call(&mut self, request: &[u8], class: u16, answer: u16) -> io::Result<()> {
        self.send(1, METHOD, request).await?;
        self.until(class, answer).await.map(drop)
    }

    async fn send(&mut self, channel: u16, kind: u8, payload: &[u8]) -> io::Result<()> {
        let frame = [&[kind], &channel.to_be_bytes()[..], &long(payload), &[FRAME_END]].concat();
        self.0.write_all(&frame).await
    }

    /// Reads until this method comes and returns its arguments.
    async fn until(&mut self, class: u16, id: u16) -> io::Result<Vec<u8>> {
        let wanted = method(class, id, &[]);
        loop {
            let mut head = [0; 7];
            self.0.read_exact(&mut head).await?;
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
            let mut payload = vec![0; size as usize + 1];
            self.0.read_exact(&mut payload).await?;
            if head[0] == METHOD && payload.starts_with(&wanted) {
                return Ok(payload.split_off(wanted.len()));
            }
        }
    }
}

fn method(class: u16, id: u16, arguments: &[u8]) -> Vec<u8> {
    [&class.to_be_bytes()[..], &id.to_be_bytes(), arguments].concat()
}

fn short(text: &str) -> Vec<u8> {
    let size = u8::try_from(text.len()).expect("the tests' names are short");
    [&[size], text.as_bytes()].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    let size = u32::try_from(bytes.len()).expect("the tests' bodies are small");
    [&size.to_be_bytes()[..], bytes].concat()
}
