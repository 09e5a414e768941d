//! How results are printed: data on stdout, talk on stderr.

use std::io::Write as _;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
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
            Self::Table => line(&for_terminal(table.trim_end())),
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
            Self::Table => line(&for_terminal(&table(R::HEADER, rows.iter().map(R::cells)))),
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

/// `text` with its statuses and verdicts coloured, if stdout is a terminal that wants it: `NO_COLOR` and `CLICOLOR_FORCE` are
/// obeyed.
pub(crate) fn for_terminal(text: &str) -> String {
    match AutoStream::choice(&std::io::stdout()) {
        ColorChoice::Never => text.to_owned(),
        _ => coloured(text),
    }
}

/// Only what fills a cell: the same word in a sentence, or in what somebody else has written, stays as it is.
fn coloured(text: &str) -> String {
    let cells = |line: &str| line.split("  ").map(coloured_cell).collect::<Vec<_>>().join("  ");
    text.split('\n').map(cells).collect::<Vec<_>>().join("\n")
}

fn coloured_cell(cell: &str) -> String {
    let word = cell.trim();
    let Some(style) = style(word) else { return cell.to_owned() };
    cell.replacen(word, &format!("{style}{word}{style:#}"), 1)
}

fn style(word: &str) -> Option<Style> {
    let colour = match word {
        "ok" | "DONE" | "done" | "passed" => AnsiColor::Green,
        "warning" | "UNDONE" | "refused" | "unknown" | "skipped" => AnsiColor::Yellow,
        "error" | "HELD" | "failed" | "missing" => AnsiColor::Red,
        _ => return None,
    };
    Some(colour.on_default())
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

    #[test]
    fn a_status_that_fills_its_cell_is_coloured_and_the_same_word_in_a_sentence_is_not() {
        let text = "broker   ok     it is ok\ndatabase error  done";
        let green = |word| format!("\u{1b}[32m{word}\u{1b}[0m");
        let expected = format!("broker   {}     it is ok\ndatabase error  {}", green("ok"), green("done"));
        assert_eq!(coloured(text), expected);
    }
}
