//! The orders that were asked for, printed as they are found: there may be more than fit into memory.

use std::io::{self, Write};
use std::mem;

use jiff::Timestamp;
use orderfleet_operations::audit::{Class, Finding};

use crate::orders::time::{age, shown};
use crate::output::{Output, table};

const HEADER: [&str; 6] = ["ORDER", "ACCOUNT", "STANDING", "DETAIL", "ACCEPTED", "AGE"];
/// Rows aligned together.
const ROWS: usize = 1_000;

pub(super) struct List {
    class: Class,
    output: Output,
    rows: Vec<Vec<String>>,
    printed: u64,
}

impl List {
    pub(super) fn new(class: Class, output: Output) -> Self {
        Self { class, output, rows: Vec::new(), printed: 0 }
    }

    /// Prints it, now or with others, if it is one of those asked for.
    pub(super) fn add(&mut self, finding: &Finding) -> io::Result<()> {
        if finding.class != self.class {
            return Ok(());
        }
        match self.output {
            Output::Table => {
                self.rows.push(cells(finding));
                return if self.rows.len() >= ROWS { self.print_rows() } else { Ok(()) };
            }
            Output::Json if self.printed == 0 => write!(out(), "[{}", json(finding)?)?,
            Output::Json => write!(out(), ",{}", json(finding)?)?,
            Output::Jsonl => writeln!(out(), "{}", json(finding)?)?,
        }
        self.printed += 1;
        Ok(())
    }

    /// Prints what is left.
    pub(super) fn end(mut self) -> io::Result<()> {
        match self.output {
            Output::Table if self.printed == 0 || !self.rows.is_empty() => self.print_rows(),
            Output::Table | Output::Jsonl => Ok(()),
            Output::Json if self.printed == 0 => writeln!(out(), "[]"),
            Output::Json => writeln!(out(), "]"),
        }
    }

    /// The header stands above the first of them alone.
    fn print_rows(&mut self) -> io::Result<()> {
        let rows = mem::take(&mut self.rows);
        let above = usize::from(self.printed > 0);
        self.printed += rows.len() as u64;
        table(&HEADER, rows).lines().skip(above).try_for_each(|line| writeln!(out(), "{line}"))
    }
}

fn out() -> impl Write {
    io::stdout().lock()
}

fn json(finding: &Finding) -> io::Result<String> {
    serde_json::to_string(finding).map_err(io::Error::from)
}

fn cells(finding: &Finding) -> Vec<String> {
    let Finding { order_id, account, accepted_at, class, detail, .. } = finding;
    let detail = if detail.is_empty() { "-" } else { detail };
    let (accepted, age) = (shown(*accepted_at), age(*accepted_at, Timestamp::now()));
    [order_id.as_str(), account.as_str(), class.as_str(), detail, &accepted, &age].map(str::to_owned).into()
}
