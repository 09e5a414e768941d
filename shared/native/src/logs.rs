//! The end of a log file, for error messages.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

const TAIL_BYTES_MAX: u64 = 16 * 1024;

/// The last `count` lines of `log`, indented by four spaces; a note in their place when the file is empty or cannot
/// be read, so that an error message never fails for want of its details.
pub fn last_lines(log: &Path, count: usize) -> String {
    let text = tail(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        return "    (no output)".to_owned();
    }
    let shown = &lines[lines.len().saturating_sub(count)..];
    shown.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

fn tail(log: &Path) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES_MAX);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
