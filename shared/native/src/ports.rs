//! Free ports, remembered in a file so that a server comes back where its clients knew it.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::Error;

/// Below Linux's range for outgoing connections (`ip_local_port_range`, from 32768), which could otherwise take the
/// port between our look and the server's start.
const RANGE: Range<u16> = 20_000..32_000;
const TRIES_MAX: u32 = 1000;

/// Named ports on 127.0.0.1. The file holds one `name port` per line.
#[derive(Debug)]
pub struct Ports {
    file: PathBuf,
    known: BTreeMap<String, u16>,
}

impl Ports {
    /// Reads `file`; a missing file is an empty book, and lines that make no sense are forgotten.
    ///
    /// # Errors
    /// When the file exists and cannot be read.
    pub fn open(file: &Path) -> Result<Self, Error> {
        let text = match fs::read_to_string(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            other => other.map_err(Error::io(format!("read {}", file.display())))?,
        };
        let entry = |line: &str| {
            let (name, port) = line.split_once(' ')?;
            Some((name.to_owned(), port.parse().ok()?))
        };
        Ok(Self { file: file.to_owned(), known: text.lines().filter_map(entry).collect() })
    }

    /// The port remembered for `name` while it is free, else another free one, which is remembered from now on.
    /// Nothing holds the port until the server binds it.
    ///
    /// # Errors
    /// When no free port is found, or the file cannot be written.
    pub fn take(&mut self, name: &str) -> Result<u16, Error> {
        if let Some(&port) = self.known.get(name)
            && is_free(port)
        {
            return Ok(port);
        }
        let port = self.another()?;
        self.known.insert(name.to_owned(), port);
        self.save()?;
        Ok(port)
    }

    fn another(&self) -> Result<u16, Error> {
        (0..TRIES_MAX)
            .map(|_| random_port())
            .find(|port| !self.known.values().any(|known| known == port) && is_free(*port))
            .ok_or_else(|| Error::io("find a free port")(io::ErrorKind::AddrInUse.into()))
    }

    fn save(&self) -> Result<(), Error> {
        let text: String = self.known.iter().map(|(name, port)| format!("{name} {port}\n")).collect();
        fs::write(&self.file, text).map_err(Error::io(format!("write {}", self.file.display())))
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// `RandomState` is seeded by the operating system for each new state: enough to keep parallel runs apart.
fn random_port() -> u16 {
    let random = RandomState::new().hash_one(RANGE.start) % u64::from(RANGE.end - RANGE.start);
    RANGE.start + u16::try_from(random).expect("smaller than the width of a range of u16")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book() -> (tempfile::TempDir, Ports) {
        let dir = tempfile::tempdir().unwrap();
        let ports = Ports::open(&dir.path().join("ports")).unwrap();
        (dir, ports)
    }

    #[test]
    fn a_port_is_remembered_over_a_restart() {
        let (dir, mut ports) = book();
        let first = ports.take("amqp").unwrap();
        let again = Ports::open(&dir.path().join("ports")).unwrap().take("amqp").unwrap();
        assert_eq!(first, again);
    }

    #[test]
    fn a_port_that_somebody_else_took_is_replaced() {
        let (_dir, mut ports) = book();
        let first = ports.take("amqp").unwrap();
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        assert_ne!(first, ports.take("amqp").unwrap());
    }

    #[test]
    fn two_names_never_share_a_port() {
        let (_dir, mut ports) = book();
        let all: std::collections::BTreeSet<u16> =
            (0..200).map(|n| ports.take(&format!("p{n}")).unwrap()).collect();
        assert_eq!(all.len(), 200);
    }
}
