//! Which dead letters a command is about: by a filter, by their ids, or all.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use jiff::Timestamp;
use orderfleet_operations::filter::{self, FilterError};
use orderfleet_storage::{LetterFilter, queue_word};

use crate::exit::Failure;

/// Most ids that one command takes.
const IDS_MAX: usize = 20_000;
const IDS_BYTES_MAX: u64 = 8 << 20;

/// The flags that narrow what is looked at.
#[derive(Debug, clap::Args)]
pub(crate) struct Selection {
    /// Only those that match, such as 'step=fulfilment and age>1h'; `orderfleet dlq --help` has the words
    #[arg(long = "where", value_name = "FILTER")]
    filter: Option<Where>,
    /// Only those whose ids are in this file, one per line; `-` is standard input
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
}

/// The flags that say what is changed: one of them has to be given.
#[derive(Debug, clap::Args)]
pub(crate) struct RequiredSelection {
    #[command(flatten)]
    selection: Selection,
    /// All open dead letters
    #[arg(long, conflicts_with_all = ["filter", "ids"])]
    all: bool,
}

/// What was chosen.
pub(crate) struct Chosen {
    pub(crate) filter: LetterFilter,
    /// The same as text, for the record.
    pub(crate) text: String,
}

/// A filter expression, read when the command line is.
#[derive(Debug, Clone)]
struct Where {
    text: String,
    filter: LetterFilter,
}

impl FromStr for Where {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        Ok(Self { text: text.to_owned(), filter: filter::parse(text, Timestamp::now())? })
    }
}

impl Selection {
    /// What was chosen: without a flag, every open dead letter.
    ///
    /// # Errors
    /// The file of ids cannot be read, or holds too many.
    pub(crate) fn resolve(self) -> anyhow::Result<Chosen> {
        let ids = self.ids.as_deref().map(read_ids).transpose()?;
        Ok(match (self.filter, ids) {
            (None, None) => Chosen { filter: LetterFilter::all(), text: "all".into() },
            (Some(Where { text, filter }), None) => Chosen { filter, text },
            (None, Some(ids)) => {
                Chosen { text: format!("{} ids", ids.len()), filter: LetterFilter::ids(ids) }
            }
            (Some(Where { text, filter }), Some(ids)) => Chosen {
                text: format!("{} ids, {text}", ids.len()),
                filter: LetterFilter::ids(ids).and(filter),
            },
        })
    }
}

impl RequiredSelection {
    /// What was chosen.
    ///
    /// # Errors
    /// Nothing was: "all" has to be said. Or as [`Selection::resolve`].
    pub(crate) fn resolve(self) -> anyhow::Result<Chosen> {
        let Self { selection, all } = self;
        if !all && selection.filter.is_none() && selection.ids.is_none() {
            let next = "say which: --where FILTER or --ids FILE; or --all for every open dead letter";
            return Err(Failure::usage("nothing says which dead letters", next).into());
        }
        selection.resolve()
    }
}

fn read_ids(path: &Path) -> anyhow::Result<Vec<String>> {
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().take(IDS_BYTES_MAX).read_to_string(&mut text),
        _ => std::fs::File::open(path).and_then(|file| file.take(IDS_BYTES_MAX).read_to_string(&mut text)),
    };
    read.with_context(|| format!("reading ids from {}", path.display()))?;
    let ids: Vec<_> = text.lines().map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned).collect();
    if ids.len() > IDS_MAX {
        let what = format!("{} holds more than {IDS_MAX} ids", path.display());
        return Err(Failure::new(what, "narrow the selection with --where, or go in parts").into());
    }
    Ok(ids)
}

/// Where a dead letter failed: its queue, and behind a slash its step where the queue does not say it.
pub(crate) fn place(
    queue: &orderfleet_domain::saga::DeadLetterQueue,
    step: Option<&orderfleet_domain::StepName>,
) -> String {
    let queue = queue_word(queue);
    match step {
        Some(step) if step.as_str() != queue => format!("{queue}/{step}"),
        _ => queue.to_owned(),
    }
}
