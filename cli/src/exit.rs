//! The exit codes of `orderfleet`, one per cause.

use std::process::ExitCode;

/// Everything asked for was done. Refused orders are data, not an error.
pub(crate) const OK: u8 = 0;
/// The command failed; stderr says why.
pub(crate) const FAILED: u8 = 1;
// 2, a mistake in the command line, is clap's own.
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
/// Ctrl-C; the same command again continues.
pub(crate) const INTERRUPTED: u8 = 130;

/// The table above, for `orderfleet --help`.
pub(crate) const HELP: &str = "\
Example:
  orderfleet up                       # in one terminal
  orderfleet load --generate 100 --wait

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
  130  interrupted; the same command again continues";

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
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

/// Prints the whole chain of causes and the next step to stderr.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    let Some(failure) = error.downcast_ref::<Failure>() else {
        return FAILED.into();
    };
    eprintln!("next:  {}", failure.next);
    failure.code.into()
}
