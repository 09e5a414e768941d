//! Reading the log from the database, a page at a time.

use jiff::Timestamp;
use orderfleet_storage::{BadLogEntry, LogEntry, LogPage, Store, StoreError};

use crate::log::LogError;

/// Entries read at once.
const PAGE: u32 = 500;

/// Which entries; by default all, from the first on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRange {
    /// Only those recorded at this time or later, by the clocks of those who acted.
    pub since: Option<Timestamp>,
    /// From the newest back.
    pub newest_first: bool,
    /// At most so many.
    pub limit: u64,
}

impl Default for LogRange {
    fn default() -> Self {
        Self { since: None, newest_first: false, limit: u64::MAX }
    }
}

/// Entries on their way out of the database.
#[derive(Debug)]
pub struct LogEntries {
    pages: Pages,
    page: std::vec::IntoIter<Result<LogEntry, BadLogEntry>>,
}

impl LogEntries {
    pub(super) fn new(store: Store, range: LogRange) -> Self {
        let pages = Pages { store, range, beyond: None, left: range.limit, over: false };
        Self { pages, page: Vec::new().into_iter() }
    }

    /// The next entry, or `None` behind the last one. After an error the next call tries again.
    ///
    /// # Errors
    /// The database did not answer, or the document is no entry.
    pub async fn next(&mut self) -> Result<Option<LogEntry>, LogError> {
        self.next_or_damage().await?.transpose().map_err(LogError::Damaged)
    }

    pub(super) async fn next_or_damage(&mut self) -> Result<Option<Result<LogEntry, BadLogEntry>>, LogError> {
        if self.page.len() == 0 {
            self.page = self.pages.next().await.map_err(LogError::Read)?.into_iter();
        }
        Ok(self.page.next())
    }
}

#[derive(Debug)]
struct Pages {
    store: Store,
    range: LogRange,
    beyond: Option<i64>,
    left: u64,
    over: bool,
}

impl Pages {
    async fn next(&mut self) -> Result<Vec<Result<LogEntry, BadLogEntry>>, StoreError> {
        let limit = u32::try_from(self.left).unwrap_or(PAGE).min(PAGE);
        if self.over || limit == 0 {
            return Ok(Vec::new());
        }
        let LogRange { since, newest_first, .. } = self.range;
        let page = self.store.log_page(&LogPage { beyond: self.beyond, newest_first, since, limit }).await?;
        let last = page.iter().rev().find_map(|found| found.as_ref().ok());
        self.beyond = last.map(|entry| entry.seq);
        self.left -= u64::from(limit);
        // Behind a page without a single entry there is nothing to go on from.
        self.over = page.len() < limit as usize || last.is_none();
        Ok(page)
    }
}
