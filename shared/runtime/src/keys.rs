//! API keys: a file of hashed keys, each naming the account and home region it speaks for.
//!
//! A key is 256 random bits, so a plain SHA-256 is enough to store it: there is nothing to guess,
//! and a slow password hash on every request would be a denial of service against ourselves.

use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::{Context as _, bail};
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use orderfleet_domain::{AccountId, Region};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

const KEY_PREFIX: &str = "of";
const ID_BYTES: usize = 10;
const SECRET_BYTES: usize = 32;
/// A key that was added or taken away counts within about so long.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Who a verified key speaks for. The region is fixed when the account is created: it is part of every
/// order id, and another region would be another id for the same idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The account all of the caller's orders belong to.
    pub account: AccountId,
    /// The account's home region.
    pub region: Region,
}

/// One line of the key file: `[[key]]` with the key's public id, the SHA-256 of its secret and its owner.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    hash: String,
    account: AccountId,
    region: Region,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    #[serde(default)]
    key: Vec<Entry>,
}

/// A key file that may change while a service runs: keys are added and taken away without a restart.
#[derive(Debug)]
pub struct KeyRing {
    path: PathBuf,
    keys: RwLock<Arc<Keys>>,
}

impl KeyRing {
    /// Reads the file.
    ///
    /// # Errors
    /// As [`Keys::load`].
    pub fn load(path: &Path) -> anyhow::Result<Arc<Self>> {
        let keys = RwLock::new(Arc::new(Keys::load(path)?));
        Ok(Arc::new(Self { path: path.to_owned(), keys }))
    }

    /// The keys as they were last read.
    #[must_use]
    pub fn current(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the file every second and takes its keys over when it has changed. While it cannot be read or holds a mistake,
    /// the keys of before go on to count, and the log says so once. Never returns.
    pub async fn keep_fresh(self: Arc<Self>) {
        let mut seen = None;
        let mut every = tokio::time::interval(LOOK_EVERY);
        loop {
            every.tick().await;
            let ring = Arc::clone(&self);
            // A file may be on a disk that hangs.
            let looking = tokio::task::spawn_blocking(move || ring.refresh(seen));
            seen = looking.await.unwrap_or(seen);
        }
    }

    /// Reads the file if it is not the one that was seen, and returns which one it is.
    fn refresh(&self, seen: Option<Stamp>) -> Option<Stamp> {
        let stamp = Stamp::of(&self.path);
        if stamp == seen {
            return seen;
        }
        match Keys::load(&self.path) {
            Ok(keys) => {
                tracing::info!(keys = keys.len(), "API keys read");
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "the API keys of before go on to count");
            }
        }
        stamp
    }
}

/// What differs between two states of a file. A link, such as those of mounted secrets, is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// `None` while there is no such file.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Some(Self { inode: metadata.ino(), size: metadata.size(), changed })
    }
}

/// The loaded key file.
#[derive(Debug)]
pub struct Keys {
    by_id: HashMap<String, (Vec<u8>, Caller)>,
}

