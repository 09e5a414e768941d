//! Dead letters: looked at, carried from one database to another, and given up. [`crate::replay`] brings them back.

mod discarding;
mod exporting;
mod shown;

use jiff::Timestamp;
use orderfleet_storage::{LetterCursor, LetterFilter, LetterPage, LetterStats, Store, StoreError};

pub use discarding::{DISCARDED_MAX, DiscardPlan, Discarded};
pub use exporting::{Exported, Imported, Revealed};
pub use shown::{OrderStanding, Shown, Skipped, Standing, StepStanding};

use crate::{
    Operator,
    log::{Act, LogError, OperatorLog},
};

/// Who asks for something that is recorded, and why.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Who.
    pub who: Operator,
    /// The reason given; 1 to 1,000 bytes.
    pub why: String,
}

/// The dead letters of one fleet. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    store: Store,
    log: OperatorLog,
}

/// Why dead letters could not be looked at or dealt with.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// The database failed.
    #[error("the dead letters cannot be reached")]
    Store(#[from] StoreError),
    /// The operator log failed, or refused the reason.
    #[error("the operator log has no record of it")]
    Log(#[from] LogError),
    /// What was exported cannot be written, or what is to be imported not be read.
    #[error("reading or writing failed")]
    Io(#[from] std::io::Error),
    /// More than are given up at once.
    #[error("more than {DISCARDED_MAX} dead letters match")]
    TooMany,
    /// A line that is no exported dead letter.
    #[error("line {number} is no exported dead letter: {why}")]
    BadLine {
        /// The line, from 1.
        number: u64,
        /// What is wrong with it, without its content.
        why: String,
    },
}

impl DeadLetters {
    /// Those in this database.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { log: OperatorLog::new(store.clone()), store }
    }

    /// Groups of dead letters, by queue and failure fingerprint, the largest first; at most
    /// [`orderfleet_storage::GROUPS_MAX`].
    ///
    /// # Errors
    /// The database failed.
    pub async fn stats(&self, filter: &LetterFilter) -> Result<LetterStats, DeadLetterError> {
        Ok(self.store.letter_stats(filter, None, Timestamp::now().as_millisecond()).await?)
    }

    /// The newest dead letters, oldest of them first; at most [`orderfleet_storage::LETTERS_MAX`].
    ///
    /// # Errors
    /// The database failed.
    pub async fn newest(&self, filter: &LetterFilter, limit: u32) -> Result<LetterPage, DeadLetterError> {
        let mut page = self.store.newest_letters(filter, limit).await?;
        page.letters.reverse();
        Ok(page)
    }

    /// Dead letters behind a place, oldest first, as [`Store::list_letters`].
    ///
    /// # Errors
    /// The database failed.
    pub async fn page(
        &self,
        filter: &LetterFilter,
        after: Option<&LetterCursor>,
        limit: u32,
    ) -> Result<LetterPage, DeadLetterError> {
        Ok(self.store.list_letters(filter, after, limit).await?)
    }

    /// How many dead letters a filter chooses.
    ///
    /// # Errors
    /// The database failed.
    pub async fn count(&self, filter: &LetterFilter) -> Result<u64, DeadLetterError> {
        Ok(self.store.count_letters(filter).await?)
    }

    fn act(asked: &Asked, what: &str, target: String) -> Act {
        Act { who: asked.who.clone(), what: what.to_owned(), why: asked.why.clone(), target }
    }
}
