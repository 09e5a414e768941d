//! Where an export goes: to a new file, or to stdout.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Stdout, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::exit::Failure;

/// What is exported is written to it, line by line.
pub(crate) enum Target {
    File(PathBuf, BufWriter<File>),
    Stdout(BufWriter<Stdout>),
}

impl Target {
    /// Makes the file; without a name, or with `-`, it is stdout.
    ///
    /// # Errors
    /// The file is there already, or cannot be made.
    pub(crate) fn open(name: Option<PathBuf>) -> anyhow::Result<Self> {
        Ok(match name.filter(|path| path.as_os_str() != "-") {
            Some(path) => {
                let file = create(&path)?;
                Self::File(path, BufWriter::new(file))
            }
            None => Self::Stdout(BufWriter::new(io::stdout())),
        })
    }

    /// Ends it after so many lines, and returns the name of the file. One that would stay empty is removed. Dropped without this
    /// call, a file is left without its end.
    ///
    /// # Errors
    /// The rest cannot be written.
    pub(crate) fn close(mut self, lines: u64) -> anyhow::Result<Option<PathBuf>> {
        self.flush()?;
        let Self::File(path, out) = self else { return Ok(None) };
        let ended = if lines == 0 { std::fs::remove_file(&path) } else { out.get_ref().sync_all() };
        ended.with_context(|| format!("writing {}", path.display()))?;
        Ok(Some(path))
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(_, out) => out.write(bytes),
            Self::Stdout(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(_, out) => out.flush(),
            Self::Stdout(out) => out.flush(),
        }
    }
}

/// A file for its owner alone, which nobody had before.
fn create(path: &Path) -> anyhow::Result<File> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    created.map_err(|error| {
        let next = "name a file that does not exist, in a folder that you may write to";
        Failure::new(format!("{} cannot be created: {error}", path.display()), next).into()
    })
}
