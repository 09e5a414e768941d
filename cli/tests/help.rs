//! The help of every command, word for word: what a user reads changes only on purpose.
//!
//! After a change: `UPDATE_HELP=1 cargo test -p orderfleet --test help`, and read the difference.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod kept;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output};

use kept::Kept;

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

#[test]
fn the_help_of_every_command_is_as_it_was() {
    let mut helps = BTreeMap::new();
    collect(&[], &mut helps);
    for topic in TOPICS {
        helps.insert(format!("help-{topic}"), stdout(&["help", topic]));
    }
    Kept::new("help").compare(&helps);
}

#[test]
fn every_command_takes_the_form_of_its_output() {
    // A script and pages that other programs read have one form.
    const EXCEPTIONS: [&str; 2] = ["orderfleet-completions", "orderfleet-man"];
    let mut helps = BTreeMap::new();
    collect(&[], &mut helps);
    helps.retain(|name, _| !EXCEPTIONS.contains(&name.as_str()));
    assert!(helps.len() > 30, "{:?}", helps.keys());
    for (name, help) in &helps {
        assert!(help.contains("--output <OUTPUT>"), "{name} has no --output");
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
