//! The list of mutants: one broken rule each, as a change of source text.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

const LIST: &str = include_str!("../mutants.toml");

/// A rule, and how to break it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// Its name, also of its kept schedule.
    pub name: String,
    /// The rule it breaks.
    pub rule: String,
    /// The changes.
    edits: Vec<Edit>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    /// Relative to the workspace.
    file: PathBuf,
    /// Must occur once.
    find: String,
    replace: String,
}

#[derive(Deserialize)]
struct List {
    mutant: Vec<Mutant>,
}

/// All mutants.
///
/// # Errors
/// The list cannot be read.
pub fn all() -> anyhow::Result<Vec<Mutant>> {
    Ok(toml::from_str::<List>(LIST).context("mutants.toml")?.mutant)
}

/// Where the schedule that catches a mutant is kept.
#[must_use]
pub fn kept(mutant: &Mutant) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants").join(format!("{}.json", mutant.name))
}

impl Mutant {
    /// The text of a file with this mutant's changes, if it has any there.
    ///
    /// # Errors
    /// A change has no single place in the file: the source has moved on, and the list must follow.
    pub fn apply(&self, file: &Path, mut text: String) -> anyhow::Result<String> {
        for edit in self.edits.iter().filter(|edit| edit.file == file) {
            let places = text.matches(&edit.find).count();
            ensure!(places == 1, "{}: {} places in {} to change", self.name, places, file.display());
            text = text.replace(&edit.find, &edit.replace);
        }
        Ok(text)
    }

    /// The files it changes, relative to the workspace.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.edits.iter().map(|edit| edit.file.as_path())
    }
}
