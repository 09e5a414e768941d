//! Settings: file (TOML) < environment (`ORDERFLEET_…`) < `--set`, one file for the whole fleet.
//!
//! Every binary reads its own sections and leaves the others alone, so all of them can be started with the same file
//! and the same environment. A section that no binary knows, and a key that its section does not know, are refused.

use std::{collections::HashMap, io::Write as _, path::PathBuf};

use anyhow::{Context as _, bail};
use config::{Config, Environment, File, FileFormat, Value, ValueKind};
use serde::{Serialize, de::DeserializeOwned};

use crate::probe::Probe;

/// Every section of the settings file.
const SECTIONS: [&str; 7] = ["broker", "database", "producer", "query", "steps", "telemetry", "worker"];
const PREFIX: &str = "ORDERFLEET_";
/// The two addresses everybody needs have short names in the environment.
const SHORT_NAMES: [(&str, &str); 2] = [("AMQP_URL", "broker.url"), ("MONGODB_URI", "database.uri")];

/// Command-line options that every service has.
#[derive(Debug, Default, clap::Args)]
#[group(skip)]
pub struct Options {
    /// Settings file (TOML); without one the defaults and the environment apply
    #[arg(long, value_name = "FILE", env = "ORDERFLEET_CONFIG")]
    pub config: Option<PathBuf>,
    /// Sets one setting, for example `--set worker.concurrency=64`; repeatable, wins over file and environment
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Prints the effective settings, secrets redacted, and exits
    #[arg(long)]
    pub print_config: bool,
    /// Asks the process that runs with these settings, on its admin port, whether it is alive or ready; exits 0 if so, else 1
    #[arg(long, value_enum, value_name = "WHAT")]
    pub probe: Option<Probe>,
}

/// Reads the settings of one binary: the sections that are fields of `T`.
///
/// # Errors
/// A file that is missing or no TOML, an unknown section or key, or a value that does not fit; the message names it.
pub fn load<T: DeserializeOwned>(options: &Options, sections: &[&str]) -> anyhow::Result<T> {
    load_from(options, sections, std::env::vars().collect())
}

fn load_from<T: DeserializeOwned>(
    options: &Options,
    sections: &[&str],
    environment: HashMap<String, String>,
) -> anyhow::Result<T> {
    let mut builder = Config::builder();
    let (mut from_environment, mut from_flags) = (Vec::new(), Vec::new());
    if let Some(path) = &options.config {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("settings file {}", path.display()))?;
        check_toml(&text).with_context(|| format!("settings file {}", path.display()))?;
        builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
    }
    for (variable, key) in SHORT_NAMES {
        if let Some(value) = environment.get(&format!("{PREFIX}{variable}")).filter(|value| !value.is_empty())
        {
            builder = builder.set_override(key, value.as_str())?;
            from_environment.push(key.to_owned());
        }
    }
    let environment = relevant(environment);
    from_environment.extend(environment.keys().map(|name| name.to_ascii_lowercase().replace("__", ".")));
    builder = builder.add_source(Environment::default().separator("__").source(Some(environment)));
    for assignment in &options.set {
        let (key, value) = assignment
            .split_once('=')
            .with_context(|| format!("--set {assignment}: write it as KEY=VALUE"))?;
        builder = builder.set_override(key, value).with_context(|| format!("--set {key}"))?;
        from_flags.push(key.to_owned());
    }
    let mut table = builder.build().context("settings")?.cache.into_table().context("settings")?;
    if let Some(unknown) = table.keys().find(|key| !SECTIONS.contains(&key.as_str())) {
        bail!("unknown settings section [{unknown}]; the sections are {}", SECTIONS.join(", "));
    }
    table.retain(|key, _| sections.contains(&key.as_str()));
    drop_files(&mut table, &from_environment);
    drop_files(&mut table, &from_flags);
    T::deserialize(Value::new(None, ValueKind::Table(table))).context("settings")
}

