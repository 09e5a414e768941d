//! The folder a fleet lives in, for one `orderfleet up` at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::exit::Failure;

pub(super) const SETTINGS: &str = "orderfleet.toml";
pub(super) const ENDPOINTS: &str = "endpoints.json";
pub(super) const KEYS: &str = "keys.toml";
pub(super) const DEMO_KEY: &str = "demo.key";
const LOGS: &str = "logs";
pub(super) const LOCK: &str = "lock";

/// Whom the demo key speaks for.
pub(super) const DEMO_ACCOUNT: &str = "demo";
pub(super) const DEMO_REGION: &str = "eu1";

/// A locked folder. The lock is shared with the fleet's processes: it is free when the last of them has ended, also
/// after a crash of this one.
pub(super) struct Folder {
    shown: PathBuf,
    path: PathBuf,
    lock: File,
}

impl Folder {
    /// Makes the folder if need be, readable by its owner only, and locks it.
    pub(super) fn open(shown: &Path) -> anyhow::Result<Self> {
        let context = || format!("cannot use the folder {}", shown.display());
        let mut make = DirBuilder::new();
        make.recursive(true).mode(0o700);
        make.create(shown).with_context(context)?;
        let path = shown.canonicalize().with_context(context)?;
        make.create(path.join(LOGS)).with_context(context)?;
        let lock = lock(shown, &path.join(LOCK))?;
        Ok(Self { shown: shown.to_owned(), path, lock })
    }

    /// The folder as the user named it.
    pub(super) fn shown(&self) -> &Path {
        &self.shown
    }

    /// The absolute path of something in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.path.join(LOGS).join(name).with_extension("log")
    }

    /// A share in the lock, for a process of the fleet.
    pub(super) fn share_lock(&self) -> anyhow::Result<File> {
        self.lock.try_clone().context("cannot share the folder's lock")
    }

    /// Writes a file that only its owner may read, as a whole or not at all.
    pub(super) fn write_private(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let context = || format!("cannot write {}", self.shown.join(name).display());
        let draft = self.path(&format!("{name}.new"));
        // A draft left behind by a crash could have other permissions.
        let _ = fs::remove_file(&draft);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).with_context(context)?;
        file.write_all(text.as_bytes()).with_context(context)?;
        fs::rename(&draft, self.path(name)).with_context(context)
    }

    /// Makes the demo account's API key at the first start.
    pub(super) fn require_demo_key(&self) -> anyhow::Result<()> {
        if self.path(KEYS).exists() && self.path(DEMO_KEY).exists() {
            return Ok(());
        }
        let key = orderfleet_runtime::keys::create(&self.path(KEYS), DEMO_ACCOUNT, DEMO_REGION)?;
        self.write_private(DEMO_KEY, &key)
    }

    /// After the fleet has stopped, nobody shall look for it.
    pub(super) fn forget_endpoints(&self) {
        // It is missing when the fleet never got ready.
        let _ = fs::remove_file(self.path(ENDPOINTS));
    }
}

fn lock(shown: &Path, path: &Path) -> anyhow::Result<File> {
    let context = || format!("cannot lock {}", path.display());
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(path).with_context(context)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use(shown, file).into()),
        Err(TryLockError::Error(error)) => return Err(error).with_context(context),
    }
    file.set_len(0).with_context(context)?;
    write!(file, "{}", std::process::id()).with_context(context)?;
    Ok(file)
}

fn in_use(shown: &Path, mut lock: File) -> Failure {
    let mut owner = String::new();
    // Without the number the message is still true.
    let _ = lock.read_to_string(&mut owner);
    Failure::new(
        format!("a fleet runs in {} already (process {owner})", shown.display()),
        "stop it with Ctrl-C, or start another one: orderfleet up --dir OTHER_FOLDER \
         (after a crash its processes need up to 20 seconds to end)",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_second_fleet_in_one_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = Folder::open(dir.path()).unwrap();
        let refusal = Folder::open(dir.path()).err().expect("the folder is in use").to_string();
        assert!(refusal.contains(&format!("process {}", std::process::id())), "{refusal}");
        drop(first);
        // A process that another test is just starting holds a copy of the lock until it runs.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while Folder::open(dir.path()).is_err() {
            assert!(std::time::Instant::now() < deadline, "not free again");
            std::thread::yield_now();
        }
    }

    #[test]
    fn secrets_are_for_their_owner_only_even_over_an_open_file() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        fs::write(folder.path(SETTINGS), "open to all").unwrap();
        folder.write_private(SETTINGS, "secret").unwrap();
        let file = folder.path(SETTINGS);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(file).unwrap(), "secret");
    }

    #[test]
    fn the_demo_key_is_made_once_and_speaks_for_the_demo_account() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        folder.require_demo_key().unwrap();
        let key = fs::read_to_string(folder.path(DEMO_KEY)).unwrap();
        folder.require_demo_key().unwrap();
        assert_eq!(fs::read_to_string(folder.path(DEMO_KEY)).unwrap(), key);
        let keys = orderfleet_runtime::keys::Keys::load(&folder.path(KEYS)).unwrap();
        assert_eq!(keys.verify(&key).unwrap().account.as_str(), DEMO_ACCOUNT);
    }
}
