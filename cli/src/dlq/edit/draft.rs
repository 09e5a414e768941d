//! The draft of a corrected order: a file that only its owner can read, while an editor has it.

use std::cell::Cell;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::process::Command;

use crate::exit::Failure;

const NAME: &str = "order.json";

/// A text in a file of its own. It is removed when this is dropped, together with whatever the editor has left beside it.
#[derive(Debug)]
pub(super) struct Draft {
    folder: TempDir,
    posted: String,
    editor: String,
}

impl Draft {
    /// # Errors
    /// There is no editor, or the file cannot be written.
    pub(super) fn new(posted: &str) -> anyhow::Result<Self> {
        let editor = editor()?;
        let owner_alone = Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix("orderfleet-").permissions(owner_alone).tempdir()?;
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(folder.path().join(NAME))?;
        file.write_all(posted.as_bytes())?;
        Ok(Self { folder, posted: posted.to_owned(), editor })
    }

    /// What the person's editor makes of it; `is_open` while the editor runs. Dropped before, it ends the editor.
    ///
    /// # Errors
    /// The editor cannot be started or fails, or the file cannot be read.
    pub(super) async fn edit(&self, is_open: &Cell<bool>) -> anyhow::Result<String> {
        let editor = &self.editor;
        // By way of the shell, since the variable may hold options, too.
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{editor} \"$1\""), "sh"]).arg(self.path()).kill_on_drop(true);
        is_open.set(true);
        let status = command.status().await;
        is_open.set(false);
        let status = status.with_context(|| format!("starting the editor {editor:?}"))?;
        ensure!(status.success(), "the editor {editor:?} failed: {status}; nothing was changed");
        fs::read_to_string(self.path()).context("reading what the editor has left")
    }

    /// Leaves the file to its owner, if something was written.
    pub(super) fn keep(self) -> Option<PathBuf> {
        let is_written = fs::read(self.path()).is_ok_and(|left| left != self.posted.as_bytes());
        is_written.then(|| self.folder.keep().join(NAME))
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(NAME)
    }
}

fn editor() -> anyhow::Result<String> {
    let mut named = ["VISUAL", "EDITOR"].iter().filter_map(|name| std::env::var(name).ok());
    named.find(|name| !name.trim().is_empty()).ok_or_else(|| {
        Failure::new("there is no editor", "set EDITOR, or give the corrected order: --file FILE").into()
    })
}
