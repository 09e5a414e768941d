//! `orderfleet dlq watch`: new dead letters as they are parked.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use orderfleet_operations::dead_letters::{DeadLetterError, DeadLetters};
use orderfleet_storage::{LETTERS_MAX, Letter, LetterCursor, LetterFilter};
use tokio::time::{MissedTickBehavior, interval};

use super::selection::{Selection, place};
use super::{dead_letters, failed};
use crate::fleet::FleetArgs;
use crate::output::{Output, visible};

const EVERY: Duration = Duration::from_secs(1);
/// Clocks of workers may differ by so much without a letter being missed.
const OVERLAP: SignedDuration = SignedDuration::from_secs(10);
/// Ids remembered of letters that were shown: more are parked within the overlap only in a disaster, and are shown twice.
const REMEMBERED_MAX: usize = 100_000;

const EXAMPLES: &str = "\
Examples:
  orderfleet dlq watch
  orderfleet dlq watch --where 'account=shop-1' --output jsonl | jq -r .order_id

Looks every second, from now on, until Ctrl-C. While the database does not answer it waits.

Exit codes: 5 where the database refuses the user, 6 where it does not answer at the start";

/// Print new dead letters as they come
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    fleet: FleetArgs,
}

/// What has been shown.
struct Watch {
    letters: DeadLetters,
    filter: LetterFilter,
    output: Output,
    /// Letters that were parked earlier are no concern of it.
    from: Timestamp,
    /// Those that were shown and may be met again.
    shown: BTreeSet<(Timestamp, String)>,
    /// Those that cannot be read, and were named.
    unreadable: BTreeSet<String>,
}

/// Prints one line per letter, without end.
///
/// # Errors
/// The database does not answer at the beginning, or refuses the user, or stdout cannot be written.
pub(super) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let filter = args.selection.resolve()?.filter;
    let letters = dead_letters(&args.fleet.resolve()?).await?;
    let output = if output == Output::Json { Output::Jsonl } else { output };
    let (from, shown, unreadable) = (Timestamp::now(), BTreeSet::new(), BTreeSet::new());
    let mut watch = Watch { letters, filter, output, from, shown, unreadable };
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_away = false;
    loop {
        ticks.tick().await;
        match watch.look().await? {
            Ok(()) => is_away = false,
            Err(DeadLetterError::Store(error)) if error.is_refusal() => return Err(failed(error.into())),
            Err(error) if !is_away => {
                eprintln!("waiting for the database: {:#}", failed(error));
                is_away = true;
            }
            Err(_) => {}
        }
    }
}

impl Watch {
    /// Prints what is new since the last look.
    async fn look(&mut self) -> anyhow::Result<Result<(), DeadLetterError>> {
        let mut after = LetterCursor { first_seen: self.from, id: String::new() };
        loop {
            let page = match self.letters.page(&self.filter, Some(&after), LETTERS_MAX).await {
                Ok(page) => page,
                Err(error) => return Ok(Err(error)),
            };
            for id in page.unreadable {
                if self.unreadable.insert(id.clone()) {
                    eprintln!("{} cannot be read by this build", visible(&id));
                }
            }
            for letter in &page.letters {
                if self.shown.insert((letter.first_seen, letter.id.clone())) {
                    self.show(letter)?;
                }
            }
            let Some(next) = page.next else { break };
            after = next;
        }
        self.move_on();
        Ok(Ok(()))
    }

    /// The next look begins a little before the newest letter that was shown, unless a clock that is fast has written it.
    fn move_on(&mut self) {
        let now = Timestamp::now();
        let newest = self.shown.last().map_or(self.from, |(at, _)| (*at).min(now));
        self.from = self.from.max(newest.saturating_sub(OVERLAP).unwrap_or(newest));
        while self.shown.first().is_some_and(|(at, _)| *at < self.from) || self.shown.len() > REMEMBERED_MAX {
            self.shown.pop_first();
        }
        while self.unreadable.len() > REMEMBERED_MAX {
            self.unreadable.pop_first();
        }
    }

    fn show(&self, letter: &Letter) -> anyhow::Result<()> {
        match self.output {
            Output::Table => self.output.print(letter, &line(letter)),
            _ => self.output.print_rows(std::slice::from_ref(letter)),
        }
    }
}

/// One line, aligned as far as it can be without those to come.
fn line(letter: &Letter) -> String {
    let at = letter.first_seen.strftime("%FT%TZ");
    let (place, answer) = (place(&letter.queue, letter.step.as_ref()), visible(&letter.answer));
    format!("{}  {:<12}  {:<18}  {at}  {answer}", visible(&letter.id), place, letter.class)
}
