//! The help of every command, word for word: what a user reads changes only on purpose.
//!
//! After a change: `UPDATE_HELP=1 cargo test -p orderfleet --test help`, and read the difference.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

const UPDATE: &str = "UPDATE_HELP";
/// Topics are no commands of the list.
const TOPICS: [&str; 2] = ["exit-codes", "environment"];

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orderfleet"));
    command.args(arguments).env_clear().env("COLUMNS", "100").output().unwrap()
}

fn stdout(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The help texts of a command and all below it, by name.
fn collect(path: &[&str], helps: &mut BTreeMap<String, String>) {
    let help = stdout(&[path, &["--help"]].concat());
    for name in subcommands(&help) {
        collect(&[path, &[name]].concat(), helps);
    }
    helps.insert([&["orderfleet"][..], path].concat().join("-"), help);
}

/// What stands below `Commands:` up to the next blank line.
fn subcommands(help: &str) -> impl Iterator<Item = &str> {
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Of a description that goes on in a second line only the blanks are at the beginning.
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help")
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "help"].iter().collect()
}

fn stored() -> BTreeMap<String, String> {
    let Ok(files) = fs::read_dir(folder()) else { return BTreeMap::new() };
    let paths = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "txt"));
    let read = |path: PathBuf| {
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap())
    };
    paths.map(read).collect()
}

fn store(helps: &BTreeMap<String, String>) {
    fs::create_dir_all(folder()).unwrap();
    for name in stored().keys().filter(|name| !helps.contains_key(*name)) {
        fs::remove_file(folder().join(format!("{name}.txt"))).unwrap();
    }
    for (name, help) in helps {
        fs::write(folder().join(format!("{name}.txt")), help).unwrap();
    }
}

/// The first line in which two texts differ.
fn difference<'a>(before: &'a str, now: &'a str) -> Option<(Option<&'a str>, Option<&'a str>)> {
    let (mut before, mut now) = (before.lines(), now.lines());
    loop {
        let (before, now) = (before.next(), now.next());
        if before != now || before.is_none() {
            return (before != now).then_some((before, now));
        }
    }
}

#[test]
fn the_help_of_every_command_is_as_it_was() {
    let mut helps = BTreeMap::new();
    collect(&[], &mut helps);
    for topic in TOPICS {
        helps.insert(format!("help-{topic}"), stdout(&["help", topic]));
    }
    if std::env::var_os(UPDATE).is_some() {
        store(&helps);
    }
    let stored = stored();
    let names: Vec<_> = helps.keys().collect();
    let again = format!("on purpose? {UPDATE}=1 cargo test -p orderfleet --test help");
    assert_eq!(stored.keys().collect::<Vec<_>>(), names, "other commands than before; {again}");
    for (name, help) in &helps {
        let difference = difference(&stored[name], help);
        assert_eq!(difference, None, "first difference in the help of {name}, before and now; {again}");
    }
}

#[test]
fn a_topic_is_shown_by_help_and_by_its_own_name() {
    for topic in TOPICS {
        let text = stdout(&[topic]);
        assert!(stdout(&["help", topic]).contains(text.trim()), "{topic}");
    }
}

#[test]
fn every_shell_gets_a_script_that_names_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&["completions", shell]);
        for word in ["audit", "load", "--strict"] {
            assert!(script.contains(word.trim_start_matches('-')), "{shell}: {word}");
        }
    }
    assert_eq!(run(&["completions", "tcsh"]).status.code(), Some(2));
}

#[test]
fn there_is_a_man_page_for_every_command_that_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    stdout(&["man", pages.to_str().unwrap()]);
    let mut helps = BTreeMap::new();
    collect(&[], &mut helps);
    for name in helps.keys() {
        let page = fs::read_to_string(pages.join(format!("{name}.1")))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(page.contains(".TH"), "{name}");
    }
    assert!(stdout(&["man"]).contains("orderfleet"));
}

#[test]
fn a_word_that_is_no_command_is_answered_with_the_nearest_one() {
    let output = run(&["audti"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("audit"));
}
