//! The little of MongoDB's wire protocol that running a replica set takes. Sources: MongoDB manual, "MongoDB Wire
//! Protocol" (`OP_MSG`), and bsonspec.org. Everything else belongs to the driver.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const OP_MSG: u32 = 2013;
const HEADER_BYTES: usize = 16;
/// Header, flag bits and the kind byte of the one body section.
const BODY_OFFSET: usize = HEADER_BYTES + 4 + 1;
const REPLY_BYTES_MAX: usize = 1024 * 1024;

/// A BSON document under construction.
#[derive(Default)]
pub(super) struct Document(Vec<u8>);

impl Document {
    pub(super) fn int(self, name: &str, value: i32) -> Self {
        self.element(0x10, name, &value.to_le_bytes())
    }

    pub(super) fn flag(self, name: &str, value: bool) -> Self {
        self.element(0x08, name, &[u8::from(value)])
    }

    pub(super) fn text(self, name: &str, value: &str) -> Self {
        let bytes = [&length(value.len() + 1), value.as_bytes(), &[0]].concat();
        self.element(0x02, name, &bytes)
    }

    pub(super) fn document(self, name: &str, value: &Self) -> Self {
        self.element(0x03, name, &value.bytes())
    }

    /// Arrays are documents with the keys "0", "1", …
    pub(super) fn array(self, name: &str, values: &[Self]) -> Self {
        let numbered = values.iter().enumerate();
        let array = numbered.fold(Self::default(), |array, (n, value)| array.document(&n.to_string(), value));
        self.element(0x04, name, &array.bytes())
    }

    fn element(mut self, kind: u8, name: &str, value: &[u8]) -> Self {
        self.0.push(kind);
        self.0.extend(name.as_bytes());
        self.0.push(0);
        self.0.extend(value);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        [&length(self.0.len() + 5), self.0.as_slice(), &[0]].concat()
    }
}

/// The document a server answered with.
pub(super) struct Reply(Vec<u8>);

impl Reply {
    /// Whether a top-level field is true.
    pub(super) fn is_true(&self, name: &str) -> bool {
        self.value(0x08, name).is_some_and(|value| value.first() == Some(&1))
    }

    pub(super) fn int(&self, name: &str) -> Option<i32> {
        let bytes = self.value(0x10, name)?.get(..4)?;
        bytes.try_into().ok().map(i32::from_le_bytes)
    }

    pub(super) fn long(&self, name: &str) -> Option<i64> {
        let bytes = self.value(0x12, name)?.get(..8)?;
        bytes.try_into().ok().map(i64::from_le_bytes)
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        let value = self.value(0x02, name)?;
        let text = value.get(4..4 + size_at(value, 0)? - 1)?;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    /// A document within.
    pub(super) fn inner(&self, name: &str) -> Option<Self> {
        let value = self.value(0x03, name)?;
        Some(Self(value.get(..size_at(value, 0)?)?.to_vec()))
    }

    /// The bytes from the value of a top-level field on.
    fn value(&self, kind: u8, name: &str) -> Option<&[u8]> {
        let mut rest = self.0.get(4..)?;
        loop {
            let (&found_kind, after_kind) = rest.split_first()?;
            let name_end = after_kind.iter().position(|byte| *byte == 0)?;
            let (found_name, value) = (&after_kind[..name_end], &after_kind[name_end + 1..]);
            if found_kind == kind && found_name == name.as_bytes() {
                return Some(value);
            }
            rest = value.get(value_bytes(found_kind, value)?..)?;
        }
    }
}

/// The size of a value by its type; `None` for types that no reply to our commands has.
fn value_bytes(kind: u8, value: &[u8]) -> Option<usize> {
    Some(match kind {
        0x01 | 0x09 | 0x11 | 0x12 => 8,
        0x02 => 4 + size_at(value, 0)?,
        0x03 | 0x04 => size_at(value, 0)?,
        0x05 => 5 + size_at(value, 0)?,
        0x07 => 12,
        0x08 => 1,
        0x0A => 0,
        0x10 => 4,
        _ => return None,
    })
}

/// Runs one command on its own connection to 127.0.0.1.
pub(super) async fn run(port: u16, command: Document) -> io::Result<Reply> {
    let body = command.text("$db", "admin").bytes();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    // Length, request id, response to, operation; then flag bits and the kind of the one section.
    let head = [length(BODY_OFFSET + body.len()), [1, 0, 0, 0], [0; 4], OP_MSG.to_le_bytes(), [0; 4]];
    stream.write_all(&[head.as_flattened(), &[0], &body].concat()).await?;

    let mut size = [0; 4];
    stream.read_exact(&mut size).await?;
    let size = size_at(&size, 0).filter(|size| (BODY_OFFSET + 5..=REPLY_BYTES_MAX).contains(size));
    let size = size.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    let mut rest = vec![0; size - 4];
    stream.read_exact(&mut rest).await?;
    Ok(Reply(rest.split_off(BODY_OFFSET - 4)))
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).expect("our commands have a few hundred bytes").to_le_bytes()
}

fn size_at(bytes: &[u8], offset: usize) -> Option<usize> {
    let bytes = bytes.get(offset..offset + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok().filter(|size| *size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_the_bytes_of_the_specification() {
        let expected = b"\x16\x00\x00\x00\x02hello\x00\x06\x00\x00\x00world\x00\x00";
        assert_eq!(Document::default().text("hello", "world").bytes(), expected, "example of bsonspec.org");
    }

    #[test]
    fn fields_are_found_behind_others() {
        let inner = Document::default().flag("wanted", false);
        let document = Document::default()
            .text("first", "one")
            .array("list", &[inner])
            .document("inner", &Document::default().int("code", 7))
            .int("code", 93)
            .flag("wanted", true);
        let reply = Reply(document.bytes());
        assert!(reply.is_true("wanted"));
        assert_eq!(reply.int("code"), Some(93));
        assert_eq!(reply.inner("inner").and_then(|inner| inner.int("code")), Some(7));
        assert_eq!(reply.long("code"), None, "another type");
        assert_eq!(reply.text("first").as_deref(), Some("one"));
        assert_eq!(reply.text("absent"), None);
    }
}
