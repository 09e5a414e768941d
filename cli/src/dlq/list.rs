//! `orderfleet dlq list`: dead letters, one per line.

use std::io::Write as _;
use std::process::ExitCode;

use orderfleet_operations::dead_letters::DeadLetters;
use orderfleet_storage::{LETTERS_MAX, Letter, LetterFilter};

use super::age::age;
use super::selection::{Selection, place};
use super::stats::shortened;
use super::{dead_letters, failed, nothing};
use crate::fleet::FleetArgs;
use crate::output::{Output, Row};

const EXAMPLES: &str = "\
Examples:
  orderfleet dlq list
  orderfleet dlq list --where 'queue in (held, poison)' --newest
  orderfleet dlq list --where 'fingerprint=abcd' --output jsonl --limit 10000
  orderfleet dlq list --where 'account=shop-1' --ids-only --limit 10000 > ids

Listing takes nothing out of a queue and changes no order of anything.

Exit codes: 0, or 4 where nothing matches";

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
            age(self.first_seen),
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
    let printer = Printer { output, ids_only: args.ids_only };
    let shown = if args.newest {
        let newest = letters.newest(&chosen.filter, args.limit).await.map_err(failed)?;
        printer.print(&newest)?;
        newest.len()
    } else {
        oldest(&letters, &chosen.filter, args.limit as usize, &printer).await?
    };
    if shown >= args.limit.min(LETTERS_MAX) as usize {
        let all = letters.count(&chosen.filter).await.map_err(failed)?;
        if all > shown as u64 {
            eprintln!("{shown} of {all} are shown; more with --limit");
        }
    }
    Ok(if shown == 0 { nothing("no dead letter matches") } else { ExitCode::SUCCESS })
}

async fn oldest(
    letters: &DeadLetters,
    filter: &LetterFilter,
    limit: usize,
    printer: &Printer,
) -> anyhow::Result<usize> {
    let (mut after, mut shown, mut kept) = (None, 0, Vec::new());
    while shown < limit {
        let room = u32::try_from(limit - shown).unwrap_or(LETTERS_MAX).min(LETTERS_MAX);
        let page = letters.page(filter, after.as_ref(), room).await.map_err(failed)?;
        let Some(last) = page.last() else { break };
        after = Some(last.cursor());
        shown += page.len();
        if printer.is_streaming() { printer.print(&page)? } else { kept.extend(page) }
    }
    if !printer.is_streaming() {
        printer.print(&kept)?;
    }
    Ok(shown)
}

struct Printer {
    output: Output,
    ids_only: bool,
}

impl Printer {
    /// Whether a page can be printed without the others. Rows of a table are aligned, and an array is one.
    fn is_streaming(&self) -> bool {
        self.ids_only || self.output == Output::Jsonl
    }

    fn print(&self, letters: &[Letter]) -> anyhow::Result<()> {
        if !self.ids_only {
            return self.output.print_rows(letters);
        }
        let mut out = std::io::stdout().lock();
        letters.iter().try_for_each(|letter| Ok(writeln!(out, "{}", crate::output::visible(&letter.id))?))
    }
}

/// Whether something has been done about it, in one word.
pub(super) fn state(letter: &Letter) -> String {
    match (&letter.ended, &letter.lease) {
        (Some(ended), _) => ended.how.as_str().to_owned(),
        (None, Some(lease)) if lease.until > jiff::Timestamp::now() => "in-hand".into(),
        _ => "open".into(),
    }
}