/// A secret that one level gives outright wins over a `…_file` of the levels below.
fn drop_files(table: &mut config::Map<String, Value>, level: &[String]) {
    for key in level {
        let file_key = format!("{key}_file");
        let Some((section, name)) = file_key.split_once('.') else { continue };
        if let Some(ValueKind::Table(section)) = table.get_mut(section).map(|value| &mut value.kind)
            && !level.contains(&file_key)
        {
            section.remove(name);
        }
    }
}

/// The parser's own message shows the line it stumbles over, which may hold a password.
fn check_toml(text: &str) -> anyhow::Result<()> {
    toml::from_str::<toml::Table>(text).map(drop).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        anyhow::anyhow!("line {}: {}", before.lines().count().max(1), error.message())
    })
}

/// `ORDERFLEET_WORKER__CONCURRENCY` is the setting `worker.concurrency`; variables without `__` are no settings, empty ones
/// are as good as absent.
fn relevant(environment: HashMap<String, String>) -> HashMap<String, String> {
    let setting =
        |name: &str| name.strip_prefix(PREFIX).filter(|rest| rest.contains("__")).map(str::to_owned);
    let environment = environment.into_iter().filter(|(_, value)| !value.is_empty());
    environment.filter_map(|(name, value)| Some((setting(&name)?, value))).collect()
}

/// Writes the effective settings to standard output as TOML, for `--print-config`. Sections redact their secrets when
/// serialised.
///
/// # Errors
/// Standard output is closed.
pub fn print<T: Serialize>(settings: &T) -> anyhow::Result<()> {
    let text = toml::to_string_pretty(settings).context("cannot show the settings as TOML")?;
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Settings {
        worker: Worker,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Worker {
        concurrency: u32,
        name: String,
        name_file: Option<String>,
    }

    fn read(file: &str, environment: &[(&str, &str)], set: &[&str]) -> anyhow::Result<Settings> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orderfleet.toml");
        std::fs::write(&path, file).unwrap();
        let options = Options {
            config: Some(path),
            set: set.iter().map(|text| (*text).to_owned()).collect(),
            ..Options::default()
        };
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        load_from(&options, &["worker"], environment)
    }

    #[test]
    fn flags_win_over_environment_and_environment_over_file() {
        let file = "[worker]\nconcurrency = 1\nname = 'file'\nname_file = 'x'\n[producer]\nlisten = 'x'";
        let environment = [("ORDERFLEET_WORKER__CONCURRENCY", "2"), ("ORDERFLEET_WORKER__NAME", "007")];
        let settings = read(file, &environment, &["worker.concurrency=3"]).unwrap();
        assert_eq!(
            settings,
            Settings { worker: Worker { concurrency: 3, name: "007".into(), name_file: None } }
        );
    }

    #[test]
    fn a_secret_given_outright_wins_over_a_file_from_below() {
        let environment = [("ORDERFLEET_WORKER__NAME_FILE", "f"), ("ORDERFLEET_WORKER__CONCURRENCY", "")];
        let settings = read("[worker]\nconcurrency = 1", &environment, &["worker.name=flag"]).unwrap();
        assert_eq!(settings.worker, Worker { concurrency: 1, name: "flag".into(), name_file: None });
        let settings = read("", &[("ORDERFLEET_WORKER__NAME", "e"), environment[0]], &[]).unwrap();
        assert_eq!(settings.worker.name_file.as_deref(), Some("f"));
    }

    #[test]
    fn a_broken_file_is_named_by_line_and_not_shown() {
        let error = format!("{:#}", read("[worker]\nname = \"amqp://u:s3cret@h\n", &[], &[]).unwrap_err());
        assert!(error.contains("line 2") && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn unknown_sections_and_keys_are_refused_by_name() {
        for (file, environment, word) in [
            ("[wroker]\nconcurrency = 1", None, "wroker"),
            ("[worker]\nconcurency = 1", None, "concurency"),
            ("[worker]\nconcurrency = 'many'", None, "worker.concurrency"),
            ("", Some(("ORDERFLEET_WORKER__PREFETSCH", "1")), "prefetsch"),
            ("", Some(("ORDERFLEET_WROKER__NAME", "1")), "wroker"),
        ] {
            let error = format!("{:#}", read(file, environment.as_slice(), &[]).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
    }
}
