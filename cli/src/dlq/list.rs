//! `orderfleet dlq list`: dead letters, one per line.

use std::io::Write as _;
use std::process::ExitCode;

use jiff::Timestamp;
use orderfleet_operations::dead_letters::DeadLetters;
use orderfleet_storage::{LETTERS_MAX, Letter, LetterFilter};

use super::selection::{Selection, place};
use super::stats::shortened;
use super::{dead_letters, failed, listed};
use crate::fleet::FleetArgs;
use crate::orders::time::age;
use crate::output::{Output, Row};

const EXAMPLES: &str = "\
Examples:
  orderfleet dlq list
  orderfleet dlq list --where 'queue in (held, poison)' --newest
  orderfleet dlq list --where 'fingerprint=abcd' --output jsonl --limit 10000
  orderfleet dlq list --where 'account=shop-1' --ids-only --limit 10000 > ids

Listing takes nothing out of a queue and changes no order of anything.

Exit codes:
  0  listed
  3  listed, but for dead letters that this build cannot read; stderr names them
  4  nothing matches
  5  the database refuses the user
  6  the database does not answer";

/// List dead letters, oldest first
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Those that were parked last, in place of the oldest; at most 1,000
    #[arg(long)]
    newest: bool,
    /// Print ids alone, one per line, for `--ids`
    #[arg(long)]
    ids_only: bool,
    #[command(flatten)]
    fleet: FleetArgs,
}

impl Row for Letter {
    const HEADER: &'static [&'static str] = &["ID", "QUEUE", "CLASS", "STATE", "ANSWER", "AGE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            place(&self.queue, self.step.as_ref()),
            self.class.clone(),
            state(self),
            shortened(&self.answer),
            age(self.first_seen, Timestamp::now()),
        ]
    }
}

/// Prints them, page by page where the form of the output allows.
///
/// # Errors
/// The database does not answer.
pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let chosen = args.selection.resolve()?;
    let letters = dead_letters(&args.fleet.resolve()?).await?;
    let mut printer = Printer { output, ids_only: args.ids_only, printed: 0 };
    let unreadable = if args.newest {
        let newest = letters.newest(&chosen.filter, args.limit).await.map_err(failed)?;
        printer.print(&newest.letters)?;
        newest.unreadable
    } else {
        oldest(&letters, &chosen.filter, args.limit as usize, &mut printer).await?
    };
    printer.end()?;
    let shown = printer.printed;
    if shown >= args.limit.min(LETTERS_MAX) as usize {
        let all = letters.count(&chosen.filter).await.map_err(failed)?;
        if all > shown as u64 {
            let is_most = args.newest && shown >= LETTERS_MAX as usize;
            let hint = if is_most { "--newest shows no more" } else { "more with --limit" };
            eprintln!("{shown} of {all} are shown; {hint}");
        }
    }
    Ok(listed(shown, &unreadable))
}

/// Prints the oldest, and returns the ids of those that cannot be read.
async fn oldest(
    letters: &DeadLetters,
    filter: &LetterFilter,
    limit: usize,
    printer: &mut Printer,
) -> anyhow::Result<Vec<String>> {
    let (mut after, mut left, mut kept, mut unreadable) = (None, limit, Vec::new(), Vec::new());
    while left > 0 {
        let room = u32::try_from(left).unwrap_or(LETTERS_MAX).min(LETTERS_MAX);
        let page = letters.page(filter, after.as_ref(), room).await.map_err(failed)?;
        left -= page.letters.len() + page.unreadable.len();
        unreadable.extend(page.unreadable);
        if printer.is_streaming() {
            printer.print(&page.letters)?;
        } else {
            // Most of a letter, and not in the table.
            kept.extend(page.letters.into_iter().map(|letter| Letter { attempts: Vec::new(), ..letter }));
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if !printer.is_streaming() {
        printer.print(&kept)?;
    }
    Ok(unreadable)
}

struct Printer {
    output: Output,
    ids_only: bool,
    printed: usize,
}

impl Printer {
    /// Whether a page can be printed without the others. Rows of a table are aligned.
    fn is_streaming(&self) -> bool {
        self.ids_only || self.output != Output::Table
    }

    fn print(&mut self, letters: &[Letter]) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        match self.output {
            _ if self.ids_only => {
                for letter in letters {
                    writeln!(out, "{}", crate::output::visible(&letter.id))?;
                }
            }
            Output::Json => {
                for (place, letter) in (self.printed..).zip(letters) {
                    out.write_all(if place == 0 { b"[" } else { b"," })?;
                    serde_json::to_writer(&mut out, letter)?;
                }
            }
            Output::Table | Output::Jsonl => self.output.print_rows(letters)?,
        }
        self.printed += letters.len();
        Ok(())
    }

    /// Behind the last one.
    fn end(&self) -> anyhow::Result<()> {
        if self.ids_only || self.output != Output::Json {
            return Ok(());
        }
        let end = if self.printed == 0 { "[]" } else { "]" };
        Ok(writeln!(std::io::stdout().lock(), "{end}")?)
    }
}

/// Whether something has been done about it, in one word.
pub(super) fn state(letter: &Letter) -> String {
    match (&letter.ended, &letter.lease) {
        (Some(ended), _) => ended.how.as_str().to_owned(),
        (None, Some(lease)) if lease.until > Timestamp::now() => "in-hand".into(),
        _ => "open".into(),
    }
}
