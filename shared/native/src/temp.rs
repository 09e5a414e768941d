//! A temporary folder that is removed even when this process is killed.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Error;

/// Waits for the end of its input, which comes with the end of the parent, then removes the folder. Programs that
/// end at the same moment may still write into it, so it tries again for ten seconds.
const REMOVER: &str = r#"
while read -r _; do :; done
for _ in $(seq 100); do rm -rf "$1" && exit 0; sleep 0.1; done 2>/dev/null
exit 1
"#;

/// An empty folder for this process alone, removed when dropped and when the process ends, whatever ends it.
#[derive(Debug)]
pub struct TempFolder {
    path: PathBuf,
    remover: Child,
}

impl TempFolder {
    /// Makes the folder under the system's temporary folder.
    ///
    /// # Errors
    /// When the folder cannot be made or the shell that will remove it cannot be started.
    pub fn new() -> Result<Self, Error> {
        let dir = tempfile::Builder::new()
            .prefix("orderfleet-")
            .tempdir()
            .map_err(Error::io("make a temporary folder"))?;
        let remover = start_remover(dir.path()).map_err(Error::io("start /bin/sh"))?;
        Ok(Self { path: dir.keep(), remover })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        self.remover.stdin = None;
        // Waiting can only fail when somebody else has waited for this child.
        let _ = self.remover.wait();
    }
}

fn start_remover(folder: &Path) -> io::Result<Child> {
    let mut remover = Command::new("/bin/sh");
    remover.args(["-c", REMOVER, "remover"]).arg(folder);
    remover.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}
