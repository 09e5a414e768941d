//! What the faults of a link have really hit: a fault that was set but met no traffic shows zeros.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::fault::Fault;
use super::link::Setting;

/// How much a kind of fault has hit since the proxy was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Hits {
    /// Connections, counted once for each time the fault was set.
    pub connections: u64,
    /// Bytes withheld, delayed or thrown away. Bytes lost to a reset are not known, so not counted.
    pub bytes: u64,
}

/// The hits of a link by kind.
#[derive(Debug)]
pub(super) struct Evidence {
    hits: Mutex<BTreeMap<&'static str, Hits>>,
}

impl Evidence {
    pub(super) fn new() -> Self {
        let none = Fault::KINDS.map(|kind| (kind, Hits::default()));
        Self { hits: Mutex::new(BTreeMap::from(none)) }
    }

    pub(super) fn count(&self, kind: &'static str, connections: u64, bytes: u64) {
        let mut hits = self.hits.lock().expect("nothing panics while holding the evidence");
        let hits = hits.entry(kind).or_default();
        hits.connections += connections;
        hits.bytes += bytes;
    }

    pub(super) fn by_kind(&self) -> BTreeMap<&'static str, Hits> {
        self.hits.lock().expect("nothing panics while holding the evidence").clone()
    }
}

/// Bears witness for one connection, both ways together.
pub(super) struct Witness<'a> {
    evidence: &'a Evidence,
    /// Number of the last setting that this connection was counted for.
    counted: AtomicU64,
}

impl<'a> Witness<'a> {
    pub(super) fn new(evidence: &'a Evidence) -> Self {
        Self { evidence, counted: AtomicU64::new(0) }
    }

    /// Counts bytes, and the connection if this is the first time that this setting hits it.
    pub(super) fn hit(&self, setting: Setting, bytes: usize) {
        let Some(fault) = setting.fault else { return };
        let is_first = self.counted.swap(setting.number, Ordering::Relaxed) != setting.number;
        self.evidence.count(fault.kind(), u64::from(is_first), bytes as u64);
    }
}
