//! How results are printed: data on stdout, talk on stderr.

use std::io::Write as _;

use serde::Serialize;

/// The form of a command's result on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs: one JSON value on one line.
    Json,
}

impl Output {
    /// Prints `value` as one JSON line, or `table` as it stands.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(crate) fn print(self, value: &impl Serialize, table: &str) -> anyhow::Result<()> {
        let text = match self {
            Self::Json => serde_json::to_string(value)?,
            Self::Table => table.trim_end().to_owned(),
        };
        Ok(writeln!(std::io::stdout().lock(), "{text}")?)
    }
}

/// `text` with control characters made visible: what a server answers must not drive the terminal.
pub(crate) fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