impl Keys {
    /// Reads a key file.
    ///
    /// # Errors
    /// The file cannot be read, is not valid TOML, holds an unknown field, a hash that is not 64 hex digits, or
    /// gives one account two regions (the same idempotency key would then make two orders).
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| {
            format!(
                "cannot read the API key file {}; make one with: orderfleet keys new --account NAME --region eu1 --file {}",
                path.display(),
                path.display()
            )
        })?;
        Self::parse(&text).with_context(|| format!("API key file {}", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let file: KeyFile = toml::from_str(text).context("not a valid key file")?;
        let mut by_id = HashMap::new();
        let mut regions: HashMap<AccountId, Region> = HashMap::new();
        for entry in file.key {
            let hash = HEXLOWER.decode(entry.hash.as_bytes()).ok().filter(|hash| hash.len() == 32);
            let Some(hash) = hash else { bail!("key {}: hash must be 64 lower-case hex digits", entry.id) };
            if let Some(other) = regions.insert(entry.account.clone(), entry.region.clone())
                && other != entry.region
            {
                bail!("account {} has keys for two regions, {other} and {}", entry.account, entry.region);
            }
            let caller = Caller { account: entry.account, region: entry.region };
            if by_id.insert(entry.id.clone(), (hash, caller)).is_some() {
                bail!("key {} is there twice", entry.id);
            }
        }
        Ok(Self { by_id })
    }

    /// The caller a presented key speaks for, or `None`. The id part only finds the entry; the secret part is compared
    /// in constant time, also against a dummy where the id is unknown.
    #[must_use]
    pub fn verify(&self, presented: &str) -> Option<&Caller> {
        let (id, secret) = split(presented)?;
        let digest = Sha256::digest(secret.as_bytes());
        match self.by_id.get(id) {
            Some((hash, caller)) if bool::from(digest.as_slice().ct_eq(hash)) => Some(caller),
            Some(_) => None,
            None => {
                let _ = digest.as_slice().ct_eq(&[0; 32]);
                None
            }
        }
    }

    /// Who the keys speak for, once for each key and in no order.
    pub fn callers(&self) -> impl Iterator<Item = &Caller> {
        self.by_id.values().map(|(_, caller)| caller)
    }

    /// How many keys the file holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether the file holds no key at all, so that every request would be refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

/// Makes a new key for an account, appends its hash to the key file (made with mode 0600 if it is not there)
/// and returns the key's text, which is stored nowhere. A second call makes a second key; a crash in between leaves
/// at most a hash whose key nobody knows.
///
/// # Errors
/// A malformed account or region, a key file that cannot be read or appended to, or one in which the account already
/// has another region.
pub fn create(path: &Path, account: &str, region: &str) -> anyhow::Result<String> {
    let account: AccountId = account.parse().context("--account")?;
    let region: Region = region.parse().context("--region")?;
    let id = random_text::<ID_BYTES>()?;
    let secret = random_text::<SECRET_BYTES>()?;
    let entry =
        Entry { id: id.clone(), hash: HEXLOWER.encode(&Sha256::digest(secret.as_bytes())), account, region };
    let addition = toml::to_string(&KeyFile { key: vec![entry] }).context("encode the key entry")?;

    let existing = if path.exists() { fs::read_to_string(path)? } else { String::new() };
    Keys::parse(&format!("{existing}\n{addition}"))
        .with_context(|| format!("API key file {}", path.display()))?;
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write the API key file {}", path.display()))?;
    let separator = if existing.is_empty() || existing.ends_with('\n') { "" } else { "\n" };
    file.write_all(format!("{separator}{addition}\n").as_bytes())?;
    file.sync_all()?;
    Ok(format!("{KEY_PREFIX}_{id}_{secret}"))
}

fn split(presented: &str) -> Option<(&str, &str)> {
    let (prefix, rest) = presented.split_once('_')?;
    (prefix == KEY_PREFIX).then(|| rest.split_once('_'))?
}

fn random_text<const N: usize>() -> anyhow::Result<String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("no randomness from the operating system")?;
    Ok(BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_created_key_is_recognised_and_a_changed_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let first = create(&path, "shop-1", "eu1").unwrap();
        let second = create(&path, "shop-2", "us1").unwrap();
        let keys = Keys::load(&path).unwrap();
        assert_eq!(keys.len(), 2);
        assert_eq!(keys.verify(&first).unwrap().account.as_str(), "shop-1");
        assert_eq!(keys.verify(&second).unwrap().region.as_str(), "us1");
        for wrong in [
            "",
            "of",
            "of_x_y",
            &first[..first.len() - 1],
            &first.replace("of_", "xx_"),
            &format!("{first}a"),
        ] {
            assert!(keys.verify(wrong).is_none(), "{wrong}");
        }
        assert!(!fs::read_to_string(&path).unwrap().contains(first.split('_').nth(2).unwrap()));
    }

    #[test]
    fn keys_are_added_and_taken_away_while_a_broken_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let first = create(&path, "shop-1", "eu1").unwrap();
        let ring = KeyRing::load(&path).unwrap();
        let seen = ring.refresh(None);
        let second = create(&path, "shop-1", "eu1").unwrap();
        assert!(ring.current().verify(&second).is_none());
        let seen = ring.refresh(seen);
        assert!(ring.current().verify(&first).is_some() && ring.current().verify(&second).is_some());

        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, "[[key]]\nid = 'half a").unwrap();
        let seen = ring.refresh(seen);
        assert!(ring.current().verify(&first).is_some());
        fs::remove_file(&path).unwrap();
        let seen = ring.refresh(seen);
        assert!(ring.current().verify(&first).is_some());

        fs::write(&path, text.split_once("\n\n").unwrap().1).unwrap();
        ring.refresh(seen);
        assert!(ring.current().verify(&first).is_none() && ring.current().verify(&second).is_some());
    }

    #[test]
    fn an_account_cannot_have_two_regions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        create(&path, "shop-1", "eu1").unwrap();
        let error = format!("{:#}", create(&path, "shop-1", "us1").unwrap_err());
        assert!(error.contains("two regions"), "{error}");
        assert_eq!(Keys::load(&path).unwrap().len(), 1);
    }

    #[test]
    fn a_key_is_appended_whether_or_not_the_file_ends_its_last_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        create(&path, "shop-1", "eu1").unwrap();
        fs::write(&path, fs::read_to_string(&path).unwrap().trim_end()).unwrap();
        create(&path, "shop-1", "eu1").unwrap();
        assert_eq!(Keys::load(&path).unwrap().len(), 2);
    }

    #[test]
    fn a_key_that_is_there_twice_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        create(&path, "shop-1", "eu1").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(format!("{:#}", Keys::parse(&format!("{text}\n{text}")).unwrap_err()).contains("twice"));
    }

    #[test]
    fn an_unknown_field_in_the_key_file_is_refused() {
        let error =
            format!("{:#}", Keys::parse("[[key]]\nid='a'\nhash='b'\nacount='c'\nregion='eu1'").unwrap_err());
        assert!(error.contains("acount"), "{error}");
    }
}
