//! The exit codes of `orderfleet`, one per cause.

use std::io;
use std::process::ExitCode;

use orderfleet_storage::StoreError;

/// Everything asked for was done. Refused orders are data, not an error.
pub(crate) const OK: u8 = 0;
/// The command failed; stderr says why.
pub(crate) const FAILED: u8 = 1;
/// A mistake in the command line, as clap has it.
pub(crate) const USAGE: u8 = 2;
/// A part was done: some orders had no answer, or are still open.
pub(crate) const PARTLY: u8 = 3;
/// Nothing is there that the command could be about: no order, no dead letter.
pub(crate) const NOTHING_MATCHED: u8 = 4;
/// The key or the credentials were not accepted.
pub(crate) const NOT_AUTHORISED: u8 = 5;
/// A service this command needs never answered.
pub(crate) const DEPENDENCY_DOWN: u8 = 6;
/// Stopped by itself at a limit that was given, such as a share of failures.
pub(crate) const BUDGET_SPENT: u8 = 7;
/// What was confirmed is not what is there now; nothing was done.
pub(crate) const PLAN_CHANGED: u8 = 8;
/// The time that was given is up, and what was waited for has not come.
pub(crate) const TIMED_OUT: u8 = 9;
/// What is there does not fit this build, or not its settings.
pub(crate) const DOES_NOT_FIT: u8 = 10;
/// Ctrl-C; the same command again continues.
pub(crate) const INTERRUPTED: u8 = 130;

/// The table above, for `orderfleet --help`.
pub(crate) const HELP: &str = "\
Examples:
  orderfleet up                       # in one terminal
  orderfleet load --generate 100 --wait
  orderfleet doctor                   # is something wrong, and what mends it?
  orderfleet dlq stats                # what fails, how often, since when?

Exit codes:
    0  done (refused orders are data, not an error)
    1  failed; stderr says why
    2  mistake in the command line
    3  partly done: orders without an answer, or still open
    4  nothing matched: no such order or dead letter
    5  not authorised: the key or the credentials were not accepted
    6  a service this command needs never answered
    7  stopped by itself at a limit that was given
    8  what is there is not what was confirmed; nothing was done
    9  the time that was given is up, and what was waited for has not come
   10  what is there does not fit this build, or not its settings
  130  interrupted; the same command again continues";

const DATABASE_RIGHTS: &str = "see that user and password are right, and let that user do it: docs/OPERATIONS.md says which \
                               rights each command needs";

/// An error that knows the next step and its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What failed, on what, and why.
    pub(crate) what: String,
    /// What to do now, best as a command to paste.
    pub(crate) next: String,
    /// One of the codes above.
    pub(crate) code: u8,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), next: next.into(), code: FAILED }
    }

    /// A mistake in the command line that clap cannot see.
    pub(crate) fn usage(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { code: USAGE, ..Self::new(what, next) }
    }

    /// The failure of a call of the database, where one is among the causes of an error: refused to this user, or, with
    /// `if_down` as its next step, not answered.
    pub(crate) fn of_database(error: &anyhow::Error, if_down: &str) -> Option<Self> {
        let cause = error.chain().find_map(|cause| cause.downcast_ref::<StoreError>())?;
        let (next, code) = match cause {
            cause if cause.is_refusal() => (DATABASE_RIGHTS, NOT_AUTHORISED),
            cause if cause.is_outage() => (if_down, DEPENDENCY_DOWN),
            _ => return None,
        };
        Some(Self { what: format!("{error:#}"), next: next.to_owned(), code })
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

/// Prints the whole chain of causes and the next step to stderr. A reader of stdout who has seen enough is no error.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if error.chain().any(is_broken_pipe) {
        return OK.into();
    }
    eprintln!("error: {}", said_once(&format!("{error:#}")));
    let of_database = || Failure::of_database(error, "bring the database back, then the same command again");
    let told = error.downcast_ref::<Failure>().map(|told| (told.next.clone(), told.code));
    let Some((next, code)) = told.or_else(|| of_database().map(|told| (told.next, told.code))) else {
        return FAILED.into();
    };
    eprintln!("next:  {next}");
    code.into()
}

fn is_broken_pipe(cause: &(dyn std::error::Error + 'static)) -> bool {
    let writing = cause.downcast_ref::<io::Error>().map(io::Error::kind);
    let kind = writing.or_else(|| cause.downcast_ref::<serde_json::Error>()?.io_error_kind());
    kind == Some(io::ErrorKind::BrokenPipe)
}

/// A text without an end that only says again what stands before it: some errors tell their cause, and have it as well.
fn said_once(text: &str) -> &str {
    let mut ends = text.match_indices(": ").map(|(at, colon)| (&text[..at], &text[at + colon.len()..]));
    ends.find(|(told, end)| told.ends_with(end)).map_or(text, |(told, _)| told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cause_says_again_is_said_once() {
        let refused = "protocol error: ACCESS_REFUSED - no: ACCESS_REFUSED - no";
        assert_eq!(said_once(refused), "protocol error: ACCESS_REFUSED - no");
        assert_eq!(said_once("a: b: c"), "a: b: c");
        assert_eq!(said_once(""), "");
    }

    #[test]
    fn a_reader_who_has_seen_enough_is_no_error() {
        let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
        let wrapped = anyhow::Error::from(closed()).context("writing");
        for error in [anyhow::Error::from(closed()), wrapped, serde_json::Error::io(closed()).into()] {
            assert!(error.chain().any(is_broken_pipe), "{error:#}");
        }
        assert!(!anyhow::Error::from(io::Error::other("full")).chain().any(is_broken_pipe));
    }
}
