//! How many workers a fleet on this machine has: what operators want is written into its folder, and what there is stands beside
//! it.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::Path;
use std::str::FromStr;
use std::time::SystemTime;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::folder::{Folder, LOCK};
use super::usage::Usage;
use crate::exit::Failure;

/// Most workers of a fleet on one machine.
pub(crate) const WORKERS_MAX: u16 = 64;
/// [`Asked`], written by whoever wants it.
const WANTED: &str = "workers.wanted";
/// [`Scaling`], written by the fleet once it is ready.
const WORKERS: &str = "workers.json";
/// The word for [`Asked::Auto`].
const AUTO: &str = "auto";

/// What an operator has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// So many, whatever the backlog.
    Fixed(u16),
    /// As many as the fleet was started with: a number, or a range within which the signal decides.
    Auto,
}

/// The workers of a fleet on this machine, and why there are so many.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scaling {
    #[serde(flatten)]
    pub(crate) workers: Workers,
    /// Why so many are wanted.
    pub(crate) reason: String,
    /// What the fleet was started with: `4` or `0..8`.
    pub(crate) range: String,
    /// Whether an operator's number is in force instead.
    pub(crate) fixed_by_operator: bool,
    #[serde(flatten)]
    pub(crate) usage: Usage,
}

/// The workers of a fleet on this machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Workers {
    /// How many are wanted.
    pub(crate) wanted: u16,
    /// Ready, and not stopping.
    pub(crate) ready: u16,
    /// Starting, for the first time or again after an unexpected end, and not ready yet.
    pub(crate) starting: u16,
    /// Finishing what they have in hand.
    pub(crate) stopping: u16,
    /// Ended at their start again and again, and not tried any more for now.
    #[serde(default)]
    pub(crate) given_up: u16,
}

impl Workers {
    /// Whether there are as many as are wanted, and no others.
    pub(crate) fn are(&self, wanted: u16) -> bool {
        *self == Self { wanted, ready: wanted, ..Self::default() }
    }
}

/// Refuses unless a fleet runs in a folder, and is ready.
///
/// # Errors
/// None does, or the folder cannot be read.
pub(crate) fn require_fleet(dir: &Path) -> anyhow::Result<()> {
    let refuse = || {
        let what = format!("no fleet runs in {}, or it is still starting", dir.display());
        let next = "start one with `orderfleet up`, or name its folder: --dir DIR; workers elsewhere are scaled by \
                    whatever runs them";
        Err(Failure::new(what, next).into())
    };
    if !dir.join(WORKERS).exists() {
        return refuse();
    }
    let lock = dir.join(LOCK);
    let context = || format!("cannot read {}", lock.display());
    // Held by the fleet for as long as it runs; what a crash leaves behind is free.
    match File::open(&lock).with_context(context)?.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(error)) => Err(error).with_context(context),
        Ok(()) => refuse(),
    }
}

/// Asks the fleet in a folder for so many workers: it begins within a second. The last who asks is obeyed.
///
/// # Errors
/// The folder cannot be written.
pub(crate) fn ask(dir: &Path, wanted: Asked) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", dir.join(WANTED).display());
    let mut draft = tempfile::NamedTempFile::new_in(dir).with_context(context)?;
    write!(draft, "{wanted}").with_context(context)?;
    draft.persist(dir.join(WANTED)).map(drop).with_context(context)
}

/// The workers of the fleet in a folder, as it says.
///
/// # Errors
/// It says nothing.
pub(crate) fn told(dir: &Path) -> anyhow::Result<Scaling> {
    let path = dir.join(WORKERS);
    let context = || format!("cannot read {}", path.display());
    let text = fs::read_to_string(&path).with_context(context)?;
    serde_json::from_str(&text).with_context(context)
}

/// What somebody has asked for since the start.
pub(super) fn asked(folder: &Folder) -> Option<Asked> {
    fs::read_to_string(folder.path(WANTED)).ok()?.trim().parse().ok()
}

/// When somebody has last asked since the start.
pub(super) fn asked_at(folder: &Folder) -> Option<SystemTime> {
    fs::metadata(folder.path(WANTED)).and_then(|file| file.modified()).ok()
}

/// Says what there is.
pub(super) fn tell(folder: &Folder, scaling: &Scaling) -> anyhow::Result<()> {
    folder.write_private(WORKERS, &serde_json::to_string(scaling).context("workers as JSON")?)
}

/// At a start and after the end, nobody shall be obeyed who asked another run.
pub(super) fn forget(folder: &Folder) {
    for name in [WANTED, WORKERS] {
        // Missing where nobody asked, or the fleet never got ready.
        let _ = fs::remove_file(folder.path(name));
    }
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = || text.parse().ok().filter(|wanted| *wanted <= WORKERS_MAX).map(Self::Fixed);
        let asked = if text == AUTO { Some(Self::Auto) } else { number() };
        asked.ok_or_else(|| format!("a number up to {WORKERS_MAX}, or {AUTO}"))
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(number) => number.fmt(out),
            Self::Auto => out.write_str(AUTO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaling(wanted: u16) -> Scaling {
        Scaling {
            workers: Workers { wanted, ready: wanted, ..Workers::default() },
            reason: "r".into(),
            range: "0..8".into(),
            fixed_by_operator: false,
            usage: Usage::default(),
        }
    }

    #[test]
    fn the_last_who_asks_is_obeyed_until_it_is_forgotten_and_nonsense_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(asked(&folder), None);
        for wanted in [Asked::Fixed(3), Asked::Auto, Asked::Fixed(0)] {
            ask(dir.path(), wanted).unwrap();
            assert_eq!(asked(&folder), Some(wanted));
        }
        for nonsense in ["", "-1", "65", "many"] {
            fs::write(dir.path().join(WANTED), nonsense).unwrap();
            assert_eq!(asked(&folder), None, "{nonsense}");
        }
        let two = scaling(2);
        tell(&folder, &two).unwrap();
        assert_eq!(told(dir.path()).unwrap(), two);
        assert!(two.workers.are(2) && !two.workers.are(3));
        assert!(!Workers { stopping: 1, ..two.workers }.are(2));
        forget(&folder);
        told(dir.path()).unwrap_err();
    }

    #[test]
    fn only_a_fleet_that_runs_can_be_asked() {
        let dir = tempfile::tempdir().unwrap();
        require_fleet(dir.path()).unwrap_err();
        let folder = Folder::open(dir.path()).unwrap();
        require_fleet(dir.path()).unwrap_err();
        tell(&folder, &scaling(0)).unwrap();
        require_fleet(dir.path()).unwrap();
        drop(folder);
        // A process that another test is just starting holds a copy of the lock until it runs.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while require_fleet(dir.path()).is_ok() {
            assert!(std::time::Instant::now() < deadline, "it is gone and what it said is still there");
            std::thread::yield_now();
        }
    }
}
