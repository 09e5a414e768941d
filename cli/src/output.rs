//! How results are printed: data on stdout, talk on stderr.

use std::io::Write as _;

use comfy_table::{Table, presets};
use serde::Serialize;

/// The form of a command's result on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs: one JSON value on one line.
    Json,
    /// For programs that read along: one JSON value per line, as soon as it is there.
    Jsonl,
}

/// Something of which many are printed: one line each in a table, first column its id, last one its age.
pub(crate) trait Row: Serialize {
    /// The columns' names, in capitals.
    const HEADER: &'static [&'static str];

    /// The columns. Control characters in them are made visible.
    fn cells(&self) -> Vec<String>;
}

impl Output {
    /// Prints `value` as one JSON line, or `table` as it stands.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(crate) fn print(self, value: &impl Serialize, table: &str) -> anyhow::Result<()> {
        match self {
            Self::Json | Self::Jsonl => line(&serde_json::to_string(value)?),
            Self::Table => line(table.trim_end()),
        }
    }

    /// Prints many as a table, as one JSON array, or as one JSON value per line. None at all is an empty array, no line, or
    /// the header alone.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(crate) fn print_rows<R: Row>(self, rows: &[R]) -> anyhow::Result<()> {
        match self {
            Self::Json => line(&serde_json::to_string(rows)?),
            Self::Jsonl => rows.iter().try_for_each(|row| line(&serde_json::to_string(row)?)),
            Self::Table => line(&table(R::HEADER, rows.iter().map(R::cells))),
        }
    }
}

/// Aligned columns without borders, one line per row.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row.iter().map(|cell| visible(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn line(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

/// `text` with control characters made visible: what a server answers must not drive the terminal.
pub(crate) fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_has_one_line_per_row_whatever_is_in_its_cells() {
        let rows = [vec!["a".to_owned(), "two\nlines\u{1b}[2J".into()], vec!["longer".into(), "x".into()]];
        let text = table(&["ID", "WHAT"], rows);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines, ["ID      WHAT", "a       two\u{fffd}lines\u{fffd}[2J", "longer  x"]);
    }
}
